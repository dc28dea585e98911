// @ts-check
// Choosing some out of many: what is chosen as chips, the rest behind a search. Fires `change` with the ids.

import { html, nothing } from "lit";
import { organisationName, personName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { Part, styleSheet } from "../parts/part.js";

styleSheet("/static/notices/notices.css");
export const SHOWN_MAX = 60;

/** @typedef {{id: string, name: string, note?: string, bad?: string}} Choice */

/** Persons as choices. @param {(row: any) => boolean} [keep] @returns {Choice[]} */
export const people = (keep = () => true) =>
  live.rows("person").filter((row) => !row.retired && keep(row)).sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }))
    .map((row) => ({ id: row.id, name: personName(row.id), note: `${row.title ? `${row.title} · ` : ""}${organisationName(row.organisation)}`, bad: row.off_duty ? t("recipients.off_duty") : "" }));

class Choose extends Part {
  static properties = { options: { attribute: false }, value: { attribute: false }, single: { type: Boolean }, label: {}, search: { state: true } };
  constructor() {
    super();
    /** @type {Choice[]} */
    this.options = [];
    /** @type {string[]} */
    this.value = [];
    this.single = false;
    this.label = "";
    this.search = "";
  }
  /** @param {string} id */
  toggle(id) {
    const had = this.value.includes(id);
    this.value = had ? this.value.filter((one) => one !== id) : this.single ? [id] : [...this.value, id];
    this.dispatchEvent(new CustomEvent("change", { detail: this.value }));
  }
  render() {
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.options.filter((one) => words.every((word) => `${one.name} ${one.note ?? ""}`.toLowerCase().includes(word)));
    const name = (/** @type {string} */ id) => this.options.find((one) => one.id === id)?.name ?? id;
    return html`<div class="recipients">
      <div class="chips">${this.value.length ? this.value.map((id) => html`<span class="chip">${name(id)}<button type="button" class="plain icon small" aria-label=${`${t("act.remove")} ${name(id)}`} @click=${() => this.toggle(id)}><wa-icon name="x"></wa-icon></button></span>`) : html`<span class="faint small">${t("recipients.nobody")}</span>`}</div>
      <input type="search" placeholder=${t("word.search")} aria-label=${`${this.label} ${t("word.search")}`} .value=${this.search} @input=${(/** @type {any} */ event) => (this.search = event.target.value)} @change=${(/** @type {Event} */ event) => event.stopPropagation()} @keydown=${(/** @type {KeyboardEvent} */ event) => event.key === "Enter" && event.preventDefault()} />
      <div class="choices">${found.slice(0, SHOWN_MAX).map((one) => html`<label class="choice"><input type="checkbox" data-id=${one.id} .checked=${this.value.includes(one.id)} @change=${(/** @type {Event} */ event) => { event.stopPropagation(); this.toggle(one.id); }} /><span class="grow clip">${one.name}</span>${one.bad ? html`<span class="badge warn">${one.bad}</span>` : nothing}<span class="muted small clip">${one.note ?? ""}</span></label>`)}
        ${found.length === 0 ? html`<p class="faint small">${t("word.nothing_found")}</p>` : found.length > SHOWN_MAX ? html`<p class="muted small">${t("word.more_rows", { n: found.length - SHOWN_MAX })}</p>` : nothing}</div>
    </div>`;
  }
}
customElements.define("fh-choose", Choose);
