// @ts-check
// The frame of the field page on a phone: sign-in, connection, language, account. Opens without a network as long as
// somebody was signed in on this phone before.
//
// Never sends anything by itself. Invariant: while the server hasn't confirmed the session, the screen says so.

import "../icons.js";
import "@awesome.me/webawesome/dist/components/icon/icon.js";
import { html, nothing } from "lit";
import { keyed } from "lit/directives/keyed.js";
import { onEnded } from "../api.js";
import { eachSecond } from "../clock.js";
import { clockTime } from "../format.js";
import { language, t } from "../i18n.js";
import { live } from "../live.js";
import { confirmDialog } from "../parts/dialog.js";
import { openMenu } from "../parts/menu.js";
import { Part } from "../parts/part.js";
import { attempt } from "../parts/toast.js";
import { become, chooseLanguage, forget, load, may, onSession, signOut, who } from "../session.js";
import "../signin/signin.js";
import "./field.js";
import { beginField } from "./field.js";
import { lastAccount, restore } from "./memory.js";
import { outbox } from "./outbox.js";

const AGAIN_MS = 4000;
const THEME = "fenghuo.theme";
document.documentElement.dataset.theme = localStorage.getItem(THEME) ?? "dark";

class FieldShell extends Part {
  static properties = { loaded: { state: true }, confirmed: { state: true }, room: { state: true } };

  constructor() {
    super();
    this.loaded = false;
    this.confirmed = false;
    /** The room that the address names (#/room/ID), shown in place of the tabs; "" for none. */
    this.room = "";
    /** When the rows on the screen were fresh, in milliseconds; 0 when they come from the feed. */
    this.keptAt = 0;
    /** @type {(() => void) | null} */
    this._release = null;
  }

  connectedCallback() {
    super.connectedCallback();
    beginField();
    this.until(onSession(() => this.changed()));
    this.until(live.onStatus(() => this.requestUpdate()));
    this.until(eachSecond(() => !live.connected && this.requestUpdate()));
    this.until(live.follow(["order"], () => live.ready("picture") && (this.keptAt = 0)));
    onEnded(() => who() && forget());
    live.onRefused = (code) => void (code === 4401 ? forget() : this.confirm());
    const go = () => void this.go();
    addEventListener("hashchange", go);
    this.until(() => removeEventListener("hashchange", go));
    void this.go();
    void this.begin();
  }

  /** Into a room, or back: the page of the desk does here too. */
  async go() {
    const room = /^#\/room\/([\w.-]+)$/.exec(location.hash)?.[1] ?? "";
    if (room) await import("../room/room.js");
    this.room = room;
  }

  async begin() {
    const last = await lastAccount();
    if (last && !who()) {
      become({ ...last, now: Date.now() * 1000 });
      this.keptAt = await restore(last.account);
      this.loaded = true;
    }
    await this.confirm();
  }

  /** Ask the server who we are, as long as it takes. */
  async confirm() {
    try {
      await load();
      this.confirmed = true;
      this.loaded = true;
    } catch {
      setTimeout(() => void this.confirm(), AGAIN_MS);
    }
  }

  changed() {
    const signedIn = who() !== null && !who()?.limited;
    if (signedIn && !this._release) {
      this._release = live.subscribe("picture");
      live.start();
    } else if (!signedIn && this._release) {
      this._release();
      this._release = null;
      live.stop();
    }
    this.requestUpdate();
  }

  render() {
    if (!this.loaded && !who()) return html`<div class="cover"><span class="spinner big" role="status" aria-label=${t("word.loading")}></span></div>`;
    if (!who() || who()?.limited) return html`<fh-signin></fh-signin>`;
    return html`<header class="field-top">
        <span class="brand"><img src="/static/beacon.svg" alt="" width="26" height="26" /><span class="where clip">${who()?.unit?.name ?? who()?.person?.name ?? who()?.name}</span></span>
        <span class="grow"></span>
        <div class="tools">${this.connection()}
          <button class="plain" id="language" lang=${language() === "zh" ? "en" : "zh"} @click=${() => void attempt(() => chooseLanguage(language() === "zh" ? "en" : "zh"))}>${language() === "zh" ? "EN" : "中文"}</button>
          <button class="plain icon" id="account" aria-haspopup="menu" aria-label=${t("field.account")} @click=${this.menu}><wa-icon name="person-circle"></wa-icon></button>
        </div>
      </header>
      ${this.offline()}
      <main id="main" tabindex="-1">${this.room ? this.inRoom() : may("location.report") || may("order.progress") ? html`<fh-field-page></fh-field-page>` : html`<p class="error-line">${t("error.rights.denied")}</p>`}</main>`;
  }

  inRoom() {
    return html`<a class="button field-back" id="back" href="#/"><wa-icon name="arrow-left-short"></wa-icon>${t("field.back")}</a>
      ${keyed(this.room, html`<fh-room-page .params=${{ id: this.room }}></fh-room-page>`)}`;
  }

  connection() {
    const state = live.connected && !live.stale ? "good" : this.confirmed && !live.stale ? "warn" : "bad";
    return html`<span class="link-state ${state}" role="status"><i></i><span>${t(`live.${state}`)}</span></span>`;
  }

  offline() {
    if (live.connected && !live.stale) return nothing;
    const since = this.keptAt || live.lastFrame;
    return html`<div class="offline" id="stale" role="status"><wa-icon name="wifi-off"></wa-icon><span class="grow">${since ? t("field.offline", { at: clockTime(since * 1000) }) : t("field.connecting")}</span>
      <button class="small" @click=${() => live.hurry()}>${t("act.retry")}</button></div>`;
  }

  menu = (/** @type {MouseEvent} */ event) => {
    const box = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
    const light = document.documentElement.dataset.theme === "light";
    openMenu(
      box.right - 230,
      box.bottom + 4,
      [
        { label: t(light ? "act.dark" : "act.light"), icon: light ? "moon" : "sun", do: () => this.theme(light ? "dark" : "light") },
        { label: t("act.password"), icon: "key", do: () => void import("../signin/account.js").then(({ changePassword }) => changePassword()) },
        { label: t("field.desk"), icon: "display", do: () => location.assign("/") },
        { label: t("act.sign_out"), icon: "box-arrow-right", do: () => void this.leave() },
      ],
      who()?.name ?? "",
    );
  };

  /** @param {string} theme */
  theme(theme) {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem(THEME, theme);
  }

  async leave() {
    const waiting = outbox.waiting().length;
    const sure = !waiting || (await confirmDialog({ title: () => t("act.sign_out"), text: () => html`<p>${t("field.leave_unsent", { n: waiting })}</p>`, label: () => t("act.sign_out"), tone: "danger" }));
    if (sure) await attempt(() => signOut());
  }
}
customElements.define("fh-field-app", FieldShell);

/** Icons that show only later, when there may be no network. */
const ICONS = ["alarm-fill", "arrow-clockwise", "box-arrow-right", "broadcast-pin", "camera", "camera-video", "chat-left-text", "check-circle", "check-lg",
  "check2", "check2-all", "check2-circle", "clock", "cloud-arrow-up", "cloud-slash", "display", "exclamation-diamond", "exclamation-octagon",
  "exclamation-triangle", "geo-alt", "geo-alt-fill", "inbox", "info-circle", "key", "lightning-fill", "list-check", "moon", "pencil-square",
  "person-circle", "person-x", "shield-check", "sun", "wifi-off", "x-lg"];

/** Let the service worker keep what this page has loaded, for the time without a network. */
async function keepShell() {
  await navigator.serviceWorker.register("/static/field/sw.js", { scope: "/field" });
  const worker = (await navigator.serviceWorker.ready).active;
  const loaded = performance.getEntriesByType("resource").map((entry) => new URL(entry.name)).filter((address) => address.origin === location.origin);
  const icons = ICONS.map((name) => `/vendor/bootstrap-icons/icons/${name}.svg`);
  worker?.postMessage({ keep: [...new Set(["/field", ...loaded.map((address) => address.pathname), ...icons])] });
}

if (window.isSecureContext && "serviceWorker" in navigator)
  addEventListener("load", () => setTimeout(() => void keepShell().catch((error) => console.warn("no service worker", error)), 1500));
