// @ts-check
// What remains of a meeting: who was there, and the minutes. Shown in the room and after it.

import { html, nothing } from "lit";
import { BASE, send } from "../api.js";
import { now } from "../clock.js";
import { clockTime, duration, joined, organisationName, personName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { Part } from "../parts/part.js";
import { attempt } from "../parts/toast.js";
import { attendanceOf } from "./control.js";

export class Record extends Part {
  static follows = ["attendance", "minutes", "organisation", "schedule", "person"];
  static properties = { room: { attribute: false }, chairs: { attribute: false }, typed: { state: true } };
  constructor() {
    super();
    this.room = "";
    this.chairs = false;
    /** What is being written and not saved yet, or null. @type {string | null} */
    this.typed = null;
  }

  async save() {
    const row = live.row("minutes", this.room);
    const saved = await attempt(() => send("PUT", `/rooms/${this.room}/minutes`, { version: row?.version ?? null, text: this.typed ?? "" }), () => t("meeting.minutes_saved"));
    if (saved) this.typed = null;
  }

  render() {
    const rows = attendanceOf(this.room);
    const minutes = live.row("minutes", this.room);
    const came = new Set(rows.map((row) => row.person));
    const missed = (live.row("schedule", this.room)?.people ?? []).filter((/** @type {string} */ id) => !came.has(id));
    const measured = (/** @type {any} */ was) => t("meeting.stay", { rate: Math.round(was.bitrate_bps / 1000), lost: (was.lost_permille / 10).toFixed(1), rtt: was.rtt_ms, freezes: was.freezes }) + (was.sent_video_bps || was.sent_audio_bps ? ` · ${t("room.way.up", { rate: `${Math.round((was.sent_audio_bps + was.sent_video_bps) / 1000)} kbit/s`, lost: (Math.max(was.sent_audio_lost_permille, was.sent_video_lost_permille) / 10).toFixed(1) })}` : "");
    const total = (/** @type {any} */ row) => (row.total_us + (row.present ? Math.max(0, now() - row.spans[row.spans.length - 1].joined_at) : 0)) / 1e6;
    return html`<section class="record">
      <h3>${t("meeting.minutes")}</h3>
      ${this.chairs
        ? html`<textarea id="minutes" rows="6" maxlength="4000" aria-label=${t("meeting.minutes")} .value=${this.typed ?? minutes?.text ?? ""} @input=${(/** @type {any} */ event) => (this.typed = event.target.value)}></textarea>
          <div class="row"><button class="small primary" id="save-minutes" ?disabled=${this.typed === null} @click=${() => void this.save()}>${t("act.save")}</button></div>`
        : html`<p class="prose">${minutes?.text || html`<span class="muted">${t("meeting.no_minutes")}</span>`}</p>`}
      <h3>${t("meeting.attendance")} <span class="count">${rows.length}</span>
        ${rows.length ? html`<a class="button small" href=${`${BASE}/rooms/${this.room}/attendance`} download>CSV</a>` : nothing}</h3>
      <ul class="member-list" id="attendance">${rows.map((row) => html`<li><span class="grow"><span class="clip">${row.name}</span><span class="clip small muted">${organisationName(row.site)}</span>
          ${row.quality ? html`<span class="clip small muted num" data-quality>${measured(row.quality)}</span>` : nothing}</span>
        <span class="small num">${clockTime(row.spans[0]?.joined_at)}</span><span class="small num ${row.present ? "good" : "muted"}">${duration(total(row))}</span></li>`)}</ul>
      ${missed.length ? html`<h3>${t("meeting.missed")} <span class="count">${missed.length}</span></h3><p class="muted" id="missed">${joined(missed.map(personName))}</p>` : nothing}
    </section>`;
  }
}
customElements.define("fh-room-record", Record);
