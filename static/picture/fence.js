// @ts-check
// Drawing and changing fences: on the map, or by numbers for those who draw with the keyboard.

import { html, nothing } from "lit";
import { post } from "../api.js";
import { RULES, RULES_DEFAULT } from "../domain.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { sendEdit } from "../parts/conflict.js";
import { formDialog } from "../parts/dialog.js";
import { toast } from "../parts/toast.js";

const RADIUS_M = 1000;

/** Fields for a shape as numbers. @param {any} geometry */
export function shapeFields(geometry) {
  if (geometry.type === "Circle")
    return html`<label class="field third"><span class="label">${t("label.lon")}</span><input name="lon" type="number" step="any" min="-180" max="180" .value=${String(geometry.coordinates[0])} required /></label>
      <label class="field third"><span class="label">${t("label.lat")}</span><input name="lat" type="number" step="any" min="-90" max="90" .value=${String(geometry.coordinates[1])} required /></label>
      <label class="field third"><span class="label">${t("fence.radius")}</span><input name="radius_m" type="number" min="1" max="1000000" .value=${String(geometry.radius_m)} required /></label>`;
  if (geometry.type !== "Polygon") return html`<p class="muted small">${t("fence.many_parts")}</p>`;
  const corners = geometry.coordinates[0].slice(0, -1).map((/** @type {number[]} */ at) => at.join(" ")).join("\n");
  return html`<details><summary class="label">${t("fence.corners", { n: geometry.coordinates[0].length - 1 })}</summary>
    <textarea name="corners" rows="6" class="mono" spellcheck="false" .value=${corners}></textarea></details>`;
}

/** The shape that the fields say. @param {any} geometry @param {FormData} data */
export function shapeOf(geometry, data) {
  if (geometry.type === "Circle")
    return { type: "Circle", coordinates: [Number(data.get("lon")), Number(data.get("lat"))], radius_m: Number(data.get("radius_m")) };
  const text = data.get("corners");
  if (geometry.type !== "Polygon" || text === null) return geometry;
  const ring = String(text).trim().split("\n").map((line) => line.trim().split(/[\s,，]+/).map(Number));
  return { type: "Polygon", coordinates: [[...ring, ring[0]], ...geometry.coordinates.slice(1)] };
}

/** The minutes of the day between which it is on, [] for always; null when its windows say more than this form can.
 * @param {any[]} windows @returns {number[] | null} */
function daily(windows) {
  if (!windows.length) return [];
  const [{ from_at, to_at, daily_min, days }] = windows;
  return windows.length === 1 && !from_at && !to_at && daily_min && (days?.length ?? 7) === 7 ? daily_min : null;
}

/** @param {number | undefined} minute */
const clock = (minute) => (minute === undefined ? "" : `${String(Math.floor(minute / 60) % 24).padStart(2, "0")}:${String(minute % 60).padStart(2, "0")}`);

/** The windows that the form says: {} when it shows none. @param {FormData} data */
function windowsOf(data) {
  if (!data.has("on_from")) return {};
  const [from, until] = ["on_from", "on_until"].map((name) => String(data.get(name) ?? ""));
  if (!from || !until) return { windows: [] };
  const minute = (/** @type {string} */ text) => Number(text.slice(0, 2)) * 60 + Number(text.slice(3, 5));
  return { windows: [{ daily_min: [minute(from), minute(until)], utc_offset_min: -new Date().getTimezoneOffset() }] };
}

/** @param {any} geometry @param {Record<string, any>} values */
const fields = (geometry, values) => html`<div class="form">
  <label class="field"><span class="label required">${t("label.name")}</span><input name="name" maxlength="100" required autofocus .value=${values.name ?? ""} /></label>
  ${shapeFields(geometry)}
  <fieldset><legend>${t("fence.rules")}</legend><div class="row wrap">
    ${RULES.map((rule) => html`<label class="check"><input type="checkbox" name="rules" value=${rule} ?checked=${(values.rules ?? RULES_DEFAULT).includes(rule)} />${t(`rules.${rule}`)}</label>`)}
  </div></fieldset>
  <label class="field half"><span class="label">${t("label.exit_buffer_m")}</span><input name="exit_buffer_m" type="number" min="0" max="10000" .value=${String(values.exit_buffer_m ?? 20)} required /></label>
  <label class="field half"><span class="label">${t("label.dwell_s")}</span><input name="dwell_s" type="number" min="0" max="2592000" .value=${String(values.dwell_s ?? 0)} required /></label>
  <label class="field half"><span class="label">${t("label.lost_s")}</span><input name="lost_s" type="number" min="0" max="2592000" .value=${String(values.lost_s ?? 0)} required /></label>
  ${daily(values.windows ?? []) === null
    ? html`<p class="muted small">${t("fence.windows", { n: values.windows.length })}</p>`
    : html`<label class="field quarter"><span class="label">${t("fence.on_from")}</span><input name="on_from" type="time" .value=${clock(daily(values.windows ?? [])?.[0])} /></label>
        <label class="field quarter"><span class="label">${t("fence.on_until")}</span><input name="on_until" type="time" .value=${clock(daily(values.windows ?? [])?.[1])} /></label>`}
  ${"version" in values
    ? nothing
    : html`<label class="field"><span class="label">${t("fence.bound_to")}</span><select name="incident">
        <option value="">${t("fence.standing")}</option>
        ${live.rows("incident").filter((row) => row.open).map((row) => html`<option value=${row.id} ?selected=${row.id === values.incident}>${row.title}</option>`)}
      </select></label>`}
</div>`;

/** @param {any} geometry @param {FormData} data */
const request = (geometry, data) => ({
  name: String(data.get("name")).trim(),
  geometry: shapeOf(geometry, data),
  rules: data.getAll("rules").map(String),
  exit_buffer_m: Number(data.get("exit_buffer_m")),
  dwell_s: Number(data.get("dwell_s")),
  lost_s: Number(data.get("lost_s")),
  ...windowsOf(data),
});

/** Notes of what the server mended in the drawing. @param {any} receipt */
function sayNotes(receipt) {
  const notes = receipt?.result?.notes ?? [];
  toast(notes.length ? t("fence.repaired", { n: notes.length }) : t("done.saved"), notes.length ? "warn" : "good");
}

/**
 * A new fence: drawn on `map` by `kind`, or a circle about a place.
 * @param {any} map @param {{kind?: "Polygon" | "Circle", circle?: {lon: number, lat: number}, incident?: string}} how
 */
export async function drawFence(map, { kind = "Polygon", circle, incident }) {
  const geometry = circle ? { type: "Circle", coordinates: [circle.lon, circle.lat], radius_m: RADIUS_M } : await map?.draw(kind);
  if (!geometry) return;
  map?.mark(null, geometry);
  const receipt = await formDialog({
    title: () => t("fence.new"),
    name: "fence",
    label: () => t("act.save"),
    fields: () => fields(geometry, { incident }),
    send: (data) => post("/fences", { ...request(geometry, data), incident: data.get("incident") || null }),
  });
  map?.mark(null);
  if (receipt) sayNotes(receipt);
}

/** @param {any} map @param {Record<string, any>} row @param {any} [geometry] */
export async function editFence(map, row, geometry = row.geometry) {
  map?.mark(null, geometry);
  const receipt = await formDialog({
    title: () => t("fence.edit", { name: row.name }),
    name: "fence",
    label: () => t("act.save"),
    fields: () => fields(geometry, row),
    send: (data) => sendEdit("PATCH", `/fences/${row.id}`, { version: row.version, ...request(geometry, data) }),
  });
  map?.mark(null);
  if (receipt && receipt !== true) sayNotes(receipt);
}

/** Pull its corners about, then confirm. @param {any} map @param {Record<string, any>} row */
export async function reshapeFence(map, row) {
  const geometry = await map?.draw("Polygon", row.geometry);
  if (geometry) await editFence(map, row, geometry);
}
