// @ts-check
// Templates of messages, in both languages with the same placeholders.

import { html, nothing } from "lit";
import { organisationName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { formDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import "../parts/table.js";
import { may, who } from "../session.js";
import { addButton, editButton, field, head, organisationOptions, retiredBadge, retiredBox, retiredSwitch, saveRow, text } from "./forms.js";

const KINDS = ["meeting", "bulletin", "call_out", "alert"];

class Templates extends Part {
  static follows = ["template", "organisation"];
  static properties = { retired: { state: true } };
  constructor() {
    super();
    this.retired = false;
  }
  render() {
    /** @type {import("../parts/table.js").Column[]} */
    const columns = [
      { key: "name", title: () => t("label.name"), cell: (row) => html`<b>${row.name}</b> ${retiredBadge(row)}<div class="muted small">${organisationName(row.organisation)}</div>`, text: (row) => `${row.name} ${organisationName(row.organisation)}` },
      { key: "kind", title: () => t("notice.kind"), text: (row) => (KINDS.includes(row.kind) ? t(`notice.kind.${row.kind}`) : row.kind) },
      { key: "text_zh", title: () => t("notice.text_zh"), cell: (row) => html`<span class="prose">${row.text_zh}</span>` },
      { key: "text_en", title: () => t("notice.text_en"), cell: (row) => html`<span class="prose">${row.text_en}</span>` },
      { key: "actions", title: () => "", class: "actions", cell: (row) => (may("template.edit", { organisation: row.organisation }) ? editButton(() => this.edit(row)) : nothing), text: () => "" },
    ];
    return html`${head("templates", html`${retiredSwitch(/** @type {any} */ (this))}${may("template.edit") ? addButton(() => this.edit(null)) : nothing}`)}
      <fh-table .columns=${columns} .rows=${live.rows("template").filter((row) => this.retired || !row.retired)}></fh-table>`;
  }
  /** @param {any} row */
  edit(row) {
    void formDialog({
      title: () => row?.name ?? t("admin.add.templates"),
      name: "template",
      label: () => t("act.save"),
      fields: () => html`<div class="form">
        ${field(t("label.name"), html`<input name="name" required maxlength="100" .value=${row?.name ?? ""} autofocus />`, { required: true })}
        ${field(t("label.organisation"), html`<select name="organisation" required>${organisationOptions(row?.organisation ?? who()?.organisation?.id, "template.edit")}</select>`, { required: true })}
        ${field(t("notice.kind"), html`<select name="kind"><option value="">${t("word.all")}</option>${KINDS.map((kind) => html`<option value=${kind} ?selected=${kind === row?.kind}>${t(`notice.kind.${kind}`)}</option>`)}</select>`)}
        ${field(t("notice.urgency"), html`<select name="urgency">${["normal", "emergency"].map((urgency) => html`<option value=${urgency} ?selected=${urgency === row?.urgency}>${t(`urgency.${urgency}`)}</option>`)}</select>`)}
        ${field(t("notice.text_zh"), html`<textarea name="text_zh" rows="4" required maxlength="4000" .value=${row?.text_zh ?? ""}></textarea>`, { required: true, hint: t("template.hint") })}
        ${field(t("notice.text_en"), html`<textarea name="text_en" rows="4" required maxlength="4000" .value=${row?.text_en ?? ""}></textarea>`, { required: true })}${retiredBox(row)}</div>`,
      send: (data) => saveRow("/templates", row, { name: text(data, "name"), organisation: text(data, "organisation"), kind: text(data, "kind"), urgency: text(data, "urgency"), text_zh: text(data, "text_zh"), text_en: text(data, "text_en"), retired: data.has("retired") }),
    });
  }
}
customElements.define("fh-admin-templates", Templates);
