// @ts-check
// The audit log: administration and sign-ins as entries, newest first; and a subject's streams to take away and verify.
//
// Changes nothing. Invariant: an entry is shown as it is stored, its hash beside it.

import { html, nothing } from "lit";
import { BASE, get } from "../api.js";
import { author, fullTime, shortTime } from "../format.js";
import { t, tOr } from "../i18n.js";
import { live } from "../live.js";
import { Part } from "../parts/part.js";
import { busy, empty } from "../parts/small.js";
import { attempt } from "../parts/toast.js";
import { head } from "./forms.js";

const PAGE = 100;

class Audit extends Part {
  static follows = ["account", "person"];
  static properties = { items: { state: true }, next: { state: true }, subject: { state: true }, search: { state: true }, kind: { state: true }, open: { state: true }, reading: { state: true }, exported: { state: true } };

  constructor() {
    super();
    /** @type {any[] | null} */
    this.items = null;
    /** @type {number | null} */
    this.next = null;
    this.subject = "";
    this.search = "";
    this.kind = "";
    this.open = "";
    this.exported = "audit";
    this.reading = false;
  }

  connectedCallback() {
    super.connectedCallback();
    void this.read();
  }

  /** @param {boolean} [more] */
  async read(more = false) {
    this.reading = true;
    await attempt(async () => {
      const page = await get("/audit", { subject: this.subject, limit: PAGE, before: more ? this.next : "" });
      this.items = more ? [...(this.items ?? []), ...page.items] : page.items;
      this.next = page.next;
    });
    this.reading = false;
  }

  /** @param {any} item */
  account(item) {
    const row = live.row("account", item.by.account);
    return row ? row.name : author(item.by);
  }

  /** What an entry is about, in words. @param {any} item */
  about(item) {
    const { body, private: hidden } = item;
    const account = live.row("account", body.account);
    const name = account?.name ?? hidden.name ?? "";
    return [name, hidden.address, body.roles?.map((/** @type {string} */ role) => t(`role.${role}`)).join(t("admin.comma")), body.failures ? t("audit.failures", { n: body.failures }) : "", body.locked ? t("account.locked") : ""].filter(Boolean).join(" · ");
  }

  render() {
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    const kinds = [...new Set((this.items ?? []).map((item) => item.kind))].sort();
    const shown = (this.items ?? []).filter((item) => (!this.kind || item.kind === this.kind) && words.every((word) => `${tOr(`audit.kind.${item.kind}`, item.kind)} ${item.kind} ${this.account(item)} ${this.about(item)}`.toLowerCase().includes(word)));
    return html`${head("audit", html`<label class="row small">${t("audit.export")}<input class="narrow" id="export-subject" .value=${this.exported} list="subjects" aria-label=${t("audit.subject")} @input=${(/** @type {any} */ event) => (this.exported = event.target.value.trim())} /><datalist id="subjects"><option value="audit"></option><option value="registry"></option>${live.rows("incident").map((row) => html`<option value=${`incident/${row.id}`}>${row.title}</option>`)}</datalist></label>
        <a class="button" id="export" download href=${`${BASE}/audit/export?${new URLSearchParams({ subject: this.exported })}`}><wa-icon name="download"></wa-icon>${t("act.export")}</a>`)}
      <div class="row wrap no-print"><input type="search" class="grow" placeholder=${t("word.search")} aria-label=${t("word.search")} .value=${this.search} @input=${(/** @type {any} */ event) => (this.search = event.target.value)} />
        <select class="narrow" aria-label=${t("audit.stream")} @change=${(/** @type {any} */ event) => { this.subject = event.target.value; void this.read(); }}><option value="">${t("word.all")}</option><option value="audit">${t("audit.stream.audit")}</option><option value="registry">${t("audit.stream.registry")}</option></select>
        <select class="narrow" aria-label=${t("audit.kind")} @change=${(/** @type {any} */ event) => (this.kind = event.target.value)}><option value="">${t("audit.kind")}</option>${kinds.map((kind) => html`<option value=${kind}>${tOr(`audit.kind.${kind}`, kind)}</option>`)}</select>
        <button class="icon" aria-label=${t("audit.again")} title=${t("audit.again")} @click=${() => void this.read()}><wa-icon name="arrow-clockwise"></wa-icon></button></div>
      ${this.items === null ? busy() : shown.length === 0 ? empty("shield-check", t("word.nothing_found")) : html`<div class="table-scroll"><table class="data" id="audit"><thead><tr><th>${t("audit.number")}</th><th>${t("audit.at")}</th><th>${t("audit.who")}</th><th>${t("audit.kind")}</th><th>${t("audit.about")}</th></tr></thead><tbody>
        ${shown.map((item) => html`<tr data-entry=${item.id} data-kind=${item.kind}><td class="num muted">${item.number}</td><td class="num" title=${fullTime(item.at)}>${shortTime(item.at)}</td><td>${this.account(item)}</td><td>${tOr(`audit.kind.${item.kind}`, item.kind)}</td><td><button class="plain small detail" aria-expanded=${this.open === item.id} @click=${() => (this.open = this.open === item.id ? "" : item.id)}>${this.about(item) || "…"}</button></td></tr>
          ${this.open === item.id ? html`<tr><td colspan="5"><pre class="entry mono">${JSON.stringify({ hash: item.id, subject: item.subject, origin: item.origin, seq: item.seq, position: item.position, by: item.by, body: item.body, private: item.private }, null, 2)}</pre></td></tr>` : nothing}`)}</tbody></table></div>`}
      ${this.next !== null ? html`<p><button ?disabled=${this.reading} @click=${() => void this.read(true)}>${this.reading ? html`<span class="spinner"></span>` : nothing}${t("audit.older")}</button></p>` : nothing}`;
  }
}
customElements.define("fh-admin-audit", Audit);
