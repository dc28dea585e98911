// @ts-check
// The base of our components: rendered into the page itself (one style sheet, plain printing, plain tests), redrawn when
// the language changes and when rows change that it follows.

import { LitElement } from "lit";
import { eachSecond } from "../clock.js";
import { onLanguage } from "../i18n.js";
import { live } from "../live.js";

/** @type {Set<string>} */
const linked = new Set();

/** Link a style sheet once. @param {string} address */
export function styleSheet(address) {
  if (linked.has(address)) return;
  linked.add(address);
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = address;
  document.head.append(link);
}

export class Part extends LitElement {
  /** Names of the tables whose changes redraw this part. @type {string[]} */
  static follows = [];
  /** Topics that it keeps subscribed while it is on the page. @returns {string[]} */
  topics() {
    return [];
  }
  /** Whether it redraws every second (ages, countdowns). */
  static ticks = false;

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    const own = /** @type {typeof Part} */ (this.constructor);
    const redraw = () => this.requestUpdate();
    /** @type {(() => void)[]} */
    this._ends = [onLanguage(redraw)];
    if (own.follows.length) this._ends.push(live.follow(own.follows, redraw));
    if (own.ticks) this._ends.push(eachSecond(redraw));
    for (const topic of this.topics()) this._ends.push(live.subscribe(topic));
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    for (const end of this._ends ?? []) end();
    this._ends = [];
  }

  /** End something together with this part. @param {() => void} end */
  until(end) {
    this._ends?.push(end);
  }
}
