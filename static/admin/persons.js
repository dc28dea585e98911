// @ts-check
// Persons: who can be called, with their numbers; off duty and back.

import { html, nothing } from "lit";
import { organisationName, personName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { sendEdit } from "../parts/conflict.js";
import { formDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import "../parts/table.js";
import { attempt } from "../parts/toast.js";
import { may, who } from "../session.js";
import { addButton, editButton, field, head, organisationOptions, retiredBadge, retiredBox, retiredSwitch, saveRow, text } from "./forms.js";

const PHONES_MAX = 5;

class Persons extends Part {
  static follows = ["person", "organisation"];
  static properties = { retired: { state: true }, organisation: { state: true } };
  constructor() {
    super();
    this.retired = false;
    this.organisation = "";
  }
  render() {
    /** @type {import("../parts/table.js").Column[]} */
    const columns = [
      { key: "name", title: () => t("import.column.name"), cell: (row) => html`<b>${personName(row.id)}</b> ${row.off_duty ? html`<span class="badge warn">${t("recipients.off_duty")}</span>` : nothing} ${retiredBadge(row)}`, text: (row) => personName(row.id) },
      { key: "title", title: () => t("admin.title") },
      { key: "organisation", title: () => t("label.organisation"), text: (row) => organisationName(row.organisation) },
      { key: "phones", title: () => t("label.phones"), class: "num", text: (row) => row.phones.join(" ") },
      { key: "language", title: () => t("account.language"), text: (row) => t(`language.${row.language}`) },
      { key: "actions", title: () => "", class: "actions", cell: (row) => this.actions(row), text: () => "" },
    ];
    const rows = live.rows("person").filter((row) => (this.retired || !row.retired) && (!this.organisation || row.organisation === this.organisation));
    return html`${head("persons", html`<select class="narrow" aria-label=${t("label.organisation")} @change=${(/** @type {any} */ event) => (this.organisation = event.target.value)}><option value="">${t("word.all")}</option>${organisationOptions(this.organisation)}</select>${retiredSwitch(/** @type {any} */ (this))}${may("person.edit") ? addButton(() => this.edit(null)) : nothing}`)}
      <fh-table .columns=${columns} .rows=${rows}></fh-table>`;
  }
  /** @param {any} row */
  actions(row) {
    const duty = () => void attempt(() => sendEdit("POST", `/persons/${row.id}/off-duty`, { id: row.id, version: row.version, off_duty: !row.off_duty }), () => t("done.saved"));
    return html`${may("roster.edit", { organisation: row.organisation }) && !row.retired ? html`<button class="small" data-act="duty" @click=${duty}>${t(row.off_duty ? "person.on" : "person.off")}</button> ` : nothing}${may("person.edit") ? editButton(() => this.edit(row)) : nothing}`;
  }
  /** @param {any} row */
  edit(row) {
    void formDialog({
      title: () => row?.name ?? t("admin.add.persons"),
      name: "person",
      label: () => t("act.save"),
      fields: () => html`<div class="form">
        ${field(t("import.column.name"), html`<input name="name" required maxlength="100" .value=${row?.name ?? ""} autofocus />`, { required: true })}
        ${field(t("admin.title"), html`<input name="title" maxlength="200" .value=${row?.title ?? ""} />`)}
        ${field(t("label.organisation"), html`<select name="organisation" required>${organisationOptions(row?.organisation ?? who()?.organisation?.id)}</select>`, { required: true })}
        ${field(t("account.language"), html`<select name="language"><option value="zh" ?selected=${row?.language !== "en"}>中文</option><option value="en" ?selected=${row?.language === "en"}>English</option></select>`)}
        ${field(t("label.phones"), html`<textarea name="phones" rows="3" class="mono" .value=${(row?.phones ?? []).join("\n")}></textarea>`, { wide: "", hint: t("person.phones_hint", { n: PHONES_MAX }) })}
        <label class="check"><input type="checkbox" name="off_duty" ?checked=${row?.off_duty} />${t("recipients.off_duty")}</label>${retiredBox(row)}</div>`,
      send: (data) => saveRow("/persons", row, { name: text(data, "name"), title: text(data, "title"), organisation: text(data, "organisation"), language: text(data, "language"), phones: text(data, "phones").split(/[\n,;，；]+/).map((phone) => phone.trim()).filter(Boolean), off_duty: data.has("off_duty"), retired: data.has("retired") }),
    });
  }
}
customElements.define("fh-admin-persons", Persons);
