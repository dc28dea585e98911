// @ts-check
// Choosing who gets a notice: persons, groups, units, whoever is on duty, whoever is inside a fence.
//
// Resolves nobody: the server says who that is (preview). Fires `change` with the new value.

import { html, nothing } from "lit";
import { anyName, organisationName, personName, unitName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { Part, styleSheet } from "../parts/part.js";

styleSheet("/static/notices/notices.css");

const SHOWN_MAX = 100;
export const NOBODY = Object.freeze({ persons: [], groups: [], units: [], on_duty: [], fence: null });
/** @type {("persons" | "groups" | "units" | "on_duty" | "fence")[]} */
export const WAYS = ["persons", "groups", "units", "on_duty", "fence"];

/** @param {any} value */
export const isNobody = (value) => !value || (!value.fence && WAYS.every((way) => way === "fence" || !(value[way] ?? []).length));

/** What a recipient is called. @param {string} way @param {string} id */
export function recipientName(way, id) {
  const group = way === "groups" ? live.row("group", id) : undefined;
  if (group) return `${group.name} · ${organisationName(group.organisation)}`;
  if (way === "on_duty") return t("recipients.on_duty_of", { name: organisationName(id) });
  if (way === "fence") return t("recipients.inside", { name: live.row("fence", id)?.name ?? id });
  return anyName(id);
}

/** All of them in words. @param {any} value @returns {string[]} */
export const recipientNames = (value) => WAYS.flatMap((way) => (way === "fence" ? (value.fence ? [recipientName(way, value.fence)] : []) : (value[way] ?? []).map((/** @type {string} */ id) => recipientName(way, id))));

class Recipients extends Part {
  static follows = ["person", "group", "unit", "organisation", "fence"];
  static properties = { value: { attribute: false }, way: { state: true }, search: { state: true } };

  constructor() {
    super();
    /** @type {any} */
    this.value = NOBODY;
    this.way = "groups";
    this.search = "";
  }

  /** @param {string} way */
  choices(way) {
    const place = (/** @type {any} */ row) => organisationName(row.organisation);
    const rows = {
      persons: () => live.rows("person").filter((row) => !row.retired).map((row) => ({ id: row.id, name: personName(row.id), note: `${row.title ? `${row.title} · ` : ""}${place(row)}`, bad: row.off_duty ? t("recipients.off_duty") : "", more: (row.phones ?? []).join(" ") })),
      groups: () => live.rows("group").filter((row) => !row.retired).map((row) => ({ id: row.id, name: row.name, note: `${place(row)} · ${t("recipients.people", { n: row.persons.length })}` })),
      units: () => live.rows("unit").filter((row) => !row.retired).map((row) => ({ id: row.id, name: unitName(row.id), note: `${place(row)} · ${t("recipients.people", { n: row.members.length })}` })),
      on_duty: () => live.rows("organisation").filter((row) => !row.retired).sort((a, b) => a.line.length - b.line.length).map((row) => ({ id: row.id, name: organisationName(row.id), note: t(`tier.${row.tier}`) })),
      fence: () => live.rows("fence").filter((row) => row.active).map((row) => ({ id: row.id, name: row.name, note: t("recipients.units_inside", { n: row.inside?.length ?? 0 }) })),
    };
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    return rows[/** @type {keyof typeof rows} */ (way)]().filter((/** @type {any} */ row) => words.every((word) => `${row.name} ${row.note} ${row.more ?? ""}`.toLowerCase().includes(word)));
  }

  /** @param {string} way @param {string} id */
  has(way, id) {
    return way === "fence" ? this.value.fence === id : (this.value[way] ?? []).includes(id);
  }

  /** @param {string} way @param {string} id */
  toggle(way, id) {
    const had = this.has(way, id);
    const next = { ...NOBODY, ...this.value };
    if (way === "fence") next.fence = had ? null : id;
    else next[way] = had ? next[way].filter((/** @type {string} */ other) => other !== id) : [...next[way], id];
    this.value = next;
    this.dispatchEvent(new CustomEvent("change", { detail: next }));
  }

  render() {
    const chosen = WAYS.flatMap((way) => (way === "fence" ? (this.value.fence ? [[way, this.value.fence]] : []) : (this.value[way] ?? []).map((/** @type {string} */ id) => [way, id])));
    const found = this.choices(this.way);
    return html`<div class="recipients">
      <div class="chips" aria-live="polite">${chosen.length ? chosen.map(([way, id]) => html`<span class="chip"><wa-icon name=${ICON[way]}></wa-icon>${recipientName(way, id)}
        <button type="button" class="plain icon small" aria-label=${`${t("act.remove")} ${recipientName(way, id)}`} @click=${() => this.toggle(way, id)}><wa-icon name="x"></wa-icon></button></span>`) : html`<span class="faint small">${t("recipients.nobody")}</span>`}</div>
      <div class="row wrap"><div class="seg" role="tablist" aria-label=${t("recipients.ways")}>${WAYS.map((way) => html`<button type="button" role="tab" data-way=${way} aria-selected=${this.way === way} @click=${() => (this.way = way)}>${t(`recipients.way.${way}`)}</button>`)}</div>
        <input type="search" class="grow" placeholder=${t("word.search")} aria-label=${t("word.search")} .value=${this.search} @input=${(/** @type {any} */ event) => { event.stopPropagation(); this.search = event.target.value; }} @change=${(/** @type {Event} */ event) => event.stopPropagation()} @keydown=${(/** @type {KeyboardEvent} */ event) => event.key === "Enter" && event.preventDefault()} /></div>
      <div class="choices">${found.length === 0 ? html`<p class="faint small">${t("word.nothing_found")}</p>` : found.slice(0, SHOWN_MAX).map((/** @type {any} */ row) => html`<label class="choice"><input type="checkbox" data-id=${row.id} .checked=${this.has(this.way, row.id)} @change=${(/** @type {Event} */ event) => { event.stopPropagation(); this.toggle(this.way, row.id); }} /><span class="grow clip">${row.name}</span>${row.bad ? html`<span class="badge warn">${row.bad}</span>` : nothing}<span class="muted small clip">${row.note}</span></label>`)}
        ${found.length > SHOWN_MAX ? html`<p class="muted small">${t("word.more_rows", { n: found.length - SHOWN_MAX })}</p>` : nothing}</div>
    </div>`;
  }
}
/** @type {Record<string, string>} */
const ICON = { persons: "person", groups: "people", units: "truck", on_duty: "calendar-check", fence: "bounding-box" };
customElements.define("fh-recipients", Recipients);
