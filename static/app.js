// @ts-check
// The shell around every page: sign-in, top bar, alarms, staleness, and the router. Pages register in `routes.js`.
//
// Never reloads the page. Invariant: without a session nothing but the sign-in page is shown.

import "./icons.js";
import "@awesome.me/webawesome/dist/components/icon/icon.js";
import { html, nothing } from "lit";
import { onEnded, onPending } from "./api.js";
import { watchAlarms } from "./alarm.js";
import { now, offBy } from "./clock.js";
import { clockTime, colon, organisationName } from "./format.js";
import { language, t } from "./i18n.js";
import { live } from "./live.js";
import { openMenu } from "./parts/menu.js";
import { nodeName, revokedHere, skewed, standing, superior } from "./parts/nodes.js";
import { Part } from "./parts/part.js";
import "./parts/small.js";
import "./shell/alarms.js";
import { attempt } from "./parts/toast.js";
import { topics as settling, waiting } from "./parts/unsettled.js";
import { find, ROUTES } from "./routes.js";
import { chooseLanguage, forget, load, may, onSession, signOut, who } from "./session.js";
import "./signin/signin.js";

const SLOW_MS = 1000;
const CLOCK_OFF_S = 30;
const THEME = "fenghuo.theme";

document.documentElement.dataset.theme = localStorage.getItem(THEME) ?? "dark";

/** The server's time, and how far this device is off. */
class Clock extends Part {
  static ticks = true;
  render() {
    const off = Math.abs(offBy()) > CLOCK_OFF_S;
    const title = off ? t("live.clock_off", { s: Math.round(offBy()) }) : t("live.server_time");
    return html`<span class="num clock ${off ? "warn" : ""}" title=${title}>${clockTime(now())}</span>`;
  }
}
customElements.define("fh-clock", Clock);

class App extends Part {
  static follows = ["organisation", "node", "presence", "timer", "message"];
  static properties = { loaded: { state: true }, slow: { state: true }, failed: { state: true } };

  constructor() {
    super();
    this.loaded = false;
    this.slow = false;
    this.failed = "";
    /** @type {HTMLElement | null} */
    this.page = null;
    this.place = "";
    /** @type {(() => void) | null} */
    this._release = null;
    this._slowTimer = 0;
  }

  connectedCallback() {
    super.connectedCallback();
    const redraw = () => this.requestUpdate();
    this.until(onSession(() => this.sessionChanged()));
    this.until(live.onStatus(redraw));
    this.until(onPending((pending) => this.pending(pending)));
    onEnded(() => who() && forget());
    live.onRefused = (code) => void (code === 4401 ? forget() : load());
    addEventListener("hashchange", () => void this.go());
    watchAlarms();
    void this.begin();
  }

  async begin() {
    try {
      await load();
      this.failed = "";
    } catch {
      this.failed = "network";
      setTimeout(() => void this.begin(), 3000);
    }
    this.loaded = true;
    this.sessionChanged();
  }

  /** Picture and tree are followed as long as somebody is signed in: names, alarms, lists and links come from them. */
  sessionChanged() {
    const signedIn = who() !== null && !who()?.limited;
    if (signedIn && !this._release) {
      const ends = ["picture", ...(may("registry.read") ? ["tree"] : []), ...settling()].map((topic) => live.subscribe(topic));
      this._release = () => ends.forEach((end) => end());
      live.start();
    } else if (!signedIn && this._release) {
      this._release();
      this._release = null;
      live.stop();
      this.leave();
    }
    this.requestUpdate();
    void this.go();
  }

  /** @param {number} pending */
  pending(pending) {
    clearTimeout(this._slowTimer);
    if (pending === 0) this.slow = false;
    else this._slowTimer = setTimeout(() => (this.slow = true), SLOW_MS);
  }

  leave() {
    this.page?.remove();
    this.page = null;
    this.place = "";
  }

  /** Show the page that the address names. */
  async go() {
    if (!who() || who()?.limited) return;
    const address = document.body.dataset.shell === "field" ? "/field" : location.hash.slice(1) || "/";
    if (address === this.place) return;
    const { route, params, query } = find(address);
    this.place = address;
    await this.updateComplete;
    try {
      await route.load();
    } catch (error) {
      console.error(error);
      this.failed = "page";
      return;
    }
    if (this.place !== address) return; // went on meanwhile
    this.failed = "";
    const stays = this.page?.localName === route.tag && route.stays;
    const page = /** @type {any} */ (stays ? this.page : document.createElement(route.tag));
    Object.assign(page, { params, query });
    if (!stays) {
      this.page?.remove();
      this.page = page;
      this.querySelector("main")?.append(page);
    }
    this.querySelector("main")?.setAttribute("data-page", route.name);
    this.requestUpdate();
  }

  updated() {
    const main = this.querySelector("main");
    if (main && this.page && this.page.parentElement !== main) main.append(this.page);
  }

  render() {
    if (!this.loaded) return html`<div class="cover"><span class="spinner big"></span></div>`;
    if (this.failed === "network" && !who()) return html`<div class="cover"><p class="error-line">${t("error.network")}</p></div>`;
    if (!who() || who()?.limited) return html`<fh-signin></fh-signin>`;
    const field = document.body.dataset.shell === "field";
    return html`
      <a class="skip no-print" href="#main" @click=${(/** @type {Event} */ event) => this.skip(event)}>${t("nav.skip")}</a>
      ${this.slow ? html`<div class="slow no-print" role="progressbar" aria-label=${t("word.loading")}></div>` : nothing}
      <header class="topbar no-print">${this.brand()}${field ? html`<span class="grow"></span>` : this.nav()}${this.tools()}</header>
      ${this.banner()}<fh-alarms class="no-print"></fh-alarms>
      ${this.failed === "page" ? html`<p class="error-line">${t("error.page")}</p>` : nothing}
      <main id="main" tabindex="-1"></main>
    `;
  }

  /** @param {Event} event */
  skip(event) {
    event.preventDefault();
    /** @type {HTMLElement | null} */ (this.querySelector("main"))?.focus();
  }

  brand() {
    return html`<a class="brand" href="#/" aria-label=${t("nav.picture")}>
      <img src="/static/beacon.svg" alt="" width="26" height="26" /><span class="name">${t("app.name")}</span>
      <span class="where clip">${organisationName(who()?.organisation?.id)}</span>
    </a>`;
  }

  nav() {
    const here = find(location.hash.slice(1) || "/").route.name;
    const shown = ROUTES.filter((route) => route.icon && route.rights.some((right) => may(right)));
    return html`<nav aria-label=${t("nav.label")}>
      ${shown.map(
        (route) => html`<a href=${`#${route.path}`} aria-current=${route.name === here ? "page" : nothing}>
          <wa-icon name=${/** @type {string} */ (route.icon)}></wa-icon><span>${t(`nav.${route.name}`)}</span>${route.name === "notices" && waiting() ? html`<i class="count hot" title=${t("nav.unsettled", { n: waiting() })} aria-label=${t("nav.unsettled", { n: waiting() })}>${waiting()}</i>` : nothing}
        </a>`,
      )}
    </nav>`;
  }

  tools() {
    const state = live.stale ? "bad" : live.connected ? "good" : "warn";
    return html`<div class="tools">
      <span class="link-state ${state}" title=${t(`live.${state}`)} role="status" aria-label=${t(`live.${state}`)}><i></i><span class="wide-only">${t(`live.${state}`)}</span></span>
      ${this.line()}<fh-clock></fh-clock>
      <button class="plain" id="language" lang=${language() === "zh" ? "en" : "zh"} @click=${() => void attempt(() => chooseLanguage(language() === "zh" ? "en" : "zh"))}>${language() === "zh" ? "EN" : "中文"}</button>
      <button class="plain" id="account" aria-haspopup="menu" @click=${this.accountMenu}>
        <wa-icon name="person-circle"></wa-icon><span class="clip who">${who()?.name}</span>
      </button>
    </div>`;
  }

  /** How the link to the superior is: on every page, for it says whether what is written here is known above. */
  line() {
    const up = superior();
    const off = live.rows("presence").filter((row) => !row.via && skewed(row));
    if (!up && !off.length) return nothing;
    const state = up ? (revokedHere() ? "revoked" : standing(up)) : "linked";
    const tone = state === "cut" || state === "revoked" ? "bad" : state !== "linked" ? "unknown" : off.length ? "warn" : "good";
    const clocks = off.map((row) => t("line.clock", { node: nodeName(row.id), s: (row.skew_us / 1e6).toFixed(1) }));
    const title = [...(up ? [`${t("line.title", { node: nodeName(up) })}${colon()}${t(`tree.${state}`)}`] : []), ...clocks].join(" · ");
    const word = state === "revoked" ? "revoked" : tone;
    return html`<a class="link-state ${tone}" id="line" href="#/tree" title=${title} aria-label=${title}><wa-icon name="diagram-3"></wa-icon>${tone === "good" ? nothing : html`<span>${t(`line.${word}`)}</span>`}</a>`;
  }

  accountMenu = (/** @type {MouseEvent} */ event) => {
    const box = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
    const roles = (who()?.roles ?? []).map((role) => t(`role.${role}`)).join(" · ");
    const light = document.documentElement.dataset.theme === "light";
    openMenu(
      box.right - 230,
      box.bottom + 4,
      [
        { label: t(light ? "act.dark" : "act.light"), icon: light ? "moon" : "sun", do: () => this.theme(light ? "dark" : "light") },
        { label: t("act.password"), icon: "key", do: () => void import("./signin/account.js").then(({ changePassword }) => changePassword()) },
        { label: t("act.totp"), icon: "shield-lock", do: () => void import("./signin/account.js").then(({ enrolTotp }) => enrolTotp()) },
        { label: t("act.sessions"), icon: "pc-display", do: () => void import("./signin/account.js").then(({ mySessions }) => mySessions()) },
        { label: t("act.sign_out"), icon: "box-arrow-right", do: () => void attempt(() => signOut()) },
      ],
      roles,
    );
  };

  /** @param {string} theme */
  theme(theme) {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem(THEME, theme);
    dispatchEvent(new CustomEvent("fh-theme"));
  }

  banner() {
    if (!live.stale) return nothing;
    return html`<div class="banner" role="alert" id="stale"><wa-icon name="wifi-off"></wa-icon>${t("live.lost", { at: clockTime(live.lastFrame * 1000 + offBy() * 1e6) })}
      <button class="small" @click=${() => live.hurry()}>${t("act.retry")}</button></div>`;
  }
}
customElements.define("fh-app", App);
