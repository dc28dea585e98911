// @ts-check
// The small things many screens show: levels, states, ticks, ages, countdowns, nothing-here, progress.

import { html, nothing } from "lit";
import { now } from "../clock.js";
import { AGEING_S, OLD_S, ORDER_STEPS, orderState } from "../domain.js";
import { ageOf, duration, fullTime } from "../format.js";
import { t, tOr } from "../i18n.js";
import { Part } from "./part.js";

/** Colour *and* words: "I 特别重大". @param {string} level */
export const levelBadge = (level) => html`<span class="badge level level-${level}">${level} ${t(`level.${level}`)}</span>`;

const STATE_TONE = /** @type {Record<string, string>} */ ({
  reported: "bad", verified: "warn", responding: "warn", stable: "good", issued: "", delivered: "", read: "",
  accepted: "good", declined: "bad", done: "good", overdue: "bad", requested: "warn", approved: "good", refused: "bad",
  busy: "warn", available: "good", out_of_service: "bad",
});

/** @param {string} kind dictionary prefix, e.g. "state" @param {string} code */
export const stateBadge = (kind, code) => html`<span class="badge ${STATE_TONE[code] ?? ""}">${tOr(`${kind}.${code}`, code)}</span>`;

export const exerciseBadge = (/** @type {boolean} */ exercise) =>
  exercise ? html`<span class="badge exercise">${t("word.exercise")}</span>` : nothing;

/** @param {string} icon @param {string} text @param {unknown} [action] */
export const empty = (icon, text, action = nothing) =>
  html`<div class="empty"><wa-icon name=${icon}></wa-icon><div>${text}</div>${action}</div>`;

/** For what takes more than a second. @param {string} [text] */
export const busy = (text) => html`<div class="empty" role="status"><span class="spinner big" aria-hidden="true"></span>${text ?? t("word.loading")}</div>`;

/** One tick: durable on this node. Two: held by the superior too; null: there is none. @param {boolean | null} [held] */
export function ticks(held) {
  const words = t(held ? "ticks.held" : held === null ? "ticks.alone" : held === false ? "ticks.waits" : "ticks.durable");
  return html`<span class="ticks ${held ? "held" : ""}" role="img" title=${words} aria-label=${words}>${held ? "✓✓" : "✓"}</span>`;
}

/** How far an order has come. @param {Record<string, any>} order */
export function orderSteps(order) {
  const state = orderState(order);
  const reached = state === "declined" || state === "cancelled" ? -1 : ORDER_STEPS.indexOf(state);
  const label = t(`order.state.${state}`);
  return html`<span class="steps" role="img" aria-label=${label} title=${label}
    >${ORDER_STEPS.filter((step) => step !== "reported").map((step) => {
      const at = ORDER_STEPS.indexOf(step);
      return html`<i class=${reached < 0 ? "no" : at <= reached ? "yes" : ""}></i>`;
    })}</span
  >`;
}

/** "3 min 05 s ago", and the instant on hover; goes on counting. */
export class Ago extends Part {
  static ticks = true;
  static properties = { at: { attribute: false }, location: { type: Boolean } };
  constructor() {
    super();
    /** @type {number | null} */
    this.at = null;
    this.location = false;
  }
  render() {
    if (this.at === null || this.at === undefined) return "—";
    const age = ageOf(this.at);
    const old = this.location && age > AGEING_S;
    const tone = old ? (age > OLD_S ? "bad" : "warn") : "";
    return html`<time class="num ${tone}" title=${fullTime(this.at)}
      >${old && age > OLD_S ? html`<wa-icon name="exclamation-triangle" aria-label=${t("word.stale")}></wa-icon> ` : nothing}${t("time.ago", { d: duration(age) })}</time
    >`;
  }
}
customElements.define("fh-ago", Ago);

/** Time left until a deadline, red and counting up after it. `settled` stops it. */
export class Countdown extends Part {
  static ticks = true;
  static properties = { due: { attribute: false }, label: {}, settled: { type: Boolean } };
  constructor() {
    super();
    /** The deadline in microseconds. @type {number | null} */
    this.due = null;
    this.label = "";
    this.settled = false;
  }
  render() {
    if (this.due === null || this.due === undefined || this.settled) return nothing;
    const left = (this.due - now()) / 1e6;
    const tone = left < 0 ? "bad" : left < 120 ? "warn" : "";
    const text = left < 0 ? t("time.over", { d: duration(-left) }) : t("time.left", { d: duration(left) });
    return html`<span class="countdown num ${tone} ${left < 0 ? "over" : ""}" title=${fullTime(this.due)}
      ><wa-icon name=${left < 0 ? "alarm-fill" : "clock"}></wa-icon> ${this.label ? `${this.label} ` : ""}${text}</span
    >`;
  }
}
customElements.define("fh-countdown", Countdown);
