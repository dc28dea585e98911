// @ts-check
// The open incidents, most serious first, with search and filters.

import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { CATEGORIES, LEVELS } from "../domain.js";
import { organisationName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { Part } from "../parts/part.js";
import { awaited, nodeName, owned } from "../parts/nodes.js";
import { empty, exerciseBadge, levelBadge, stateBadge } from "../parts/small.js";
import { may } from "../session.js";

class IncidentList extends Part {
  static follows = ["transfer", "ask", "node", "incident", "order"];
  static properties = { chosen: {}, search: { state: true }, category: { state: true }, levels: { state: true } };
  constructor() {
    super();
    this.chosen = "";
    this.search = "";
    this.category = "";
    /** @type {Set<string>} */
    this.levels = new Set();
  }

  found() {
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    return live
      .rows("incident")
      .filter((row) => row.open)
      .filter((row) => !this.category || row.category === this.category)
      .filter((row) => this.levels.size === 0 || this.levels.has(row.level))
      .filter((row) => {
        const text = `${row.title} ${row.description} ${row.place.address} ${organisationName(row.organisation)} ${t(`category.${row.category}`)}`.toLowerCase();
        return words.every((word) => text.includes(word));
      })
      .sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level) || b.reported_at - a.reported_at);
  }

  /** @param {string} level */
  toggle(level) {
    const levels = new Set(this.levels);
    if (!levels.delete(level)) levels.add(level);
    this.levels = levels;
  }

  render() {
    const all = live.rows("incident").filter((row) => row.open).length;
    const rows = this.found();
    return html`<header>
        <h2>${t("picture.incidents")} <span class="count">${all}</span></h2>
        ${may("incident.report") ? html`<button class="primary small" id="report" @click=${() => this.dispatchEvent(new CustomEvent("report"))}><wa-icon name="plus-lg"></wa-icon>${t("report.new")}</button>` : nothing}
      </header>
      <div class="filters">
        <input type="search" placeholder=${t("picture.search")} aria-label=${t("picture.search")} .value=${this.search} @input=${(/** @type {any} */ event) => (this.search = event.target.value)} />
        <div class="row">
          <select class="grow" aria-label=${t("label.category")} @change=${(/** @type {any} */ event) => (this.category = event.target.value)}>
            <option value="">${t("picture.all_categories")}</option>
            ${CATEGORIES.map((code) => html`<option value=${code} ?selected=${this.category === code}>${t(`category.${code}`)}</option>`)}
          </select>
          <div class="seg" role="group" aria-label=${t("label.level")}>
            ${LEVELS.map((level) => html`<button class="level-${level}" aria-pressed=${this.levels.has(level)} title=${t(`level.${level}`)} @click=${() => this.toggle(level)}>${level}</button>`)}
          </div>
        </div>
      </div>
      <ul class="cards">
        ${rows.length === 0 ? empty("shield-check", all === 0 ? t("picture.quiet") : t("word.nothing_found")) : repeat(rows, (row) => row.id, (row) => this.card(row))}
      </ul>`;
  }

  /** @param {Record<string, any>} row */
  card(row) {
    const orders = live.rows("order").filter((order) => order.incident === row.id && order.open);
    const late = orders.filter((order) => order.overdue || order.late).length;
    const waiting = awaited().filter((one) => one.incident === row.id).length;
    return html`<li class="card level-${row.level} ${this.chosen === row.id ? "chosen" : ""}" data-incident=${row.id}>
      <div class="row spread top">
        <a class="title" href=${`#/incident/${row.id}`}>${row.title}</a>
        <button class="plain icon small" title=${t("picture.locate")} aria-label=${t("picture.locate_it", { title: row.title })} @click=${() => this.dispatchEvent(new CustomEvent("choose", { detail: row.id }))}><wa-icon name="crosshair"></wa-icon></button>
      </div>
      <div class="row wrap">${levelBadge(row.level)}${stateBadge("state", row.state)}${exerciseBadge(row.exercise)}<span class="small muted">${t(`category.${row.category}`)}</span></div>
      <div class="row spread small muted">
        <span class="clip">${row.place.address || organisationName(row.organisation)}</span><fh-ago .at=${row.reported_at}></fh-ago>
      </div>
      ${owned(row) ? nothing : html`<div class="small muted"><wa-icon name="diagram-3"></wa-icon> ${t("own.by", { owner: nodeName(row.owner) })}</div>`}
      ${waiting ? html`<div class="small warn"><wa-icon name="person-raised-hand"></wa-icon> ${t("own.waiting_here", { n: waiting })}</div>` : nothing}
      ${orders.length ? html`<div class="small ${late ? "bad" : "muted"}"><wa-icon name="flag"></wa-icon> ${t(late ? "picture.orders_late" : "picture.orders_open", { n: orders.length, late })}</div>` : nothing}
    </li>`;
  }
}
customElements.define("fh-incident-list", IncidentList);
