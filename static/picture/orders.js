// @ts-check
// Open orders of everything we see: how far each has come, and how long is left for its answer.

import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { orderState } from "../domain.js";
import { partyName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { Part } from "../parts/part.js";
import { heldAbove } from "../parts/nodes.js";
import { empty, exerciseBadge, orderSteps, stateBadge, ticks } from "../parts/small.js";

const UNANSWERED = ["none", "delivered", "read"];

/** Whether nobody has answered yet. @param {Record<string, any>} order */
export const unanswered = (order) => order.owner === "issued" && UNANSWERED.includes(order.progress);

/** The most pressing first. @param {Record<string, any>} a @param {Record<string, any>} b */
export function byUrgency(a, b) {
  const due = (/** @type {Record<string, any>} */ order) => (unanswered(order) ? (order.ack_by ?? Infinity) : (order.due_at ?? Infinity));
  const rank = (/** @type {Record<string, any>} */ order) => (order.overdue ? 0 : order.late ? 1 : unanswered(order) ? 2 : 3);
  return rank(a) - rank(b) || due(a) - due(b);
}

/** The second tick, where the entry of the order is on the screen. @param {Record<string, any>} order */
function heldOf(order) {
  const item = live.row("timeline", order.entry);
  return item ? heldAbove(item) : undefined;
}

/** One order as a card. @param {Record<string, any>} order @param {unknown} [actions] */
export function orderCard(order, actions = nothing) {
  const incident = live.row("incident", order.incident);
  const waiting = unanswered(order);
  return html`<li class="card order ${order.overdue || order.late ? "overdue" : ""}" data-order=${order.id}>
    <div class="row spread">
      <strong class="clip">${partyName(order.assignee)}</strong>
      <span class="row">${ticks(heldOf(order))}${stateBadge("order.state", orderState(order))}</span>
    </div>
    <div class="prose">${order.task}</div>
    <div class="row wrap spread small">
      ${orderSteps(order)}
      ${waiting
        ? html`<fh-countdown .due=${order.ack_by} .label=${t("order.ack")}></fh-countdown>`
        : html`<fh-countdown .due=${order.due_at} .label=${t("order.due")} .settled=${!order.open}></fh-countdown>`}
    </div>
    ${order.last_report ? html`<div class="small muted prose">“${order.last_report}”</div>` : nothing}
    <div class="row spread small muted">
      ${incident ? html`<a class="clip" href=${`#/incident/${incident.id}`}>${incident.title}</a>` : html`<span></span>`}
      <span class="row">${order.urgency === "emergency" ? html`<span class="badge bad">${t("urgency.emergency")}</span>` : nothing}${exerciseBadge(order.exercise)}</span>
    </div>
    ${actions}
  </li>`;
}

class OpenOrders extends Part {
  static follows = ["order", "unit", "person", "organisation", "incident"];
  render() {
    const rows = live.rows("order").filter((order) => order.open).sort(byUrgency);
    const late = rows.filter((order) => order.overdue || order.late).length;
    return html`<header><h2>${t("picture.orders")} <span class="count">${rows.length}</span></h2>
        ${late ? html`<span class="badge bad"><wa-icon name="alarm-fill"></wa-icon>${t("order.late_n", { n: late })}</span>` : nothing}
      </header>
      <ul class="cards">${rows.length ? repeat(rows, (order) => order.id, (order) => orderCard(order)) : empty("flag", t("picture.no_orders"))}</ul>`;
  }
}
customElements.define("fh-open-orders", OpenOrders);
