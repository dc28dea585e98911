// @ts-check
// The roster, a week at a time: posts down, days across, shifts as bars.
//
// Decides nothing about who may stand where. Invariant: an edit names every shift that it replaces as it was read; when
// somebody else was faster, both versions are shown.

import { html, nothing } from "lit";
import { styleMap } from "lit/directives/style-map.js";
import { ApiError, post, send, textOf } from "../api.js";
import { now } from "../clock.js";
import { fromInput, fullTime, inputTime, organisationName, personName, shortTime } from "../format.js";
import { language, t, tOr } from "../i18n.js";
import { live } from "../live.js";
import { confirmDialog, formDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import { empty } from "../parts/small.js";
import { attempt, toast } from "../parts/toast.js";
import { may, who } from "../session.js";
import "./choose.js";
import { people } from "./choose.js";
import { addButton, field, head, organisationOptions, text } from "./forms.js";

const DAY_US = 86_400_000_000;
const DAYS = 7;
const POSTS = ["值班员", "带班领导"];
const REPEAT_MAX = 60;

/** Monday 00:00 of this device's week, in microseconds. @param {number} us */
export function weekOf(us) {
  const at = new Date(us / 1000);
  at.setHours(0, 0, 0, 0);
  at.setDate(at.getDate() - ((at.getDay() + 6) % 7));
  return at.getTime() * 1000;
}

/** The same clock time `days` later, also across a change of the clocks. @param {number} us @param {number} days */
export function later(us, days) {
  const at = new Date(us / 1000);
  at.setDate(at.getDate() + days);
  return at.getTime() * 1000;
}

/** Bars that overlap stand in lanes of their own. @param {any[]} shifts @returns {{shift: any, lane: number}[]} */
export function lanes(shifts) {
  /** @type {number[]} */
  const ends = [];
  return [...shifts].sort((a, b) => a.starts_at - b.starts_at).map((shift) => {
    const free = ends.findIndex((end) => end <= shift.starts_at);
    const lane = free < 0 ? ends.length : free;
    ends[lane] = shift.ends_at;
    return { shift, lane };
  });
}

class Roster extends Part {
  static follows = ["shift", "person", "organisation"];
  static properties = { organisation: { state: true }, week: { state: true } };
  constructor() {
    super();
    this.organisation = who()?.organisation?.id ?? "";
    this.week = weekOf(now());
  }

  shifts() {
    const end = later(this.week, DAYS);
    return live.rows("shift").filter((row) => row.organisation === this.organisation && row.starts_at < end && row.ends_at > this.week);
  }

  edits() {
    return may("roster.edit", { organisation: this.organisation });
  }

  render() {
    const shifts = this.shifts();
    const posts = [...new Set([...shifts.map((row) => row.post), ...POSTS])].sort((a, b) => Number(this.leads(b, shifts)) - Number(this.leads(a, shifts)));
    const days = Array.from({ length: DAYS }, (_, day) => later(this.week, day));
    const on = live.rows("shift").filter((row) => row.organisation === this.organisation && row.starts_at <= now() && now() < row.ends_at);
    return html`${head("roster", html`<select class="narrow" id="roster-organisation" aria-label=${t("label.organisation")} @change=${(/** @type {any} */ event) => (this.organisation = event.target.value)}>${organisationOptions(this.organisation)}</select>
        <div class="row"><button class="icon" aria-label=${t("roster.before")} @click=${() => (this.week = later(this.week, -DAYS))}><wa-icon name="chevron-left"></wa-icon></button>
        <button @click=${() => (this.week = weekOf(now()))}>${t("roster.today")}</button>
        <button class="icon" aria-label=${t("roster.after")} @click=${() => (this.week = later(this.week, DAYS))}><wa-icon name="chevron-right"></wa-icon></button></div>
        ${this.edits() ? addButton(() => this.add(posts[0], later(this.week, 0))) : nothing}`)}
      <p class="on-duty">${t("roster.now")}: ${on.length ? on.map((row) => html`<span class="badge ${row.leader ? "warn" : "good"}">${tOr(`post.${row.post}`, row.post)} · ${personName(row.person)}</span> `) : html`<b class="bad">${t("roster.nobody")}</b>`}</p>
      <div class="week" role="table" aria-label=${t("admin.roster")}>
        <div class="week-row header" role="row"><span role="columnheader">${t("roster.post")}</span><div class="track">${days.map((day) => html`<span role="columnheader" class="day ${sameDay(day, now()) ? "today" : ""}">${dayName(day)}</span>`)}</div></div>
        ${posts.map((post) => this.row(post, shifts.filter((row) => row.post === post), days))}
      </div>
      ${shifts.length ? nothing : empty("calendar-x", t("roster.none"))}`;
  }

  /** @param {string} post @param {any[]} shifts */
  leads(post, shifts) {
    return shifts.some((row) => row.post === post && row.leader) || post === POSTS[1];
  }

  /** @param {string} post @param {any[]} shifts @param {number[]} days */
  row(post, shifts, days) {
    const end = later(this.week, DAYS);
    const placed = lanes(shifts);
    const height = Math.max(1, ...placed.map(({ lane }) => lane + 1)) * 38 + 8;
    const at = (/** @type {number} */ us) => (Math.min(1, Math.max(0, (us - this.week) / (end - this.week))) * 100).toFixed(3);
    return html`<div class="week-row" role="row"><span role="rowheader" class="post">${tOr(`post.${post}`, post)}</span>
      <div class="track" style=${styleMap({ height: `${height}px` })}>
        ${days.map((day) => html`<button class="slot" ?disabled=${!this.edits()} aria-label=${`${t("act.add")} ${post} ${dayName(day)}`} @click=${() => this.add(post, day)}></button>`)}
        ${placed.map(({ shift, lane }) => html`<button role="cell" class="bar ${shift.leader ? "leader" : ""}" data-shift=${shift.id} title=${`${personName(shift.person)} ${fullTime(shift.starts_at)} – ${fullTime(shift.ends_at)}`}
          style=${styleMap({ left: `${at(shift.starts_at)}%`, width: `${(Number(at(shift.ends_at)) - Number(at(shift.starts_at))).toFixed(3)}%`, top: `${4 + lane * 38}px` })}
          ?disabled=${!this.edits()} @click=${() => this.edit(shift)}><b class="clip">${personName(shift.person)}</b><span class="clip small">${shortTime(shift.starts_at)}–${shortTime(shift.ends_at)}</span></button>`)}
      </div></div>`;
  }

  /** @param {{post: string, person: string[], starts_at: number, ends_at: number, leader: boolean}} draft @param {() => void} redraw @param {boolean} repeat */
  fields(draft, redraw, repeat) {
    const posts = [...new Set([...live.rows("shift").map((row) => row.post), ...POSTS])];
    return html`<div class="form">
      ${field(t("roster.post"), html`<input name="post" required maxlength="100" list="posts" .value=${draft.post} /><datalist id="posts">${posts.map((post) => html`<option value=${post}></option>`)}</datalist>`, { required: true })}
      <label class="check half"><input type="checkbox" name="leader" ?checked=${draft.leader} />${t("roster.leader")}</label>
      ${field(t("roster.from"), html`<input name="starts_at" type="datetime-local" required .value=${inputTime(draft.starts_at)} />`, { required: true })}
      ${field(t("roster.until"), html`<input name="ends_at" type="datetime-local" required .value=${inputTime(draft.ends_at)} />`, { required: true })}
      ${repeat ? field(t("roster.repeat"), html`<input name="repeat" type="number" min="1" max=${REPEAT_MAX} value="1" required />`, { wide: "" }) : nothing}
      <fieldset><legend>${t("party.person")}</legend><fh-choose single label=${t("party.person")} .options=${people((row) => !row.off_duty)} .value=${draft.person} @change=${(/** @type {CustomEvent} */ event) => { draft.person = event.detail; redraw(); }}></fh-choose></fieldset></div>`;
  }

  /** @param {FormData} data @param {{person: string[]}} draft */
  planned(data, draft) {
    if (!draft.person.length) throw new ApiError(422, "roster.person", "");
    return { post: text(data, "post"), person: draft.person[0], starts_at: fromInput(text(data, "starts_at")) ?? 0, ends_at: fromInput(text(data, "ends_at")) ?? 0, leader: data.has("leader") };
  }

  /** @param {string} post_ @param {number} day */
  add(post_, day) {
    const from = day + 8 * 3600e6;
    const draft = { post: post_, person: /** @type {string[]} */ ([]), starts_at: from, ends_at: from + DAY_US, leader: post_ === POSTS[1] };
    void formDialog({
      title: () => `${t("roster.add")} · ${organisationName(this.organisation)}`,
      name: "shift",
      fields: (dialog) => this.fields(draft, dialog.redraw, true),
      send: (data) => {
        const one = this.planned(data, draft);
        const shifts = Array.from({ length: Number(data.get("repeat")) }, (_, n) => ({ ...one, starts_at: later(one.starts_at, n), ends_at: later(one.ends_at, n) }));
        return post("/shifts", { organisation: this.organisation, shifts });
      },
    });
  }

  /** @param {any} shift */
  edit(shift) {
    const draft = { ...shift, person: [shift.person] };
    void formDialog({
      title: () => `${t("roster.edit")} · ${tOr(`post.${shift.post}`, shift.post)}`,
      name: "shift",
      label: () => t("act.save"),
      fields: (dialog) => this.fields(draft, dialog.redraw, false),
      aside: (dialog) => html`<button type="button" class="danger" data-act="remove" @click=${() => { dialog.close(); void this.drop(shift); }}>${t("act.remove")}</button>`,
      send: (data) => this.replace(shift, this.planned(data, draft)),
    });
  }

  /** @param {any} shift */
  async drop(shift) {
    const text_ = () => html`<p>${tOr(`post.${shift.post}`, shift.post)} · ${personName(shift.person)}<br />${fullTime(shift.starts_at)} – ${fullTime(shift.ends_at)}</p>`;
    if (await confirmDialog({ title: () => t("roster.remove"), text: text_, tone: "danger", label: () => t("act.remove") }))
      await attempt(() => send("DELETE", `/shifts/${shift.id}`, { version: shift.version }), () => t("done.saved"));
  }

  /** One shift gives way to another, in one decision with all that start between. @param {any} shift @param {any} next */
  async replace(shift, next) {
    const since = Math.min(shift.starts_at, next.starts_at);
    const until = Math.max(shift.starts_at, next.starts_at) + 1;
    const standing = live.rows("shift").filter((row) => row.organisation === this.organisation && since <= row.starts_at && row.starts_at < until);
    const seen = standing.some((row) => row.id === shift.id) ? standing : [...standing, shift];
    const plain = ({ post: p, person, starts_at, ends_at, leader }) => ({ post: p, person, starts_at, ends_at, leader });
    const shifts = [...seen.filter((row) => row.id !== shift.id).map(plain), next];
    try {
      return await send("PUT", "/shifts", { organisation: this.organisation, since, until, seen: seen.map(({ id, version }) => ({ id, version })), shifts });
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "version.stale") throw error;
      void this.stale(error.details.current ?? [], shifts);
      return true;
    }
  }

  /** Both versions; the person looks again. @param {any[]} current @param {any[]} yours */
  stale(current, yours) {
    const list = (/** @type {any[]} */ rows) => html`<ul class="stack small">${rows.map((row) => html`<li>${tOr(`post.${row.post}`, row.post)} · <b>${personName(row.person)}</b> · ${shortTime(row.starts_at)}–${shortTime(row.ends_at)}</li>`)}</ul>`;
    toast(textOf(new ApiError(409, "version.stale", "")), "warn");
    return confirmDialog({ title: () => t("conflict.title"), label: () => t("act.close"), text: () => html`<div class="form"><div class="half"><h3>${t("roster.theirs")}</h3>${list(current)}</div><div class="half"><h3>${t("roster.yours")}</h3>${list(yours)}</div></div>` });
  }
}
customElements.define("fh-admin-roster", Roster);

/** @param {number} a @param {number} b */
const sameDay = (a, b) => new Date(a / 1000).toDateString() === new Date(b / 1000).toDateString();
/** @param {number} us */
const dayName = (us) => new Date(us / 1000).toLocaleDateString(language() === "zh" ? "zh-CN" : "en-GB", { weekday: "short", month: "numeric", day: "numeric" });
