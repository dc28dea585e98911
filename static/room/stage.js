// @ts-check
// In the room: tiles as a grid, one large with a strip, or 1+N; the bar of controls; the side.
//
// Whom everybody sees first says the meeting's row: the broadcast site before all, then a shared screen, one's own pin, the
// polled site, the spotlight, who speaks.

import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { post } from "../api.js";
import { t } from "../i18n.js";
import { openDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import { attempt, toast } from "../parts/toast.js";
import { who } from "../session.js";
import { controlOf, hand, held, placeOf, rollCallOf, shownNow } from "./control.js";
import { ordered } from "./members.js";
import { problems } from "./prejoin.js";
import "./side.js";
import { tile } from "./tile.js";

const KEY = "fenghuo.room.layout";
const OWN_LAYOUTS = ["grid", "speaker", "one_plus_n"];
const LAYOUT_ICON = /** @type {Record<string, string>} */ ({ grid: "grid-fill", speaker: "person-square", one_plus_n: "grid-1x2-fill" });
export const GRID_MAX = 25;

export class Stage extends Part {
  static follows = ["organisation", "room", "meeting", "roll_call", "attendance"];
  static properties = { call: { attribute: false }, chairs: { attribute: false }, layout: { state: true }, pinned: { state: true }, leaf: { state: true } };
  constructor() {
    super();
    /** @type {import("./call.js").Call | null} */
    this.call = null;
    this.chairs = false;
    const kept = localStorage.getItem(KEY) ?? "grid";
    this.layout = OWN_LAYOUTS.includes(kept) ? kept : "grid";
    this.pinned = "";
    /** Which leaf of the side is open, "" for none. */
    this.leaf = matchMedia("(min-width: 1200px)").matches ? "people" : "";
    /** Who had the large place last. */
    this.large = "";
  }

  connectedCallback() {
    super.connectedCallback();
    const { call } = this;
    if (!call) return;
    this.until(call.onChange((news, detail) => (news === "refused" && toast(detail.text, "warn"), this.requestUpdate())));
    this.until(call.local.onChange(() => this.requestUpdate()));
    const key = (/** @type {KeyboardEvent} */ event) => this.key(event);
    addEventListener("keydown", key);
    this.until(() => removeEventListener("keydown", key));
  }

  get control() {
    return controlOf(this.call?.room ?? "");
  }

  /** M, V, H: microphone, camera, hand. Not while something is being typed. @param {KeyboardEvent} event */
  key(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || document.querySelector("dialog[open]")) return;
    if (target.closest("input, select, textarea, [contenteditable]")) return;
    const letter = event.key.toLowerCase();
    if (letter === "m") this.microphone();
    if (letter === "v") void this.call?.local.toggle("video");
    if (letter === "h" && this.call) void hand(this.call.room);
  }

  /** On or off; or, while only the chair opens microphones, a word about that. */
  microphone() {
    const { call } = this;
    if (!call) return;
    if (call.own && held(this.control, call.own) && !call.local.on("audio")) return toast(t("error.room.microphones"), "info");
    void call.local.toggle("audio");
  }

  /** @param {string} layout */
  arrange(layout) {
    this.layout = layout;
    localStorage.setItem(KEY, layout);
  }

  /** @param {string} member */
  pin(member) {
    this.pinned = this.pinned === member ? "" : member;
    if (this.pinned && this.layout === "grid") this.arrange("speaker");
  }

  /** The layout that holds now: the chair's, else one's own; one site for everybody is never a grid. */
  get arrangement() {
    const { control, call } = this;
    const shared = call && [...call.members.values()].some((member) => call.screen(member));
    const chosen = control && control.layout !== "free" ? control.layout : this.layout;
    return (shared || this.shown()) && chosen === "grid" ? "speaker" : chosen;
  }

  /** The account that the chair shows to this screen now, or "". */
  shown() {
    const { control } = this;
    if (control?.broadcast) return String(control.broadcast);
    const poll = control?.poll;
    return poll?.current && (poll.audience === "all" || this.chairs) ? String(poll.current) : "";
  }

  /** Who has the large place. @param {import("./call.js").Member[]} members */
  chief(members) {
    const { call, control } = this;
    const others = members.filter((member) => member.id !== call?.me);
    const of = (/** @type {string | null | undefined} */ account) => others.find((member) => account && member.account === account);
    const find = (/** @type {string | null | undefined} */ id) => members.find((member) => member.id === id);
    const speaker = call?.speaker !== call?.me ? call?.speaker : "";
    const shared = members.find((member) => call?.screen(member));
    const chief = of(control?.broadcast) ?? shared ?? find(this.pinned) ?? of(this.shown()) ?? of(control?.spotlight[0]) ?? find(speaker) ?? find(this.large) ?? others[0] ?? members[0];
    this.large = chief?.id ?? "";
    return chief;
  }

  settings() {
    const { call } = this;
    if (!call) return;
    openDialog({
      title: () => t("room.settings"),
      size: "narrow",
      name: "devices",
      body: () => html`<div class="body stack"><fh-room-devices .local=${call.local}></fh-room-devices></div>`,
    });
  }

  render() {
    const { call } = this;
    if (!call) return nothing;
    return html`<div class="stage ${this.leaf ? "with-list" : ""}" data-layout=${this.arrangement}>
      ${this.notices(call)}
      <div class="stage-tiles">${call.phase === "door" ? this.atDoor() : this.tiles(call)}</div>
      ${this.leaf
        ? html`<aside class="panel stage-list" aria-label=${t("meeting.side")}><fh-room-side .call=${call} .chairs=${this.chairs} .leaf=${this.leaf} @leaf=${(/** @type {CustomEvent<string>} */ event) => (this.leaf = event.detail)}></fh-room-side></aside>`
        : nothing}
      ${this.bar(call)}
    </div>`;
  }

  atDoor() {
    return html`<div class="empty" role="status" id="at-door"><wa-icon name="door-open"></wa-icon><p>${t("meeting.at_door")}</p><span class="spinner big" aria-hidden="true"></span></div>`;
  }

  /** @param {import("./call.js").Call} call */
  notices(call) {
    const own = call.own;
    const { control } = this;
    const mine = who()?.account ?? "";
    const mode = own && held(control, own);
    const roll = rollCallOf(call.room);
    const asked = roll?.called.some((/** @type {any} */ one) => one.id === mine && (one.reply === "waiting" || one.reply === "absent"));
    const now = shownNow(call.room, this.chairs);
    return html`<div class="stage-notices" aria-live="polite">
      ${call.phase === "joining" ? html`<p class="note-line" role="status"><span class="spinner"></span> ${call.hint || t("room.joining")}</p>` : nothing}
      ${call.phase === "waiting" ? html`<p class="error-line" role="alert"><span class="spinner"></span> ${t("room.waiting")} <button class="small" @click=${() => call.signal.hurry()}>${t("act.retry")}</button></p>` : nothing}
      ${asked ? html`<p class="error-line row" role="alert" id="roll-asked"><wa-icon name="check2-square"></wa-icon>${t("meeting.roll_asked")} <button class="primary" id="roll-here" @click=${() => void attempt(() => post(`/roll-calls/${roll?.id}/answer`, {}))}>${t("meeting.here")}</button></p>` : nothing}
      ${placeOf(control, mine) === "speaking" ? html`<p class="note-line good" id="has-floor"><wa-icon name="mic-fill"></wa-icon> ${t("meeting.you_speak")} <button class="small" @click=${() => void hand(call.room)}>${t("meeting.yield")}</button></p>` : nothing}
      ${mode ? html`<p class="note-line" id="chair-opens">${t("meeting.chair_opens")}</p>` : own?.muted ? html`<p class="note-line">${t("room.you_muted")}</p>` : nothing}
      ${call.dark.has(call.me) ? html`<p class="note-line">${t("room.you_dark")}</p>` : nothing}
      ${now ? html`<p class="note-line" id="shown-now"><wa-icon name="broadcast"></wa-icon> ${now}</p>` : nothing}
      ${this.chairs && control?.waiting.length && this.leaf !== "control" ? html`<p class="note-line"><button class="small" id="see-door" @click=${() => (this.leaf = "control")}>${t("meeting.waiting_n", { n: control.waiting.length })}</button></p>` : nothing}
      ${problems(call.local)}
      ${call.sound.blocked ? html`<button id="hear" class="primary" @click=${() => void call.sound.resume()}><wa-icon name="volume-up-fill"></wa-icon>${t("room.hear")}</button>` : nothing}
    </div>`;
  }

  /** A shared screen as a tile of its own. @param {import("./call.js").Call} call @param {import("./call.js").Member} member */
  screen(call, member) {
    return html`<article class="tile large screen" data-screen=${member.id} aria-label=${t("meeting.screen_of", { name: member.name })}>
      <video .srcObject=${call.screen(member)} .muted=${true} autoplay playsinline></video>
      <footer><span class="grow"><b class="clip"><wa-icon name="display"></wa-icon> ${t("meeting.screen_of", { name: member.name })}</b></span></footer></article>`;
  }

  /** @param {import("./call.js").Call} call */
  tiles(call) {
    const lights = this.control?.spotlight ?? [];
    const lit = (/** @type {import("./call.js").Member} */ member) => Number(lights.includes(member.account));
    const members = ordered(call).sort((a, b) => lit(b) - lit(a));
    const one = (/** @type {import("./call.js").Member} */ member, large = false) =>
      tile(call, member, { pinned: this.pinned === member.id, pin: () => this.pin(member.id), large });
    const layout = this.arrangement;
    if (layout === "grid") {
      const shown = members.slice(0, GRID_MAX);
      const more = members.length - shown.length;
      return html`<div class="tiles" data-n=${shown.length}>${repeat(shown, (member) => member.id, (member) => one(member))}</div>
        ${more > 0 ? html`<p class="muted small">${t("room.more", { n: more })}</p>` : nothing}`;
    }
    const chief = this.chief(members);
    const shared = chief && call.screen(chief) && this.control?.broadcast !== chief.account;
    const rest = shared ? members : members.filter((member) => member !== chief);
    const large = html`${repeat(chief ? [chief] : [], (member) => `${member.id}${shared ? "-screen" : ""}`, (member) => (shared ? this.screen(call, member) : one(member, true)))}`;
    if (layout === "one_plus_n") {
      const n = this.control?.layout === "one_plus_n" ? this.control.layout_tiles : 7;
      return html`<div class="one-plus" data-n=${n}>${large}${repeat(rest.slice(0, n), (member) => member.id, (member) => one(member))}</div>`;
    }
    return html`<div class="chief">${large}</div>
      <div class="strip">${repeat(rest, (member) => member.id, (member) => one(member))}</div>`;
  }

  /** @param {import("./call.js").Call} call */
  bar(call) {
    const { local } = call;
    const button = (/** @type {string} */ id, /** @type {string} */ icon, /** @type {string} */ label, /** @type {() => unknown} */ action, tone = "", pressed = /** @type {any} */ (nothing), count = 0) =>
      html`<button id=${id} class="${tone}" title=${label} aria-label=${label} aria-pressed=${pressed} @click=${action}><wa-icon name=${icon}></wa-icon><span>${label}</span>${count ? html`<i class="count">${count}</i>` : nothing}</button>`;
    const [mic, cam] = [local.on("audio"), local.on("video")];
    const place = placeOf(this.control, who()?.account ?? "");
    const forced = this.control && this.control.layout !== "free";
    const next = OWN_LAYOUTS[(OWN_LAYOUTS.indexOf(this.layout) + 1) % OWN_LAYOUTS.length];
    const waiting = this.chairs ? (this.control?.waiting.length ?? 0) : 0;
    return html`<div class="stage-bar panel no-print" role="toolbar" aria-label=${t("room.controls")}>
      ${button("mic", mic ? "mic-fill" : "mic-mute-fill", t(mic ? "room.mute" : "room.unmute"), () => this.microphone(), mic ? "" : "danger")}
      ${button("camera", cam ? "camera-video-fill" : "camera-video-off-fill", t(cam ? "room.camera_off" : "room.camera_on"), () => local.toggle("video"), cam ? "" : "danger")}
      ${navigator.mediaDevices && "getDisplayMedia" in navigator.mediaDevices ? button("share", "display", t(call.shared ? "meeting.unshare" : "meeting.share"), () => void call.share().catch((error) => error.name === "NotAllowedError" || toast(String(error), "bad")), call.shared ? "good" : "", Boolean(call.shared)) : nothing}
      ${button("hand", "hand-index-thumb", t(`meeting.hand.${place}`), () => void hand(call.room), place === "none" ? "" : "good", place !== "none")}
      ${button("devices", "sliders", t("room.settings"), () => this.settings())}
      ${forced ? nothing : button("layout", LAYOUT_ICON[this.layout], t(`room.layout.${next}`), () => this.arrange(next))}
      ${button("chat", "chat-left-text", t("meeting.leaf.chat"), () => (this.leaf = this.leaf === "chat" ? "" : "chat"), "", this.leaf === "chat")}
      ${button("people", "people-fill", t("room.members_n", { n: call.members.size }), () => (this.leaf = this.leaf === "people" ? "" : "people"), "", this.leaf !== "", this.control?.hands.length + waiting)}
      ${button("leave", "telephone-x-fill", t("room.leave"), () => call.leave(), "danger solid")}
    </div>`;
  }
}
customElements.define("fh-room-stage", Stage);
