// @ts-check
// The page of a room: before its time, before joining, in it, and after it ended. The call itself lives in ongoing.js and
// outlives the page.

import { html, nothing } from "lit";
import { post } from "../api.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { Part, styleSheet } from "../parts/part.js";
import { busy } from "../parts/small.js";
import { attempt } from "../parts/toast.js";
import { planned } from "../meetings/planned.js";
import { who } from "../session.js";
import { closeRoom } from "./chairing.js";
import { chairs } from "./control.js";
import { KINDS } from "./devices.js";
import { elsewhere, there } from "./elsewhere.js";
import { Local } from "./local.js";
import { begin, interrupted, ongoing, resume, showing } from "./ongoing.js";
import "./prejoin.js";
import "./record.js";
import "./stage.js";

const NEWS_MS = 8000;

class RoomPage extends Part {
  static follows = ["room", "incident", "meeting", "schedule", "attendance", "minutes"];
  static properties = { params: { attribute: false }, query: { attribute: false }, call: { state: true }, local: { state: true }, ended: { state: true }, resuming: { state: true }, news: { state: true } };
  constructor() {
    super();
    styleSheet("/static/room/room.css");
    /** @type {{id: string}} */
    this.params = { id: "" };
    /** @type {import("./call.js").Call | null} */
    this.call = null;
    /** Devices for the preview, until they are handed to the call. @type {Local | null} */
    this.local = null;
    this.ended = "";
    this.hint = "";
    this.news = "";
    this._silence = 0;
    this.resuming = false;
  }

  topics() {
    return [`room/${this.params.id}`];
  }

  connectedCallback() {
    super.connectedCallback();
    this.until(showing());
    const call = ongoing();
    const kept = interrupted(this.params.id);
    if (call?.room === this.params.id) this.take(call);
    else if (kept) void this.comeBack(kept);
    else this.prepare();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    if (!this.call) this.local?.close();
    this.local = null;
    this.call = null;
  }

  /** @param {{publish: boolean, audio: boolean, video: boolean}} kept */
  async comeBack(kept) {
    this.resuming = true;
    const call = await resume(this.params.id, kept);
    this.resuming = false;
    if (this.isConnected) this.take(call);
  }

  /** @param {string} [ended] */
  prepare(ended = "") {
    this.call = null;
    this.ended = ended;
    this.local = new Local();
    void this.local.open();
  }

  /** @param {import("./call.js").Call} call */
  take(call) {
    this.call = call;
    this.local = call.local;
    this.until(call.onChange((news, member) => (news === "ended" ? this.over(call) : this.hear(news, member))));
  }

  /** What happened, in one line beside the title: a toast would lie over the controls. @param {string} news @param {any} member */
  hear(news, member) {
    this.requestUpdate();
    if (!news) return;
    this.news = t(`room.news.${news}`, { name: member?.name ?? "" });
    clearTimeout(this._silence);
    this._silence = setTimeout(() => (this.news = ""), NEWS_MS);
  }

  /** @param {import("./call.js").Call} call */
  over(call) {
    if (this.call !== call) return;
    this.call = null;
    this.local = null;
    this.ended = call.reason;
    this.hint = call.hint;
  }

  join = (/** @type {CustomEvent<boolean>} */ event) => {
    const local = this.local;
    if (!local) return;
    if (!event.detail) for (const kind of KINDS) local.release(kind);
    this.take(begin(this.params.id, local, event.detail));
  };

  get row() {
    return live.row("room", this.params.id);
  }

  /** Whether this person may act as the chair here. */
  get chairs() {
    return chairs(this.params.id);
  }

  render() {
    if (this.resuming || !who()) return busy(t("room.joining"));
    if (this.call) return this.inside(this.call);
    const plan = live.row("schedule", this.params.id);
    if (plan && !this.row) return planned(plan, () => this.begin());
    if (elsewhere(this.row)) return there(this.row ?? {}, html`<fh-room-record .room=${this.params.id} .chairs=${false}></fh-room-record>`);
    if (this.local) return html`<fh-room-prejoin .local=${this.local} .room=${this.row} .ended=${this.ended} @join=${this.join}></fh-room-prejoin>`;
    return this.outside();
  }

  /** A room that has closed, or is held elsewhere, needs no camera. */
  willUpdate() {
    if (this.call || !this.local || !this.row || (this.row.open && !elsewhere(this.row))) return;
    this.local.close();
    this.local = null;
    if (!this.row.open) this.ended ||= "room.closed";
  }

  async begin() {
    await attempt(() => post(`/meetings/${this.params.id}/begin`, {}));
  }

  /** @param {import("./call.js").Call} call */
  inside(call) {
    const incident = live.row("incident", this.row?.incident);
    return html`<div class="room">
      <header class="room-head">
        <h1 class="clip">${this.row?.title || t("nav.room")}</h1>
        ${incident ? html`<a class="clip" href=${`#/incident/${incident.id}`}><wa-icon name="arrow-left-short"></wa-icon>${incident.title}</a>` : nothing}
        <span class="grow clip small room-news" role="status">${this.news}</span>
        ${this.chairs ? html`<button class="small danger" id="close-room" @click=${() => void closeRoom(this.params.id)}>${t("room.close")}</button>` : nothing}
      </header>
      <fh-room-stage .call=${call} .chairs=${this.chairs}></fh-room-stage>
    </div>`;
  }

  /** @param {string} [why] */
  outside(why = this.ended) {
    const known = ["left", "removed", "closed", "session", "room.missing", "room.closed", "room.seats", "room.barred", "room.locked", "rights.denied"];
    const text = known.includes(why) ? t(`room.ended.${why}`) : this.hint;
    const again = !["closed", "room.closed", "room.missing", "rights.denied"].includes(why);
    const incident = this.row?.incident;
    return html`<div class="prejoin"><section class="panel"><div class="empty" role="status" data-ended=${why}>
      <wa-icon name="camera-video-off"></wa-icon><p>${text}</p>
      <div class="row wrap">
        ${again ? html`<button id="again" class="primary" @click=${() => this.prepare()}>${t("room.again")}</button>` : nothing}
        <a class="button" href=${incident ? `#/incident/${incident}` : "#/"}>${t(incident ? "room.to_incident" : "room.to_picture")}</a>
      </div></div>${this.row ? html`<div class="body"><fh-room-record .room=${this.params.id} .chairs=${this.chairs}></fh-room-record></div>` : nothing}</section></div>`;
  }
}
customElements.define("fh-room-page", RoomPage);
export default {};
