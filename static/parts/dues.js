// @ts-check
// Reports owed upward: which, to whom, until when; the next deadline first, what is overdue marked.
//
// Decides nothing. Invariant: what is shown as owed is an open row of the feed.

import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { fullTime, shortTime } from "../format.js";
import { t } from "../i18n.js";
import { subReport } from "../incident/write.js";
import { live } from "../live.js";
import { dueText } from "./due.js";
import { decides } from "./nodes.js";
import { Part } from "./part.js";
import { exerciseBadge, stateBadge } from "./small.js";

/** The open ones, of one incident or of all; those of incidents that another node owns are that node's. @param {string} [incident] */
export const owed = (incident) =>
  live
    .rows("report_due")
    .filter((due) => due.open && (!incident || due.incident === incident))
    .sort((a, b) => a.due_at - b.due_at);

/** @param {Record<string, any>} due @param {boolean} named whether the incident is said */
function item(due, named) {
  const incident = live.row("incident", due.incident);
  return html`<li class="card due ${due.overdue ? "overdue" : ""}" data-due=${due.id} data-report=${due.report}>
    <div class="row spread"><strong class="clip">${dueText(due)}</strong><fh-countdown .due=${due.due_at}></fh-countdown></div>
    <div class="row wrap spread small muted">
      <span title=${fullTime(due.due_at)}>${t("due.by", { at: shortTime(due.due_at) })}${due.number > 1 ? ` · ${t("due.number", { n: due.number })}` : ""}${due.skip_level ? html` <span class="badge">${t("due.skip_level")}</span>` : nothing}</span>
      <span class="row">${due.overdue ? html`<span class="badge bad">${t("due.overdue")}</span>` : nothing}${exerciseBadge(incident?.exercise)}
        ${incident && decides("incident.edit", incident) ? html`<button class="small" data-act="report" @click=${() => void subReport(incident, due)}>${t("sub_report.new")}</button>` : nothing}</span>
    </div>
    ${named && incident ? html`<a class="small clip" href=${`#/incident/${incident.id}`}>${incident.title}</a>` : nothing}
  </li>`;
}

/** On the picture: everything that is owed. Nothing owed, nothing shown. */
class Dues extends Part {
  static follows = ["report_due", "incident", "organisation"];
  render() {
    const rows = owed();
    if (!rows.length) return nothing;
    const late = rows.filter((due) => due.overdue).length;
    return html`<section class="panel" aria-label=${t("due.title")}>
      <header><h2>${t("due.title")} <span class="count">${rows.length}</span></h2>${late ? html`<span class="badge bad"><wa-icon name="alarm-fill"></wa-icon>${t("order.late_n", { n: late })}</span>` : nothing}</header>
      <ul class="cards">${repeat(rows, (due) => due.id, (due) => item(due, true))}</ul>
    </section>`;
  }
}
customElements.define("fh-dues", Dues);

/** On an incident's page: what is owed, and what was reported. */
class IncidentDues extends Part {
  static follows = ["report_due", "organisation"];
  static properties = { incident: { attribute: false } };
  constructor() {
    super();
    /** @type {Record<string, any>} */
    this.incident = {};
  }
  render() {
    const rows = owed(this.incident.id);
    const past = live.rows("report_due").filter((due) => !due.open && due.incident === this.incident.id).sort((a, b) => b.due_at - a.due_at);
    if (!rows.length && !past.length) return nothing;
    return html`<section class="panel" id="dues">
      <header><h2>${t("due.title")} <span class="count">${rows.length}</span></h2></header>
      ${rows.length ? html`<ul class="cards">${repeat(rows, (due) => due.id, (due) => item(due, false))}</ul>` : nothing}
      ${past.length ? html`<ul class="plain-list small muted">${past.map((due) => html`<li class="row spread" data-due=${due.id} data-state=${due.state}><span>${dueText(due)}</span><span class="row">${due.late || due.state === "missed" ? html`<span class="badge bad">${t("due.overdue")}</span>` : nothing}${stateBadge("due.state", due.state)}<time title=${fullTime(due.done_at ?? due.due_at)}>${shortTime(due.done_at ?? due.due_at)}</time></span></li>`)}</ul>` : nothing}
    </section>`;
  }
}
customElements.define("fh-incident-dues", IncidentDues);
