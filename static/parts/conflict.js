// @ts-check
// The dialog of a stale edit (409): both versions side by side, field by field, to choose or merge. Nothing is ever
// overwritten unseen.

import { html, nothing } from "lit";
import { ApiError, send } from "../api.js";
import { coordinates, fullTime, joined } from "../format.js";
import { t, tOr } from "../i18n.js";
import { openDialog } from "./dialog.js";

const NOT_FIELDS = new Set(["id", "version"]);
/** Fields whose parts are chosen one by one: two people may each have counted something else. */
const IN_PARTS = new Set(["casualties"]);

/** A value in words. @param {string} name @param {any} value */
export function shown(name, value) {
  if (value === null || value === undefined || value === "") return "—";
  if (typeof value === "number" && (name.endsWith("_at") || name.endsWith("_by"))) return fullTime(value);
  if (name === "place") return `${value.address || ""} ${coordinates(value)}`.trim();
  if (name === "casualties")
    return Object.entries(value).map(([key, n]) => `${t(`casualties.${key}`)} ${n}`).join(" · ");
  if (value.type && (value.coordinates || value.radius_m)) return tOr(`shape.${value.type}`, value.type);
  if (Array.isArray(value)) return joined(value.map((item) => (typeof item === "object" ? JSON.stringify(item) : tOr(`${name}.${item}`, String(item)))));
  if (typeof value === "object") return JSON.stringify(value);
  if (typeof value === "boolean") return t(value ? "word.yes" : "word.no");
  return tOr(`${name}.${value}`, String(value));
}

/**
 * Show both versions. Resolves to the request to send next (on top of the current version), or null.
 * @param {ApiError} error
 * @returns {Promise<Record<string, any> | null>}
 */
export function resolveConflict(error) {
  const current = error.details.current ?? {};
  const yours = error.details.yours ?? {};
  const split = (/** @type {string} */ name) => IN_PARTS.has(name) && yours[name] && current[name];
  const names = Object.keys(yours)
    .filter((name) => !NOT_FIELDS.has(name))
    .flatMap((name) => (split(name) ? Object.keys(yours[name]).filter((part) => yours[name][part] !== current[name][part]).map((part) => `${name}.${part}`) : [name]));
  const valueOf = (/** @type {Record<string, any>} */ version, /** @type {string} */ name) => name.split(".").reduce((value, part) => value?.[part], version);
  /** @type {Record<string, "mine" | "theirs">} */
  const choice = {};
  const same = (/** @type {string} */ name) => JSON.stringify(valueOf(yours, name)) === JSON.stringify(valueOf(current, name));
  for (const name of names) choice[name] = "mine";
  const result = () => {
    const next = { ...yours, version: current.version };
    for (const name of Object.keys(yours).filter(split)) next[name] = { ...current[name] };
    for (const name of names) {
      const [field, part] = name.split(".");
      if (part && choice[name] === "mine") next[field][part] = yours[field][part];
      else if (!part && choice[name] === "theirs") delete next[name];
    }
    return next;
  };
  return openDialog({
    title: () => t("conflict.title"),
    size: "wide",
    name: "conflict",
    body: (dialog) => {
      const pick = (/** @type {string} */ name, /** @type {"mine" | "theirs"} */ side) => {
        choice[name] = side;
        dialog.redraw();
      };
      const cell = (/** @type {string} */ name, /** @type {"mine" | "theirs"} */ side) => {
        const value = valueOf(side === "mine" ? yours : current, name);
        const has = value !== undefined;
        return html`<td class="conflict-cell ${choice[name] === side ? "chosen" : ""}">
          <label class="check"
            >${has && !same(name)
              ? html`<input type="radio" name=${`conflict-${name}`} .checked=${choice[name] === side} @change=${() => pick(name, side)} />`
              : nothing}<span class="prose">${has ? shown(name, value) : "—"}</span></label
          >
        </td>`;
      };
      return html`<div class="body stack">
          <p class="note-line">${t("conflict.text", { current: current.version, yours: yours.version })}</p>
          <table class="data">
            <thead>
              <tr>
                <th>${t("conflict.field")}</th>
                <th>${t("conflict.theirs", { version: current.version })}</th>
                <th>${t("conflict.mine", { version: yours.version })}</th>
              </tr>
            </thead>
            <tbody>
              ${names.map((name) => html`<tr><th scope="row">${tOr(`label.${name}`, tOr(name, name))}</th>${cell(name, "theirs")}${cell(name, "mine")}</tr>`)}
            </tbody>
          </table>
        </div>
        <footer>
          <button type="button" @click=${() => dialog.close(null)}>${t("conflict.keep_theirs")}</button>
          <button type="button" class="primary" @click=${() => dialog.close(result())}>${t("conflict.send")}</button>
        </footer>`;
    },
  }).result;
}

/**
 * An edit that names the version it changes. A stale one asks its person, as often as it takes.
 * Resolves to the receipt, or null when the person left it at the other's version.
 * @param {"POST" | "PATCH"} method @param {string} path @param {Record<string, any>} body
 */
export async function sendEdit(method, path, body) {
  let next = body;
  for (;;) {
    try {
      return await send(method, path, withoutPath(next));
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "version.stale" || !error.details.current) throw error;
      const chosen = await resolveConflict(error);
      if (chosen === null) return null;
      next = chosen;
    }
  }
}

/** The id stands in the path. @param {Record<string, any>} body */
function withoutPath({ id: _id, ...rest }) {
  return rest;
}
