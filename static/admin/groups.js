// @ts-check
// Groups: lists of persons that are called together.

import { html, nothing } from "lit";
import { organisationName, personName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { formDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import "../parts/table.js";
import { may, who } from "../session.js";
import "./choose.js";
import { people } from "./choose.js";
import { addButton, editButton, field, head, organisationOptions, retiredBadge, retiredBox, retiredSwitch, saveRow, text } from "./forms.js";

class Groups extends Part {
  static follows = ["group", "organisation", "person"];
  static properties = { retired: { state: true } };
  constructor() {
    super();
    this.retired = false;
  }
  render() {
    /** @type {import("../parts/table.js").Column[]} */
    const columns = [
      { key: "name", title: () => t("label.name"), cell: (row) => html`<b>${row.name}</b> ${retiredBadge(row)}`, text: (row) => row.name },
      { key: "organisation", title: () => t("label.organisation"), text: (row) => organisationName(row.organisation) },
      { key: "count", title: () => t("admin.persons"), class: "num", text: (row) => row.persons.length },
      { key: "persons", title: () => t("label.members"), cell: (row) => html`<span class="small">${row.persons.slice(0, 12).map((/** @type {string} */ id) => personName(id)).join(t("admin.comma"))}${row.persons.length > 12 ? " …" : ""}</span>`, text: (row) => row.persons.map((/** @type {string} */ id) => personName(id)).join(" ") },
      { key: "actions", title: () => "", class: "actions", cell: (row) => (may("group.edit", { organisation: row.organisation }) ? editButton(() => this.edit(row)) : nothing), text: () => "" },
    ];
    return html`${head("groups", html`${retiredSwitch(/** @type {any} */ (this))}${may("group.edit") ? addButton(() => this.edit(null)) : nothing}`)}
      <fh-table .columns=${columns} .rows=${live.rows("group").filter((row) => this.retired || !row.retired)}></fh-table>`;
  }
  /** @param {any} row */
  edit(row) {
    const draft = { persons: row?.persons ?? [] };
    void formDialog({
      title: () => row?.name ?? t("admin.add.groups"),
      name: "group",
      label: () => t("act.save"),
      fields: (dialog) => html`<div class="form">
        ${field(t("label.name"), html`<input name="name" required maxlength="100" .value=${row?.name ?? ""} autofocus />`, { required: true })}
        ${field(t("label.organisation"), html`<select name="organisation" required>${organisationOptions(row?.organisation ?? who()?.organisation?.id, "group.edit")}</select>`, { required: true })}
        <fieldset><legend>${t("label.members")} · ${draft.persons.length}</legend><fh-choose label=${t("label.members")} .options=${people()} .value=${draft.persons} @change=${(/** @type {CustomEvent} */ event) => { draft.persons = event.detail; dialog.redraw(); }}></fh-choose></fieldset>${retiredBox(row)}</div>`,
      send: (data) => saveRow("/groups", row, { name: text(data, "name"), organisation: text(data, "organisation"), persons: draft.persons, retired: data.has("retired") }),
    });
  }
}
customElements.define("fh-admin-groups", Groups);
