// @ts-check
// Short messages at the edge of the screen, read out by screen readers. Errors stay until they are closed.

import { html, render } from "lit";
import { textOf } from "../api.js";
import { t } from "../i18n.js";

export const SHOWN_MAX = 5;
const STAYS_MS = 6000;
/** @type {{id: number, tone: string, text: string}[]} */
let toasts = [];
let last = 0;
/** @type {HTMLElement | null} */
let place = null;

function draw() {
  if (!place) {
    place = document.createElement("div");
    place.className = "toasts no-print";
    place.popover = "manual";
    place.setAttribute("role", "status");
    place.setAttribute("aria-live", "polite");
    document.body.append(place);
  }
  const icon = { good: "check-circle", bad: "exclamation-octagon", warn: "exclamation-triangle", info: "info-circle" };
  render(
    toasts.map(
      ({ id, tone, text }) => html`<div class="toast ${tone}" role=${tone === "bad" ? "alert" : "status"}>
        <wa-icon name=${icon[/** @type {keyof typeof icon} */ (tone)] ?? "info-circle"} class=${tone}></wa-icon>
        <div class="grow">${text}</div>
        <button class="plain icon small" aria-label=${t("act.close")} @click=${() => close(id)}><wa-icon name="x-lg"></wa-icon></button>
      </div>`,
    ),
    place,
  );
  if (place.matches(":popover-open")) place.hidePopover(); // again on top: above a dialog that came later
  if (toasts.length) place.showPopover();
}

/** @param {number} id */
function close(id) {
  toasts = toasts.filter((toast) => toast.id !== id);
  draw();
}

/** @param {string} text @param {"good" | "bad" | "warn" | "info"} [tone] */
export function toast(text, tone = "info") {
  const id = ++last;
  toasts = [...toasts, { id, tone, text }].slice(-SHOWN_MAX);
  draw();
  if (tone !== "bad") setTimeout(() => close(id), STAYS_MS);
}

/**
 * Run an action of a button; show its error, or `done` when it went well. Resolves to the result or undefined.
 * @template T @param {() => Promise<T>} action @param {() => string} [done]
 */
export async function attempt(action, done) {
  try {
    const result = await action();
    if (done && result !== null) toast(done(), "good");
    return result;
  } catch (error) {
    toast(textOf(error), "bad");
    return undefined;
  }
}
