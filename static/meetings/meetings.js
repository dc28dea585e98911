// @ts-check
// Scheduled meetings: those to come, those that were, and the form that calls one.
//
// Resolves nobody and sends nothing itself: the server invites, reminds and opens the room.

import { html, nothing } from "lit";
import { BASE, post, send } from "../api.js";
import { now } from "../clock.js";
import { fromInput, inputTime, organisationName, personName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { formDialog, reasonDialog } from "../parts/dialog.js";
import { Part, styleSheet } from "../parts/part.js";
import { busy, empty, stateBadge } from "../parts/small.js";
import { toast } from "../parts/toast.js";
import "../parts/table.js";
import { chairs } from "../room/control.js";
import { elsewhere, host, way } from "../room/elsewhere.js";
import { may } from "../session.js";
import { guests, when } from "./planned.js";

const MINUTE_US = 60e6;
const REMIND_MIN = [0, 5, 15, 30, 60, 1440];
const LENGTH_MIN = 60;

/** @param {FormData} data @param {string} name */
const all = (data, name) => data.getAll(name).map(String).filter(Boolean);

/** What the form says. @param {FormData} data */
function bodyOf(data) {
  const remind = Number(data.get("remind"));
  return {
    title: String(data.get("title")).trim(),
    agenda: String(data.get("agenda")).trim(),
    starts_at: fromInput(String(data.get("starts_at"))),
    ends_at: fromInput(String(data.get("ends_at"))),
    persons: all(data, "persons"),
    groups: all(data, "groups"),
    on_duty: all(data, "on_duty"),
    notify: data.get("notify") === "on",
    remind_before_s: remind ? remind * 60 : null,
  };
}

/** @param {string} name @param {string} label @param {{id: string, text: string}[]} options @param {string[]} chosen */
const many = (name, label, options, chosen) => html`<fieldset class="field"><legend class="label">${label}</legend>
  <div class="choices" role="group">${options.map(({ id, text }) => html`<label class="check"><input type="checkbox" name=${name} value=${id} .checked=${chosen.includes(id)} /> ${text}</label>`)}</div></fieldset>`;

/** @param {Record<string, any>} row */
function fields(row) {
  const organisations = live.rows("organisation").filter((one) => !one.retired);
  const groups = live.rows("group").filter((one) => !one.retired);
  const persons = live.rows("person").filter((one) => !one.retired);
  const text = (/** @type {Record<string, any>} */ one) => `${one.name} · ${organisationName(one.organisation)}`;
  return html`<div class="stack">
    <label class="field"><span class="label required">${t("label.title")}</span><input name="title" maxlength="100" required autofocus .value=${row.title} /></label>
    <div class="row wrap"><label class="field grow"><span class="label required">${t("meeting.starts_at")}</span><input type="datetime-local" name="starts_at" required .value=${inputTime(row.starts_at)} /></label>
      <label class="field grow"><span class="label required">${t("meeting.ends_at")}</span><input type="datetime-local" name="ends_at" required .value=${inputTime(row.ends_at)} /></label></div>
    <label class="field"><span class="label">${t("meeting.agenda")}</span><textarea name="agenda" rows="2" maxlength="4000" .value=${row.agenda}></textarea></label>
    <div class="row wrap top">
      ${many("on_duty", t("meeting.on_duty"), organisations.map((one) => ({ id: one.id, text: organisationName(one.id) })), row.on_duty)}
      ${many("groups", t("meeting.groups"), groups.map((one) => ({ id: one.id, text: text(one) })), row.groups)}
      ${many("persons", t("meeting.persons"), persons.map((one) => ({ id: one.id, text: `${personName(one.id)} · ${organisationName(one.organisation)}` })), row.persons)}
    </div>
    <div class="row wrap"><label class="field"><span class="label">${t("meeting.remind")}</span><select name="remind">
        ${REMIND_MIN.map((min) => html`<option value=${min} .selected=${(row.remind_before_s ?? 0) === min * 60}>${min ? t("meeting.minutes_before", { n: min }) : t("meeting.no_reminder")}</option>`)}</select></label>
      <label class="check"><input type="checkbox" name="notify" checked /> ${t("meeting.notify")}</label></div>
  </div>`;
}

/** Call a meeting, or change one. @param {Record<string, any>} [row] @param {string} [incident] */
export async function scheduleMeeting(row, incident) {
  const start = Math.ceil((now() + 30 * MINUTE_US) / (30 * MINUTE_US)) * 30 * MINUTE_US;
  const draft = row ?? { title: "", agenda: "", starts_at: start, ends_at: start + LENGTH_MIN * MINUTE_US, persons: [], groups: [], on_duty: [], remind_before_s: 900 };
  const receipt = await formDialog({
    title: () => t(row ? "meeting.edit" : "meeting.schedule"),
    name: "schedule",
    size: "wide",
    label: () => t(row ? "act.save" : "meeting.call"),
    fields: () => fields(draft),
    send: (data) => {
      const body = bodyOf(data);
      if (row) return send("PATCH", `/meetings/${row.id}`, { ...body, version: row.version });
      return post("/meetings", { ...body, ...(incident ? { incident } : {}), utc_offset_min: -new Date(draft.starts_at / 1000).getTimezoneOffset() });
    },
  });
  if (receipt) toast(t(row ? "meeting.saved" : "meeting.called"), "good");
  return receipt;
}

/** @param {Record<string, any>} row */
const cancel = (row) =>
  reasonDialog({
    title: () => t("meeting.cancel"),
    text: () => html`<p>${row.title} · ${when(row)}</p>`,
    label: () => t("meeting.cancel"),
    tone: "danger",
    send: (reason) => post(`/meetings/${row.id}/cancel`, { version: row.version, reason }),
  });

class MeetingsPage extends Part {
  static follows = ["schedule", "organisation", "person", "account", "room", "node"];
  constructor() {
    super();
    styleSheet("/static/room/room.css");
    /** @type {Record<string, string>} */
    this.params = {};
    /** @type {Record<string, string>} */
    this.query = {};
  }

  topics() {
    return ["meetings"];
  }

  render() {
    if (!live.ready("meetings")) return busy();
    const rows = live.rows("schedule");
    const open = rows.filter((row) => row.state === "planned" || row.state === "opened").sort((a, b) => a.starts_at - b.starts_at);
    const past = rows.filter((row) => row.state === "held" || row.state === "cancelled").sort((a, b) => b.starts_at - a.starts_at);
    return html`<div class="page stack meetings">
      <section class="panel"><header><h2>${t("meeting.upcoming")} <span class="count">${open.length}</span></h2>
          ${may("room.open") ? html`<button class="primary small" id="schedule" @click=${() => void scheduleMeeting()}><wa-icon name="calendar2-plus"></wa-icon>${t("meeting.schedule")}</button>` : nothing}</header>
        ${open.length ? html`<ul class="plain-list" id="upcoming">${open.map((row) => this.one(row))}</ul>` : empty("calendar-event", t("meeting.none"))}
      </section>
      ${past.length ? html`<section class="panel"><header><h2>${t("meeting.past")} <span class="count">${past.length}</span></h2></header><ul class="plain-list" id="past">${past.map((row) => this.one(row))}</ul></section>` : nothing}
    </div>`;
  }

  /** @param {Record<string, any>} row */
  one(row) {
    const edits = row.state === "planned" && chairs(row.id) && !elsewhere(row);
    return html`<li class="row wrap" data-meeting=${row.id} data-state=${row.state}>
      <div class="grow"><b class="clip">${row.title}</b>
        <div class="small"><span class="num">${when(row)}</span> · ${organisationName(row.organisation)} · ${t("meeting.invited_n", { n: row.people.length })}</div>
        ${row.people.length ? html`<div class="small muted clip">${guests(row)}</div>` : nothing}${host(row)}</div>
      ${stateBadge("meeting.state", row.state)}
      ${edits ? html`<button class="small" data-act="edit" @click=${() => void scheduleMeeting(row)}>${t("act.edit")}</button>
        <button class="small" data-act="cancel" @click=${() => void cancel(row)}>${t("meeting.cancel")}</button>` : nothing}
      <a class="button small" href=${`${BASE}/meetings/${row.id}/calendar`} download aria-label=${t("meeting.calendar")} title=${t("meeting.calendar")}><wa-icon name="calendar3"></wa-icon></a>
      ${elsewhere(row) ? html`<a class="button small" href=${`#/room/${row.id}`}>${t("act.open")}</a>` : nothing}
      ${way(row, t(row.state === "opened" ? "incident.room_enter" : "act.open"))}
    </li>`;
  }
}
customElements.define("fh-meetings-page", MeetingsPage);
