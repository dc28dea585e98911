// @ts-check
// Dialogs: the browser's own `<dialog>` (focus stays inside, Esc closes, the rest is inert), a form in one, a question.
//
// Invariant: the promise of every dialog settles, with null when it was left without an answer.

import { html, nothing, render } from "lit";
import { textOf } from "../api.js";
import { onLanguage, t } from "../i18n.js";

/**
 * @typedef {{close: (result?: any) => void, redraw: () => void, element: HTMLDialogElement, result: Promise<any>}} Opened
 */

/**
 * @param {{title: () => string, body: (dialog: Opened) => unknown, size?: "" | "wide" | "narrow", name?: string}} options
 * @returns {Opened}
 */
export function openDialog({ title, body, size = "", name = "" }) {
  const element = document.createElement("dialog");
  if (size) element.className = size;
  if (name) element.dataset.name = name;
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  /** @type {(value: any) => void} */
  let settle = () => {};
  let answer = null;
  const result = new Promise((done) => (settle = done));
  const close = (/** @type {any} */ value = null) => {
    answer = value;
    element.close();
  };
  const redraw = () => {
    const top = html`<header>
        <h2>${title()}</h2>
        <button class="plain icon" type="button" aria-label=${t("act.close")} title=${t("act.close")} @click=${() => close()}>
          <wa-icon name="x-lg"></wa-icon>
        </button>
      </header>
      ${body(opened)}`;
    render(top, element);
    element.setAttribute("aria-label", title());
  };
  /** @type {Opened} */
  const opened = { close, redraw, element, result };
  const end = onLanguage(redraw);
  element.addEventListener("close", () => {
    end();
    element.remove();
    before?.focus?.();
    settle(answer);
  });
  document.body.append(element);
  redraw();
  element.showModal();
  const begin = () => {
    const first = /** @type {HTMLElement | null} */ (element.querySelector("[autofocus], .body input, .body select, .body textarea"));
    first?.focus();
    return first !== null;
  };
  // A part draws its fields a moment after it was put here; until then there is nothing but the cross to stand on.
  if (!begin()) void /** @type {any} */ (element.querySelector(".dialog-part"))?.updateComplete?.then(begin);
  return opened;
}

/**
 * A form in a dialog. `send` gets the form's data and may throw: the error is shown and the form stays as it is.
 * @param {{title: () => string, fields: (dialog: Opened) => unknown, send: (data: FormData, form: HTMLFormElement) => Promise<any>,
 *   label?: () => string, tone?: "primary" | "danger" | "good", size?: "" | "wide" | "narrow", name?: string,
 *   aside?: (dialog: Opened) => unknown}} options
 * @returns {Promise<any>} what `send` resolved to, or null
 */
export function formDialog({ title, fields, send, label, tone = "primary", size = "", name = "", aside }) {
  let busy = false;
  let error = "";
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    if (busy) return;
    busy = true;
    error = "";
    opened.redraw();
    try {
      const done = await send(new FormData(form), form);
      opened.close(done ?? true);
    } catch (problem) {
      error = textOf(problem);
    }
    busy = false;
    if (opened.element.isConnected) opened.redraw();
  };
  const opened = openDialog({
    title,
    size,
    name,
    body: (dialog) => html`<form class="body" id="dialog-form" @submit=${submit}>
        ${fields(dialog)}
      </form>
      ${error ? html`<p class="error-line dialog-error" role="alert">${error}</p>` : nothing}
      <footer>
        ${aside ? html`<div class="grow">${aside(dialog)}</div>` : nothing}
        <button type="button" @click=${() => dialog.close()}>${t("act.cancel")}</button>
        <button class=${tone} type="submit" form="dialog-form" ?disabled=${busy}>
          ${busy ? html`<span class="spinner" aria-hidden="true"></span>` : nothing}${label ? label() : t("act.send")}
        </button>
      </footer>`,
  });
  return opened.result;
}

/**
 * Ask for a reason and do it. Resolves to what `send` gave, or null.
 * @param {{title: () => string, text?: () => unknown, send: (reason: string) => Promise<any>, required?: boolean,
 *   label?: () => string, tone?: "primary" | "danger" | "good"}} options
 */
export function reasonDialog({ title, text, send, required = false, label, tone }) {
  return formDialog({
    title,
    label,
    tone,
    size: "narrow",
    name: "reason",
    fields: () => html`<div class="stack">
      ${text ? html`<div>${text()}</div>` : nothing}
      <label class="field"
        ><span class="label ${required ? "required" : ""}">${t("word.reason")}</span
        ><textarea name="reason" maxlength="4000" ?required=${required} autofocus></textarea>
      </label>
    </div>`,
    send: (data) => send(String(data.get("reason")).trim()),
  });
}

/** A plain question. Resolves to true or null. @param {{title: () => string, text: () => unknown, label?: () => string, tone?: "primary" | "danger" | "good"}} options */
export function confirmDialog({ title, text, label, tone }) {
  return formDialog({ title, label, tone, size: "narrow", name: "confirm", fields: () => text(), send: async () => true });
}
