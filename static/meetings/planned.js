// @ts-check
// A scheduled meeting before it begins: what, when, who, and how to put it into one's own calendar.

import { html, nothing } from "lit";
import { BASE } from "../api.js";
import { fullTime, joined, organisationName, personName, shortTime } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import "../parts/small.js";
import { nodeName } from "../parts/nodes.js";
import { chairs } from "../room/control.js";
import { elsewhere, way } from "../room/elsewhere.js";

const NAMES_MAX = 30;

/** "11-21 09:00 - 10:30". @param {Record<string, any>} row */
export const when = (row) => `${shortTime(row.starts_at)} – ${shortTime(row.ends_at)}`;

/** Who is invited, in words. @param {Record<string, any>} row */
export function guests(row) {
  const names = row.people.slice(0, NAMES_MAX).map((/** @type {string} */ id) => personName(id));
  const more = row.people.length - names.length;
  return joined([...names, ...(more > 0 ? [t("meeting.and_more", { n: more })] : [])]);
}

/** @param {Record<string, any>} row @param {() => void} begin */
export function planned(row, begin) {
  const chair = live.row("account", row.chair)?.name ?? personName(row.chair);
  return html`<div class="prejoin"><section class="panel" id="planned" data-state=${row.state}>
    <header><wa-icon name="calendar-event"></wa-icon><h2 class="clip">${row.title}</h2><span class="badge">${t(`meeting.state.${row.state}`)}</span></header>
    <div class="body stack">
      <dl class="facts">
        <dt>${t("meeting.when")}</dt><dd title=${fullTime(row.starts_at)}>${when(row)} <fh-countdown .due=${row.starts_at} .settled=${row.state !== "planned"}></fh-countdown></dd>
        <dt>${t("room.chair")}</dt><dd>${chair}</dd>
        <dt>${t("meeting.organiser")}</dt><dd>${organisationName(row.organisation)}</dd>
        ${elsewhere(row) ? html`<dt>${t("room.host")}</dt><dd>${nodeName(row.node)} ${way(row, "")}</dd>` : nothing}
        <dt>${t("meeting.invited")}</dt><dd>${row.people.length ? guests(row) : "—"}</dd>
        ${row.agenda ? html`<dt>${t("meeting.agenda")}</dt><dd class="prose">${row.agenda}</dd>` : nothing}
      </dl>
      <p class="note-line">${t(row.state === "planned" ? "meeting.opens_before" : `meeting.state.${row.state}`)}</p>
    </div>
    <footer class="prejoin-act"><a class="button" href=${`${BASE}/meetings/${row.id}/calendar`} download><wa-icon name="calendar3"></wa-icon>${t("meeting.calendar")}</a>
      ${chairs(row.id) && row.state === "planned" && !elsewhere(row) ? html`<button class="primary" id="begin-meeting" @click=${begin}>${t("meeting.begin")}</button>` : nothing}</footer>
  </section></div>`;
}
