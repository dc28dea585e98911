// @ts-check
// The phones of the local gateway: who got what, as they see it, and a keyboard to answer on.
//
// Nothing here reaches a real phone. Invariant: shown is what the gateway stored, in the order of its clock.

import { html, nothing } from "lit";
import { get, post } from "../api.js";
import { fullTime, personName, shortTime } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { Part, styleSheet } from "../parts/part.js";
import { busy, empty } from "../parts/small.js";
import { attempt } from "../parts/toast.js";
import { may } from "../session.js";

styleSheet("/static/notices/notices.css");

export const QUICK = ["1", "2"];

class PhonesPage extends Part {
  static follows = ["phone_text", "person"];
  static properties = {
    params: { attribute: false }, query: { attribute: false }, number: { state: true }, search: { state: true }, phones: { state: true }, sending: { state: true },
  };

  constructor() {
    super();
    this.number = "";
    this.search = "";
    /** From the server: older than what the feed brings. @type {any[] | null} */
    this.phones = null;
    /** @type {any[]} */
    this.older = [];
    this.sending = false;
  }

  topics() {
    return ["phones"];
  }

  connectedCallback() {
    super.connectedCallback();
    void attempt(async () => (this.phones = (await get("/phones")).items));
    this.until(live.follow(["phone_text"], () => this.scroll()));
  }

  /** number -> {persons, last, texts}: the list of the server, and what came since. */
  list() {
    /** @type {Map<string, {number: string, persons: string[], last: any, texts: number}>} */
    const found = new Map((this.phones ?? []).map((phone) => [phone.number, { ...phone }]));
    for (const text of live.rows("phone_text")) {
      const phone = found.get(text.number) ?? { number: text.number, persons: [], last: text, texts: 1 };
      if (text.at >= phone.last.at) phone.last = text;
      found.set(text.number, phone);
    }
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    return [...found.values()]
      .map((phone) => ({ ...phone, persons: phone.persons.length ? phone.persons : this.owners(phone.number) }))
      .filter((phone) => words.every((word) => `${phone.number} ${this.names(phone)} ${phone.last.text}`.toLowerCase().includes(word)))
      .sort((a, b) => b.last.at - a.last.at);
  }

  /** @param {string} number */
  owners(number) {
    return live.rows("person").filter((person) => person.phones?.includes(number)).map((person) => person.id);
  }

  /** @param {{persons: string[], number: string}} phone */
  names(phone) {
    return phone.persons.map((id) => personName(id)).join(t("admin.comma")) || t("phones.nobody");
  }

  thread() {
    const texts = new Map(this.older.map((text) => [text.id, text]));
    for (const text of live.rows("phone_text")) if (text.number === this.number) texts.set(text.id, text);
    return [...texts.values()].sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1));
  }

  /** @param {string} number */
  async open(number) {
    this.number = number;
    this.older = [];
    await attempt(async () => {
      const found = (await get(`/phones/${encodeURIComponent(number)}/texts`)).items;
      if (this.number === number) this.older = found;
    });
    this.requestUpdate();
    this.scroll();
  }

  scroll() {
    void this.updateComplete.then(() => this.querySelector(".thread")?.scrollTo({ top: 1e7 }));
  }

  /** @param {string} text */
  async answer(text) {
    if (!text.trim() || this.sending) return;
    this.sending = true;
    const done = await attempt(() => post(`/phones/${encodeURIComponent(this.number)}/answer`, { text }));
    this.sending = false;
    const box = /** @type {HTMLInputElement | null} */ (this.querySelector("#answer"));
    if (done && box) box.value = "";
    box?.focus();
  }

  render() {
    const phones = this.list();
    return html`<div class="phones ${this.number ? "open" : ""}">
      <section class="panel phone-list" aria-label=${t("nav.phones")}>
        <header><h2>${t("phones.title")}</h2><span class="count">${phones.length}</span></header>
        <div class="body slim"><input type="search" placeholder=${t("word.search")} aria-label=${t("word.search")} .value=${this.search} @input=${(/** @type {any} */ event) => (this.search = event.target.value)} /></div>
        <div class="scroll" role="list">
          ${this.phones === null && !phones.length ? busy() : phones.length === 0 ? empty("phone", t(this.search ? "word.nothing_found" : "phones.none")) : nothing}
          ${phones.map(
            (phone) => html`<button role="listitem" class="phone-row" data-number=${phone.number} aria-current=${phone.number === this.number ? "true" : nothing} @click=${() => void this.open(phone.number)}>
              <span class="row spread"><b class="clip">${this.names(phone)}</b><span class="muted small num">${shortTime(phone.last.at)}</span></span>
              <span class="muted small num">${phone.number}</span>
              <span class="clip small">${phone.last.answer ? html`<wa-icon name="reply"></wa-icon> ` : nothing}${phone.last.text}</span>
            </button>`,
          )}
        </div>
      </section>
      ${this.number ? this.phone(phones.find((phone) => phone.number === this.number) ?? { number: this.number, persons: this.owners(this.number) }) : html`<section class="panel phone-none">${empty("phone", t("phones.choose"))}</section>`}
    </div>`;
  }

  /** @param {{number: string, persons: string[]}} phone */
  phone(phone) {
    const texts = this.thread();
    return html`<section class="panel handset" aria-label=${this.names(phone)}>
      <header>
        <button class="plain icon back" aria-label=${t("act.back")} @click=${() => (this.number = "")}><wa-icon name="chevron-left"></wa-icon></button>
        <div class="grow"><h2 class="clip">${this.names(phone)}</h2><span class="muted small num">${phone.number}</span></div>
        <span class="badge">${t("phones.simulated")}</span>
      </header>
      <div class="thread" role="log" aria-live="polite">
        ${texts.map(
          (text) => html`<div class="bubble ${text.answer ? "mine" : ""}" data-text=${text.id}><span class="prose">${text.text}</span>
            <time class="num" title=${fullTime(text.at)}>${shortTime(text.at)}${text.answer ? "" : html` ${text.waiting ? "✓" : "✓✓"}`}</time></div>`,
        )}
      </div>
      ${may("phone.answer")
        ? html`<form class="answer" @submit=${(/** @type {SubmitEvent} */ event) => {
            event.preventDefault();
            void this.answer(String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("text")));
          }}>
            ${QUICK.map((text) => html`<button type="button" class="quick" data-quick=${text} ?disabled=${this.sending} @click=${() => void this.answer(text)} title=${t(`phones.quick.${text}`)}>${text}</button>`)}
            <input id="answer" name="text" maxlength="500" autocomplete="off" placeholder=${t("phones.type")} aria-label=${t("phones.type")} />
            <button class="primary icon" aria-label=${t("act.send")} ?disabled=${this.sending}><wa-icon name="send"></wa-icon></button>
          </form>`
        : nothing}
    </section>`;
  }
}
customElements.define("fh-phones-page", PhonesPage);
