// @ts-check
// What can be done to the incident itself: the next steps, another level, an edit. Each names the version it changes.

import { html } from "lit";
import { CATEGORIES, LEVELS, rightOfStep, STEPS } from "../domain.js";
import { colon, fromInput, inputTime } from "../format.js";
import { t } from "../i18n.js";
import { sendEdit } from "../parts/conflict.js";
import { formDialog, reasonDialog } from "../parts/dialog.js";
import { toast } from "../parts/toast.js";
import { casualtiesOf, casualtyFields } from "../picture/report.js";
import { decides } from "../parts/nodes.js";

const REASONED = ["dismiss", "close", "reopen"];

/** The steps from where it is that this person's roles allow. @param {Record<string, any>} row */
export const stepsOf = (row) => (STEPS[row.state] ?? []).filter((step) => decides(rightOfStep(step), row));

/** @param {Record<string, any>} row @param {string} step */
export async function takeStep(row, step) {
  const done = await reasonDialog({
    title: () => `${t(`step.${step}`)}${colon()}${row.title}`,
    text: () => html`<p class="muted">${t(`step.text.${step}`)}</p>`,
    label: () => t(`step.${step}`),
    tone: step === "dismiss" ? "danger" : "primary",
    required: REASONED.includes(step),
    send: (reason) => sendEdit("POST", `/incidents/${row.id}/step`, { version: row.version, step, reason }),
  });
  if (done && done !== true) toast(t("done.saved"), "good");
}

/** @param {Record<string, any>} row */
export async function changeLevel(row) {
  const done = await formDialog({
    title: () => t("incident.level_title"),
    size: "narrow",
    name: "level",
    fields: () => html`<div class="stack">
      <div class="levels" role="radiogroup" aria-label=${t("label.level")}>
        ${LEVELS.map((level) => html`<label class="level-choice level-${level}"><input type="radio" name="level" value=${level} ?checked=${level === row.level} required />
          <span class="badge level level-${level}">${level} ${t(`level.${level}`)}</span><span class="muted small">${t(`level.colour.${level}`)}${level === row.level ? ` · ${t("incident.now")}` : ""}</span></label>`)}
      </div>
      <label class="field"><span class="label required">${t("word.reason")}</span><textarea name="reason" maxlength="4000" required></textarea></label>
    </div>`,
    send: (data) => sendEdit("POST", `/incidents/${row.id}/level`, { version: row.version, level: data.get("level"), reason: String(data.get("reason")).trim() }),
  });
  if (done && done !== true) toast(t("done.saved"), "good");
}

/** @param {unknown} a @param {unknown} b */
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** What the form says differently from the row it was opened on. @param {Record<string, any>} row @param {FormData} data */
export function changesOf(row, data) {
  const text = (/** @type {string} */ name) => String(data.get(name) ?? "").trim();
  /** @type {Record<string, any>} */
  const all = {
    title: text("title"),
    description: text("description"),
    category: text("category"),
    place: { lon: Number(text("lon")), lat: Number(text("lat")), address: text("address") },
    casualties: casualtiesOf(data),
  };
  if (text("occurred_at") !== inputTime(row.occurred_at)) all.occurred_at = fromInput(text("occurred_at"));
  return Object.fromEntries(Object.entries(all).filter(([name, value]) => !same(value, ordered(row[name], value))));
}

/** The row's value with its keys in the form's order. @param {any} stored @param {any} like */
const ordered = (stored, like) => (stored && typeof stored === "object" && !Array.isArray(stored) ? Object.fromEntries(Object.keys(like).map((key) => [key, stored[key]])) : stored);

/** The row is frozen as it was when the form opened: a later change by somebody else becomes a 409, never lost. @param {Record<string, any>} row */
export async function editIncident(row) {
  const done = await formDialog({
    title: () => t("incident.edit"),
    size: "wide",
    name: "edit-incident",
    label: () => t("act.save"),
    fields: () => html`<div class="form">
      <label class="field"><span class="label required">${t("label.title")}</span><input name="title" maxlength="100" required .value=${row.title} autofocus /></label>
      <label class="field half"><span class="label">${t("label.category")}</span><select name="category">${CATEGORIES.map((code) => html`<option value=${code} ?selected=${code === row.category}>${t(`category.${code}`)}</option>`)}</select></label>
      <label class="field half"><span class="label">${t("label.occurred_at")}</span><input name="occurred_at" type="datetime-local" required .value=${inputTime(row.occurred_at)} /></label>
      <label class="field"><span class="label">${t("label.description")}</span><textarea name="description" maxlength="4000" rows="4" .value=${row.description}></textarea></label>
      <label class="field quarter"><span class="label">${t("label.lon")}</span><input name="lon" type="number" step="any" min="-180" max="180" required .value=${String(row.place.lon)} /></label>
      <label class="field quarter"><span class="label">${t("label.lat")}</span><input name="lat" type="number" step="any" min="-90" max="90" required .value=${String(row.place.lat)} /></label>
      <label class="field half"><span class="label">${t("label.address")}</span><input name="address" maxlength="200" .value=${row.place.address} /></label>
      ${casualtyFields(row.casualties)}
    </div>`,
    send: async (data) => {
      const changes = changesOf(row, data);
      return Object.keys(changes).length === 0 ? true : sendEdit("PATCH", `/incidents/${row.id}`, { version: row.version, ...changes });
    },
  });
  if (done && done !== true) toast(t("done.saved"), "good");
}
