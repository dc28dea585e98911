// @ts-check
// The timeline: every entry of the incident in words, newest first. Kinds that nobody here knows are shown as they are.

import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { attachment, get } from "../api.js";
import { author, clockTime, fullTime, shortTime } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { Part } from "../parts/part.js";
import { heldAbove, here, nodeName } from "../parts/nodes.js";
import { busy, empty, ticks } from "../parts/small.js";
import { attempt } from "../parts/toast.js";
import { iconOf, words } from "./words.js";

const FILTERS = ["all", "incident", "order", "ownership", "plan", "notice", "room", "fence", "technical"];
const PAGE = 300;
/** What only counts, or makes other entries that say it better. Shown under "technical". */
const quiet = (/** @type {string} */ kind) => kind === "notice.progressed" || kind === "room.changed" || kind.startsWith("timer.");

class Timeline extends Part {
  static follows = ["timeline", "unit", "person", "organisation", "order", "fence", "room", "tick", "late", "node"];
  static properties = { incident: { attribute: false }, filter: { state: true }, search: { state: true }, earlier: { state: true }, done: { state: true } };
  constructor() {
    super();
    /** @type {Record<string, any>} */
    this.incident = {};
    this.filter = "all";
    this.search = "";
    /** @type {any[]} */
    this.earlier = [];
    this.done = false;
  }

  items() {
    const subject = `incident/${this.incident.id}`;
    const fresh = live.rows("timeline").filter((item) => item.subject === subject);
    const known = new Set(fresh.map((item) => item.id));
    return [...this.earlier.filter((item) => !known.has(item.id)), ...fresh].sort((a, b) => b.position - a.position || b.seq - a.seq);
  }

  /** @param {any[]} items */
  found(items) {
    const wanted = this.search.toLowerCase();
    return items
      .filter((item) => quiet(item.kind) === (this.filter === "technical"))
      .filter((item) => this.filter === "all" || this.filter === "technical" || item.kind.startsWith(`${this.filter}.`) || (this.filter === "incident" && item.kind.startsWith("alarm.")))
      .filter((item) => !wanted || `${author(item.by)} ${JSON.stringify(item.private)} ${item.kind}`.toLowerCase().includes(wanted));
  }

  async more() {
    const items = this.items();
    const page = await attempt(() => get(`/incidents/${this.incident.id}/timeline`, { before: items.at(-1)?.position, limit: PAGE }));
    if (!page) return;
    this.earlier = [...page.items, ...this.earlier];
    this.done = page.items.length === 0;
  }

  render() {
    const all = this.items();
    const shown = this.found(all);
    const whole = this.done || all.some((item) => item.kind === "incident.reported");
    return html`<section class="panel timeline">
      <header class="wrap"><h2>${t("timeline.title")} <span class="count">${shown.length}</span></h2>
        <div class="seg no-print" role="group" aria-label=${t("timeline.filter")}>${FILTERS.map((filter) => html`<button class="small" aria-pressed=${this.filter === filter} @click=${() => (this.filter = filter)}>${t(`timeline.${filter}`)}</button>`)}</div>
        <input class="no-print timeline-search" type="search" placeholder=${t("word.search")} aria-label=${t("word.search")} @input=${(/** @type {any} */ event) => (this.search = event.target.value)} />
      </header>
      ${all.length === 0 ? busy() : shown.length === 0 ? empty("clock-history", t("word.nothing_found")) : html`<ol class="story" aria-live="polite" aria-relevant="additions">${repeat(shown, (item) => item.id, (item) => this.item(item))}</ol>`}
      ${whole ? nothing : html`<button class="small no-print" @click=${() => void this.more()}>${t("timeline.earlier")}</button>`}
    </section>`;
  }

  /** @param {any} item */
  item(item) {
    const { title, text, tone } = words(item);
    const late = live.row("late", item.id);
    return html`<li class="entry ${late ? "late" : (tone ?? "")}" data-kind=${item.kind} data-origin=${item.origin}>
      <span class="dot"><wa-icon name=${iconOf(item.kind)}></wa-icon></span>
      <div class="grow">
        <div class="row wrap spread small"><span class="row wrap muted">${author(item.by)}${item.origin === here() ? nothing : html`<span class="from">${t("timeline.from", { node: nodeName(item.origin) })}</span>`}${this.marks(item, late)}</span><span class="row muted num">${ticks(heldAbove(item))}<time title=${fullTime(item.at)}>${shortTime(item.at)}<span class="seconds">${clockTime(item.at).slice(5)}</span></time></span></div>
        <div class="entry-title">${title}</div>
        ${text ? html`<div class="prose entry-text">${text}</div>` : nothing} ${this.files(item.body.attachments)}
      </div>
    </li>`;
  }

  /** What is not as usual about it. @param {any} item @param {any} late */
  marks(item, late) {
    return html`${late ? html`<span class="badge warn">${t(`own.verdict.${late.verdict}`)}</span>` : nothing}
      ${item.branch ? html`<span class="badge" title=${t("timeline.branch_title")}>${t("timeline.branch")}</span>` : nothing}
      ${item.withheld ? html`<span class="badge" title=${t("timeline.withheld_title")}>${t("timeline.withheld")}</span>` : nothing}`;
  }

  /** Pictures show themselves; anything else is a link. @param {string[] | undefined} hashes */
  files(hashes) {
    if (!hashes?.length) return nothing;
    const hide = (/** @type {Event} */ event) => /** @type {HTMLElement} */ (event.target).remove();
    return html`<div class="row wrap files">${hashes.map((hash, i) => html`<a class="file" href=${attachment(hash)} target="_blank" rel="noopener"><img src=${attachment(hash)} loading="lazy" alt="" @error=${hide} /><span><wa-icon name="paperclip"></wa-icon> ${t("note.file", { n: i + 1 })}</span></a>`)}</div>`;
  }
}
customElements.define("fh-timeline", Timeline);
