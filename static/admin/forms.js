// @ts-check
// What the sections of administration share: saving a whole row, choosing an organisation, small fields.

import { html, nothing } from "lit";
import { ApiError, send } from "../api.js";
import { organisationName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { resolveConflict } from "../parts/conflict.js";
import { may } from "../session.js";

/**
 * A save replaces the whole row, so that what its person leaves to the other's version is taken from there.
 * Resolves to the receipt, or null when they left it at the other's version.
 * @param {"POST" | "PUT"} method @param {string} path @param {Record<string, any>} body
 * @param {boolean} [named] whether the id stands in the body, not in the path
 */
export async function saveWhole(method, path, body, named = false) {
  let next = body;
  for (;;) {
    try {
      const { id, ...rest } = next;
      return await send(method, path, named && id ? next : rest);
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "version.stale" || !error.details.current) throw error;
      const { current } = error.details;
      const chosen = await resolveConflict(error);
      if (chosen === null) return null;
      next = Object.fromEntries(Object.keys(body).map((name) => [name, name in chosen ? chosen[name] : name in current ? current[name] : body[name]]));
      next.version = current.version;
    }
  }
}

/** Add (no row) or save a row of a registry list. @param {string} path @param {Record<string, any> | null} row @param {Record<string, any>} values */
export async function saveRow(path, row, values) {
  if (!row) return send("POST", path, values);
  return (await saveWhole("PUT", `${path}/${row.id}`, { id: row.id, version: row.version, ...values })) ?? true;
}

/** Organisations in the order of their tree, with their depth. @param {boolean} [retired] */
export function tree(retired = false) {
  const rows = live.rows("organisation").filter((row) => retired || !row.retired);
  const known = new Set(rows.map((row) => row.id));
  /** @type {{row: import("../live.js").Row, depth: number}[]} */
  const found = [];
  const add = (/** @type {string | null} */ parent, /** @type {number} */ depth) => {
    const children = rows.filter((row) => (known.has(row.parent) ? row.parent : null) === parent);
    for (const row of children.sort((a, b) => String(a.region || a.name).localeCompare(String(b.region || b.name)))) {
      found.push({ row, depth });
      add(row.id, depth + 1);
    }
  };
  add(null, 0);
  return found;
}

/** Options of organisations, indented. `right`: only those where it reaches. @param {string | null | undefined} chosen @param {string} [right] */
export const organisationOptions = (chosen, right) =>
  tree()
    .filter(({ row }) => !right || row.id === chosen || may(right, { organisation: row.id }))
    .map(({ row, depth }) => html`<option value=${row.id} ?selected=${row.id === chosen}>${"\u2003".repeat(depth)}${organisationName(row.id)}</option>`);

/** @param {string} label @param {unknown} control @param {{wide?: string, required?: boolean, hint?: string}} [options] */
export const field = (label, control, { wide = "half", required = false, hint = "" } = {}) =>
  html`<label class="field ${wide}"><span class="label ${required ? "required" : ""}">${label}</span>${control}${hint ? html`<span class="faint small">${hint}</span>` : nothing}</label>`;

/** The switch that shows what is no longer in use. @param {{retired: boolean} & HTMLElement} part */
export const retiredSwitch = (part) =>
  html`<label class="check small"><input type="checkbox" .checked=${part.retired} @change=${(/** @type {any} */ event) => (part.retired = event.target.checked)} />${t("admin.show_retired")}</label>`;

/** The box in a form that takes a row out of use. @param {any} row */
export const retiredBox = (row) => (row ? html`<label class="check"><input type="checkbox" name="retired" ?checked=${row.retired} />${t("admin.retired")}</label>` : nothing);

export const retiredBadge = (/** @type {any} */ row) => (row.retired ? html`<span class="badge">${t("admin.retired")}</span>` : nothing);

/** @param {FormData} data @param {string} name */
export const text = (data, name) => String(data.get(name) ?? "").trim();

/** A place from the fields lon, lat and address, or null. @param {FormData} data */
export function placeOf(data) {
  const [lon, lat] = [text(data, "lon"), text(data, "lat")];
  return lon === "" || lat === "" ? null : { lon: Number(lon), lat: Number(lat), address: text(data, "address") };
}

/** @param {{lon: number, lat: number, address: string} | null | undefined} place */
export const placeFields = (place) => html`
  ${field(t("label.lon"), html`<input name="lon" type="number" step="any" min="-180" max="180" .value=${String(place?.lon ?? "")} />`, { wide: "third" })}
  ${field(t("label.lat"), html`<input name="lat" type="number" step="any" min="-90" max="90" .value=${String(place?.lat ?? "")} />`, { wide: "third" })}
  ${field(t("label.address"), html`<input name="address" maxlength="200" .value=${place?.address ?? ""} />`, { wide: "third" })}`;

/** What stands above a section. @param {string} name @param {unknown} [actions] */
export const head = (name, actions = nothing) => html`<div class="row wrap section-head"><h1>${t(`admin.${name}`)}</h1><span class="grow"></span>${actions}</div>`;

/** @param {() => void} act @param {string} [label] */
export const addButton = (act, label = t("act.add")) => html`<button class="primary" data-act="add" @click=${act}><wa-icon name="plus-lg"></wa-icon>${label}</button>`;
/** @param {() => void} act */
export const editButton = (act) => html`<button class="small" data-act="edit" @click=${act}>${t("act.edit")}</button>`;
