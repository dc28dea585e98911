// @ts-check
// All incidents, open and ended: search on the server, a page at a time.

import { html, nothing } from "lit";
import { get, textOf } from "../api.js";
import { CATEGORIES, LEVELS } from "../domain.js";
import { fullTime, organisationName, shortTime } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { Part, styleSheet } from "../parts/part.js";
import { busy, empty, exerciseBadge, levelBadge, stateBadge } from "../parts/small.js";

const PAGE = 50;

class Archive extends Part {
  static properties = { params: { attribute: false }, query: { attribute: false }, items: { state: true }, more: { state: true }, error: { state: true } };
  constructor() {
    super();
    styleSheet("/static/picture/picture.css");
    /** @type {any[] | null} */
    this.items = null;
    this.more = false;
    this.error = "";
    /** @type {Record<string, string>} */
    this.asked = {};
    this._turn = 0;
  }

  connectedCallback() {
    super.connectedCallback();
    void this.load();
    this.until(live.follow(["incident"], () => this.requestUpdate()));
  }

  /** @param {string} [after] */
  async load(after) {
    const turn = ++this._turn;
    try {
      const page = await get("/incidents", { ...this.asked, limit: PAGE, after });
      if (turn !== this._turn) return;
      this.items = after ? [...(this.items ?? []), ...page.items] : page.items;
      this.more = page.items.length === PAGE;
      this.error = "";
    } catch (error) {
      this.error = textOf(error);
    }
  }

  ask = (/** @type {Event} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (/** @type {HTMLElement} */ (event.target).closest("form"));
    /** @type {Record<string, string>} */
    const asked = {};
    for (const [name, value] of new FormData(form))
      if (value) asked[name] = name === "since" || name === "until" ? String((new Date(String(value)).getTime() + (name === "until" ? 86_400_000 : 0)) * 1000) : String(value);
    this.asked = asked;
    void this.load();
  };

  render() {
    return html`<div class="page">
      <h1>${t("archive.title")}</h1>
      <form class="row wrap no-print" @submit=${this.ask} @change=${this.ask}>
        <input name="q" type="search" class="grow" placeholder=${t("picture.search")} aria-label=${t("word.search")} />
        <select name="open" aria-label=${t("label.state")}><option value="">${t("archive.any_state")}</option><option value="true">${t("archive.open")}</option><option value="false">${t("archive.ended")}</option></select>
        <select name="category" aria-label=${t("label.category")}><option value="">${t("picture.all_categories")}</option>${CATEGORIES.map((code) => html`<option value=${code}>${t(`category.${code}`)}</option>`)}</select>
        <select name="level" aria-label=${t("label.level")}><option value="">${t("archive.any_level")}</option>${LEVELS.map((level) => html`<option value=${level}>${level} ${t(`level.${level}`)}</option>`)}</select>
        <label class="row"><span class="label nowrap">${t("archive.since")}</span><input name="since" type="date" /></label>
        <label class="row"><span class="label nowrap">${t("archive.until")}</span><input name="until" type="date" /></label>
        <button>${t("word.search")}</button>
        <button type="button" @click=${() => print()}><wa-icon name="printer"></wa-icon>${t("act.print")}</button>
      </form>
      ${this.error ? html`<p class="error-line" role="alert">${this.error}</p>` : nothing}
      ${this.items === null ? busy() : this.items.length === 0 ? empty("archive", t("word.nothing_found")) : this.table(this.items)}
      ${this.more ? html`<button @click=${() => void this.load(this.items?.at(-1)?.id)}>${t("archive.more")}</button>` : nothing}
    </div>`;
  }

  /** @param {any[]} items */
  table(items) {
    return html`<div class="panel table-scroll"><table class="data">
      <thead><tr><th>${t("label.level")}</th><th>${t("label.title")}</th><th>${t("label.category")}</th><th>${t("label.state")}</th><th>${t("label.place")}</th><th>${t("label.organisation")}</th><th>${t("label.reported_at")}</th></tr></thead>
      <tbody>${items.map((item) => {
        const row = live.row("incident", item.id) ?? item; // newer where the feed knows it
        return html`<tr><td>${levelBadge(row.level)}</td><td><a href=${`#/incident/${row.id}`}>${row.title}</a> ${exerciseBadge(row.exercise)}</td>
          <td>${t(`category.${row.category}`)}</td><td>${stateBadge("state", row.state)}</td><td>${row.place.address}</td><td>${organisationName(row.organisation)}</td><td class="num" title=${fullTime(row.reported_at)}>${shortTime(row.reported_at)}</td></tr>`;
      })}</tbody>
    </table></div>`;
  }
}
customElements.define("fh-incidents-page", Archive);
