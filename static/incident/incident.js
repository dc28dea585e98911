// @ts-check
// One incident: what is known, what was decided, who is on it. Follows its own topic while it is open.

import { html, nothing } from "lit";
import { BASE } from "../api.js";
import { colon, fullTime, organisationName, shortTime } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { Part, styleSheet } from "../parts/part.js";
import { busy, empty, exerciseBadge, levelBadge, stateBadge } from "../parts/small.js";
import { decides, nodeName } from "../parts/nodes.js";
import { may } from "../session.js";
import "../parts/dues.js";
import "./facts.js";
import "./orders.js";
import "./ownership.js";
import "./plans.js";
import "./rooms.js";
import { changeLevel, editIncident, stepsOf, takeStep } from "./steps.js";
import "./timeline.js";
import "./write.js";

class IncidentPage extends Part {
  static follows = ["incident", "organisation", "node"];
  static properties = { params: { attribute: false }, query: { attribute: false } };

  constructor() {
    super();
    styleSheet("/static/picture/picture.css");
    styleSheet("/static/incident/incident.css");
    /** @type {Record<string, string>} */
    this.params = {};
  }

  topics() {
    return [`incident/${this.params.id}`];
  }

  connectedCallback() {
    super.connectedCallback();
    this.until(live.onStatus(() => this.requestUpdate()));
  }

  render() {
    const { id } = this.params;
    const row = live.row("incident", id);
    if (live.refused(`incident/${id}`)) return html`<div class="page">${empty("question-circle", t("word.missing_page"), html`<a class="button" href="#/">${t("nav.picture")}</a>`)}</div>`;
    if (!row || !live.ready(`incident/${id}`)) return busy();
    return html`<article class="incident level-${row.level} ${row.exercise ? "is-exercise" : ""}">
      ${this.head(row)}
      <div class="incident-columns">
        <div class="column"><fh-incident-facts .incident=${row}></fh-incident-facts></div>
        <div class="column middle">
          <fh-incident-write class="no-print" .incident=${row}></fh-incident-write>
          <fh-timeline .incident=${row}></fh-timeline>
        </div>
        <div class="column">
          <fh-incident-dues .incident=${row}></fh-incident-dues>
          <fh-late-orders .incident=${row}></fh-late-orders>
          <fh-incident-ownership .incident=${row}></fh-incident-ownership>
          <fh-incident-plans .incident=${row}></fh-incident-plans>
          <fh-incident-orders .incident=${row}></fh-incident-orders>
          <fh-incident-rooms .incident=${row}></fh-incident-rooms>
        </div>
      </div>
    </article>`;
  }

  /** @param {Record<string, any>} row */
  head(row) {
    return html`<header class="incident-head">
      <div class="grow">
        <div class="row wrap">${levelBadge(row.level)}${stateBadge("state", row.state)}${exerciseBadge(row.exercise)}<span class="muted">${t(`category.${row.category}`)}</span></div>
        <h1>${row.title}</h1>
        <div class="row wrap small muted">
          <span>${organisationName(row.organisation)}</span>
          ${live.rows("node").length > 1 ? html`<span id="owner">${t("own.head")}${colon()}<b>${nodeName(row.owner)}</b></span>` : nothing}
          <span>${t("incident.occurred")} <time title=${fullTime(row.occurred_at)}>${shortTime(row.occurred_at)}</time></span>
          <span>${t("incident.reported")} <time title=${fullTime(row.reported_at)}>${shortTime(row.reported_at)}</time> · <fh-ago .at=${row.reported_at}></fh-ago></span>
          <span>${t("word.version", { n: row.version })}</span>
        </div>
      </div>
      <div class="row wrap no-print incident-actions">
        ${stepsOf(row).map((step, i) => html`<button class=${i === 0 ? "primary" : step === "dismiss" ? "danger" : ""} data-step=${step} @click=${() => void takeStep(row, step)}>${t(`step.${step}`)}</button>`)}
        ${decides("incident.level", row) && row.open ? html`<button id="level" @click=${() => void changeLevel(row)}><wa-icon name="arrow-down-up"></wa-icon>${t("incident.level")}</button>` : nothing}
        ${decides("incident.edit", row) ? html`<button id="edit" @click=${() => void editIncident(row)}><wa-icon name="pencil"></wa-icon>${t("act.edit")}</button>` : nothing}
        <button class="icon" title=${t("act.print")} aria-label=${t("act.print")} @click=${() => print()}><wa-icon name="printer"></wa-icon></button>
        ${may("incident.export", row)
          ? html`<a class="button icon" title=${t("incident.export")} aria-label=${t("incident.export")} href=${`${BASE}/audit/export?${new URLSearchParams({ subject: `incident/${row.id}` })}`} download><wa-icon name="download"></wa-icon></a>`
          : nothing}
      </div>
    </header>`;
  }
}
customElements.define("fh-incident-page", IncidentPage);

