// @ts-check
// Units: who can be sent, with their members, home and state.

import { html, nothing } from "lit";
import { UNIT_KINDS } from "../domain.js";
import { organisationName, personName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { sendEdit } from "../parts/conflict.js";
import { formDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import { stateBadge } from "../parts/small.js";
import "../parts/table.js";
import { attempt } from "../parts/toast.js";
import { may, who } from "../session.js";
import "./choose.js";
import { people } from "./choose.js";
import { addButton, editButton, field, head, organisationOptions, placeFields, placeOf, retiredBadge, retiredBox, retiredSwitch, saveRow, text } from "./forms.js";

const BY_HAND = ["available", "off_duty", "out_of_service"]; // busy follows from accepted orders

class Units extends Part {
  static follows = ["unit", "organisation", "person"];
  static properties = { retired: { state: true } };
  constructor() {
    super();
    this.retired = false;
  }
  render() {
    /** @type {import("../parts/table.js").Column[]} */
    const columns = [
      { key: "name", title: () => t("label.name"), cell: (row) => html`<b>${row.name}</b> ${retiredBadge(row)}<div class="muted small">${row.capability}</div>`, text: (row) => `${row.name} ${row.capability}` },
      { key: "kind", title: () => t("admin.kind"), text: (row) => t(`unit.kind.${row.kind}`) },
      { key: "organisation", title: () => t("label.organisation"), text: (row) => organisationName(row.organisation) },
      { key: "members", title: () => t("label.members"), text: (row) => row.members.map((/** @type {string} */ id) => personName(id)).join(t("admin.comma")) },
      { key: "status", title: () => t("label.status"), cell: (row) => this.status(row), text: (row) => t(`unit.status.${row.status}`) },
      { key: "actions", title: () => "", class: "actions", cell: (row) => (may("unit.edit", { organisation: row.organisation }) ? editButton(() => this.edit(row)) : nothing), text: () => "" },
    ];
    return html`${head("units", html`${retiredSwitch(/** @type {any} */ (this))}${may("unit.edit") ? addButton(() => this.edit(null)) : nothing}`)}
      <fh-table .columns=${columns} .rows=${live.rows("unit").filter((row) => this.retired || !row.retired)}></fh-table>`;
  }
  /** @param {any} row */
  status(row) {
    if (row.status === "busy" || !may("unit.edit", { organisation: row.organisation })) return stateBadge("unit.status", row.status);
    const set = (/** @type {any} */ event) => void attempt(() => sendEdit("POST", `/units/${row.id}/status`, { id: row.id, version: row.version, status: event.target.value }), () => t("done.saved")).finally(() => this.requestUpdate());
    return html`<select class="narrow" aria-label=${t("label.status")} .value=${row.status} @change=${set}>${BY_HAND.map((status) => html`<option value=${status} ?selected=${status === row.status}>${t(`unit.status.${status}`)}</option>`)}</select>`;
  }
  /** @param {any} row */
  edit(row) {
    const draft = { members: row?.members ?? [] };
    void formDialog({
      title: () => row?.name ?? t("admin.add.units"),
      name: "unit",
      label: () => t("act.save"),
      fields: (dialog) => html`<div class="form">
        ${field(t("label.name"), html`<input name="name" required maxlength="100" .value=${row?.name ?? ""} autofocus />`, { required: true })}
        ${field(t("admin.kind"), html`<select name="kind">${UNIT_KINDS.map((kind) => html`<option value=${kind} ?selected=${kind === row?.kind}>${t(`unit.kind.${kind}`)}</option>`)}</select>`)}
        ${field(t("label.organisation"), html`<select name="organisation" required>${organisationOptions(row?.organisation ?? who()?.organisation?.id, "unit.edit")}</select>`, { required: true })}
        ${field(t("label.capability"), html`<input name="capability" maxlength="200" .value=${row?.capability ?? ""} />`)}
        <fieldset><legend>${t("label.members")}</legend><fh-choose label=${t("label.members")} .options=${people()} .value=${draft.members} @change=${(/** @type {CustomEvent} */ event) => { draft.members = event.detail; dialog.redraw(); }}></fh-choose></fieldset>
        <fieldset><legend>${t("admin.home")}</legend><div class="form">${placeFields(row?.home)}</div></fieldset>${retiredBox(row)}</div>`,
      send: (data) => saveRow("/units", row, { name: text(data, "name"), kind: text(data, "kind"), organisation: text(data, "organisation"), capability: text(data, "capability"), members: draft.members, home: placeOf(data), retired: data.has("retired") }),
    });
  }
}
customElements.define("fh-admin-units", Units);
