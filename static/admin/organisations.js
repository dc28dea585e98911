// @ts-check
// The tree of organisations.

import { html, nothing } from "lit";
import { organisationName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { formDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import { may } from "../session.js";
import { addButton, editButton, field, head, organisationOptions, placeFields, placeOf, retiredBadge, retiredBox, retiredSwitch, saveRow, text, tree } from "./forms.js";

const TIERS = ["province", "city", "county", "department"];

class Organisations extends Part {
  static follows = ["organisation", "unit", "person"];
  static properties = { retired: { state: true } };
  constructor() {
    super();
    this.retired = false;
  }
  render() {
    const edit = may("registry.edit");
    const count = (/** @type {string} */ table, /** @type {string} */ id) => live.rows(table).filter((row) => row.organisation === id && !row.retired).length;
    return html`${head("organisations", html`${retiredSwitch(/** @type {any} */ (this))}${edit ? addButton(() => this.edit(null)) : nothing}`)}
      <div class="table-scroll"><table class="data tree" role="treegrid"><thead><tr><th>${t("label.name")}</th><th>${t("admin.tier")}</th><th>${t("admin.region")}</th><th>${t("admin.units")}</th><th>${t("admin.persons")}</th><th></th></tr></thead><tbody>
        ${tree(this.retired).map(({ row, depth }) => html`<tr data-id=${row.id} role="row" aria-level=${depth + 1}><td><span class="indent-${Math.min(depth, 7)}">${depth ? html`<wa-icon name="arrow-return-right" class="faint"></wa-icon> ` : nothing}${organisationName(row.id)}</span> ${retiredBadge(row)}</td><td>${t(`tier.${row.tier}`)}</td><td class="num">${row.region}</td><td class="num">${count("unit", row.id)}</td><td class="num">${count("person", row.id)}</td><td class="actions">${edit ? editButton(() => this.edit(row)) : nothing}</td></tr>`)}
      </tbody></table></div>`;
  }
  /** @param {any} row */
  edit(row) {
    void formDialog({
      title: () => (row ? row.name : t("admin.add.organisations")),
      name: "organisation",
      label: () => t("act.save"),
      fields: () => html`<div class="form">
        ${field(t("admin.name_zh"), html`<input name="name" required maxlength="100" .value=${row?.name ?? ""} autofocus />`, { required: true })}
        ${field(t("admin.name_en"), html`<input name="name_en" maxlength="200" .value=${row?.name_en ?? ""} />`)}
        ${field(t("admin.tier"), html`<select name="tier">${TIERS.map((tier) => html`<option value=${tier} ?selected=${tier === row?.tier}>${t(`tier.${tier}`)}</option>`)}</select>`)}
        ${field(t("admin.parent"), html`<select name="parent"><option value="">${t("admin.root")}</option>${organisationOptions(row?.parent)}</select>`)}
        ${field(t("admin.region"), html`<input name="region" maxlength="12" inputmode="numeric" .value=${row?.region ?? ""} />`, { wide: "" })}
        ${placeFields(row?.place)}${retiredBox(row)}</div>`,
      send: (data) => saveRow("/organisations", row, { name: text(data, "name"), name_en: text(data, "name_en"), tier: text(data, "tier"), parent: text(data, "parent") || null, region: text(data, "region"), place: placeOf(data), retired: data.has("retired") }),
    });
  }
}
customElements.define("fh-admin-organisations", Organisations);
