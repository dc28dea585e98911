// @ts-check
// Before joining: which camera and microphone, how one looks and sounds, and plain words when one of them can't be had.

import { html, nothing } from "lit";
import { tOr, t } from "../i18n.js";
import { Part } from "../parts/part.js";
import { KINDS, NONE, lists } from "./devices.js";
import { meter } from "./meter.js";

/** @typedef {import("./devices.js").Kind} Kind */

export const ICON = { audio: "mic", video: "camera-video" };
const OFF = { audio: "mic-mute", video: "camera-video-off" };
const BARS = 16;

/** What is wrong with a device, in words. @param {import("./local.js").Local} local */
export const problems = (local) =>
  KINDS.filter((kind) => local.problems[kind]).map(
    (kind) => html`<p class="error-line room-problem" role="alert" data-problem=${`${kind}.${local.problems[kind]}`}>
      <wa-icon name=${OFF[kind]}></wa-icon>${t(`room.problem.${local.problems[kind]}`, { what: t(`room.${kind}`) })}
    </p>`,
  );

/** The choice of devices, before joining and in the call. */
export class Devices extends Part {
  static properties = { local: { attribute: false }, found: { state: true } };
  constructor() {
    super();
    /** @type {import("./local.js").Local | null} */
    this.local = null;
    /** @type {Record<Kind, MediaDeviceInfo[]>} */
    this.found = { audio: [], video: [] };
  }

  connectedCallback() {
    super.connectedCallback();
    const look = () => void lists().then((found) => (this.found = found));
    navigator.mediaDevices?.addEventListener("devicechange", look);
    this.until(() => navigator.mediaDevices?.removeEventListener("devicechange", look));
    if (this.local) this.until(this.local.onChange(() => (look(), this.requestUpdate())));
    look();
  }

  /** @param {Kind} kind */
  pick(kind) {
    const { local } = this;
    if (!local) return nothing;
    const chosen = local.chosen[kind] === NONE ? NONE : local.last[kind] || local.chosen[kind];
    const choose = (/** @type {any} */ event) => void local.choose(kind, event.target.value);
    return html`<label class="field"><span class="label"><wa-icon name=${ICON[kind]}></wa-icon> ${t(`room.${kind}`)}</span>
      <select name=${kind} ?disabled=${local.busy} @change=${choose}>
        ${this.found[kind].length ? nothing : html`<option value="" .selected=${chosen !== NONE}>${t("room.device.default")}</option>`}
        ${this.found[kind].map((device, i) => html`<option value=${device.deviceId} .selected=${device.deviceId === chosen}>${device.label || t("room.device.number", { n: i + 1 })}</option>`)}
        <option value=${NONE} .selected=${chosen === NONE}>${t(`room.none.${kind}`)}</option>
      </select></label>`;
  }

  render() {
    return html`<div class="stack">${KINDS.map((kind) => this.pick(kind))}</div>`;
  }
}
customElements.define("fh-room-devices", Devices);

/** A bar that follows the voice. */
export class Meter extends Part {
  static properties = { track: { attribute: false }, level: { state: true } };
  constructor() {
    super();
    /** @type {MediaStreamTrack | null} */
    this.track = null;
    this.level = 0;
    this._end = () => {};
  }
  /** @param {Map<string, unknown>} changed */
  willUpdate(changed) {
    if (!changed.has("track")) return;
    this._end();
    this.level = 0;
    this._end = this.track ? meter(this.track, (level) => (this.level = level)) : () => {};
  }
  disconnectedCallback() {
    super.disconnectedCallback();
    this._end();
    this._end = () => {};
  }
  render() {
    const lit = Math.round(this.level * BARS);
    return html`<div class="meter" role="meter" aria-label=${t("room.level")} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(this.level * 100)}>
      ${Array.from({ length: BARS }, (_, i) => html`<i class=${i < lit ? (i > BARS * 0.8 ? "hot" : "on") : ""}></i>`)}
    </div>`;
  }
}
customElements.define("fh-room-meter", Meter);

class Prejoin extends Part {
  static properties = { local: { attribute: false }, room: { attribute: false }, ended: { attribute: false } };
  constructor() {
    super();
    /** @type {import("./local.js").Local | null} */
    this.local = null;
    /** @type {Record<string, any> | undefined} */
    this.room = undefined;
    /** Why the call before ended, or "". */
    this.ended = "";
  }

  connectedCallback() {
    super.connectedCallback();
    if (this.local) this.until(this.local.onChange(() => this.requestUpdate()));
  }

  /** @param {boolean} publish */
  join(publish) {
    this.dispatchEvent(new CustomEvent("join", { detail: publish }));
  }

  preview() {
    const { local } = this;
    if (local?.view) return html`<video class="mirror" .srcObject=${local.view} .muted=${true} autoplay playsinline aria-label=${t("room.preview")}></video>`;
    return html`<div class="empty">${local?.busy ? html`<span class="spinner big"></span>${t("room.asking")}` : html`<wa-icon name="camera-video-off"></wa-icon>${t("room.no_picture")}`}</div>`;
  }

  /** What the button says one joins with. */
  label() {
    const kinds = KINDS.filter((kind) => this.local?.tracks[kind]);
    return t(`room.join.${kinds.length === 2 ? "both" : (kinds[0] ?? "viewer")}`);
  }

  render() {
    const { local } = this;
    if (!local) return nothing;
    const sends = KINDS.some((kind) => local.tracks[kind]);
    return html`<div class="prejoin">
      <section class="panel">
        <header><wa-icon name="camera-video"></wa-icon><h2 class="clip">${this.room?.title || t("nav.room")}</h2></header>
        <div class="body">
          ${this.ended ? html`<p class="note-line" role="status">${tOr(`room.ended.${this.ended}`, this.ended)}</p>` : nothing}
          <div class="prejoin-columns">
            <div class="stack">
              <div class="preview">${this.preview()}</div>
              <fh-room-meter .track=${local.tracks.audio}></fh-room-meter>
            </div>
            <div class="stack">
              <fh-room-devices .local=${local}></fh-room-devices>
              ${problems(local)}
              ${KINDS.some((kind) => local.problems[kind]) ? html`<button class="small" @click=${() => void local.open()}>${t("room.try_again")}</button>` : nothing}
            </div>
          </div>
        </div>
        <footer class="prejoin-act">
          ${sends ? html`<button id="join-viewer" @click=${() => this.join(false)}><wa-icon name="eye"></wa-icon>${t("room.join.viewer")}</button>` : nothing}
          <button id="join" class="primary" ?disabled=${local.busy} @click=${() => this.join(sends)}>
            ${local.busy ? html`<span class="spinner" aria-hidden="true"></span>` : html`<wa-icon name="box-arrow-in-right"></wa-icon>`}${this.label()}
          </button>
        </footer>
      </section>
    </div>`;
  }
}
customElements.define("fh-room-prejoin", Prejoin);
