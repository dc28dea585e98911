// @ts-check
// A new incident: what, how serious, where (a click on the map or numbers), who told us, and its area.

import { html, nothing } from "lit";
import { post, textOf } from "../api.js";
import { now } from "../clock.js";
import { CASUALTIES, CATEGORIES, LEVELS, SOURCES } from "../domain.js";
import { colon, fromInput, inputTime } from "../format.js";
import { t } from "../i18n.js";
import "../map/map.js";
import { openDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import { toast } from "../parts/toast.js";

/** Six counts. @param {Record<string, number>} [values] */
export const casualtyFields = (values = {}) => html`<fieldset><legend>${t("label.casualties")}</legend><div class="form">
  ${CASUALTIES.map((name) => html`<label class="field sixth"><span class="label">${t(`casualties.${name}`)}</span><input name=${`casualties.${name}`} type="number" min="0" max="10000000" .value=${String(values[name] ?? 0)} required /></label>`)}
</div></fieldset>`;

/** @param {FormData} data */
export const casualtiesOf = (data) => Object.fromEntries(CASUALTIES.map((name) => [name, Number(data.get(`casualties.${name}`))]));

class Report extends Part {
  static properties = { place: { attribute: false }, area: { state: true }, busy: { state: true }, error: { state: true } };
  constructor() {
    super();
    /** @type {{lon: number, lat: number} | null} */
    this.place = null;
    /** @type {any} */
    this.area = null;
    this.busy = false;
    this.error = "";
  }

  get map() {
    return /** @type {import("../map/map.js").FenghuoMap | null} */ (this.querySelector("fh-map"));
  }

  async firstUpdated() {
    const map = this.map;
    await map?.updateComplete;
    if (this.place) map?.goTo(this.place, 11);
    this.show();
  }

  show() {
    this.map?.mark(this.place, this.area);
  }

  /** @param {{lon: number, lat: number}} place */
  put(place) {
    this.place = place;
    this.around(); // a radius that was typed is one around this place
    this.show();
  }

  /** From the two number fields. */
  typed() {
    const value = (/** @type {string} */ name) => /** @type {HTMLInputElement} */ (this.querySelector(`[name=${name}]`)).value;
    if (value("lon") === "" || value("lat") === "") return;
    this.put({ lon: Number(value("lon")), lat: Number(value("lat")) });
    if (this.place) this.map?.goTo(this.place);
  }

  /** @param {"Polygon" | "Circle"} kind */
  async draw(kind) {
    const shape = await this.map?.draw(kind);
    if (shape) this.outline(shape);
  }

  /** Another area than a typed radius gives, or none. @param {any} area */
  outline(area) {
    this.radius.value = "";
    this.area = area;
    this.show();
  }

  get radius() {
    return /** @type {HTMLInputElement} */ (this.querySelector("[data-radius]"));
  }

  /** An area without a pointer. */
  around() {
    const radius_m = Number(this.radius.value);
    if (!this.place || !(radius_m > 0)) return;
    this.area = { type: "Circle", coordinates: [this.place.lon, this.place.lat], radius_m };
    this.show();
  }

  /** @param {FormData} data */
  request(data) {
    const text = (/** @type {string} */ name) => String(data.get(name) ?? "").trim();
    return {
      category: text("category"), level: text("level"), title: text("title"), description: text("description"),
      place: { lon: Number(text("lon")), lat: Number(text("lat")), address: text("address") },
      source: { kind: text("source"), name: text("source_name"), phone: text("source_phone") },
      occurred_at: fromInput(text("occurred_at")),
      casualties: casualtiesOf(data), area: this.area, exercise: data.get("exercise") === "yes",
    };
  }

  submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    if (this.busy) return;
    this.busy = true;
    this.error = "";
    try {
      const receipt = await post("/incidents", this.request(new FormData(/** @type {HTMLFormElement} */ (event.target))));
      const notes = receipt.result?.area_notes ?? [];
      toast(notes.length ? t("fence.repaired", { n: notes.length }) : t("report.done"), notes.length ? "warn" : "good");
      this.dispatchEvent(new CustomEvent("done", { detail: receipt.id }));
    } catch (error) {
      this.error = textOf(error);
    }
    this.busy = false;
  };

  render() {
    return html`<form class="body report" id="report-form" @submit=${this.submit}>
        <div class="report-columns">
          <div class="form">${this.what()}${this.source()}</div>
          <div class="stack">${this.where()}</div>
        </div>
        <div class="report-casualties">${casualtyFields()}</div>
      </form>
      ${this.error ? html`<p class="error-line dialog-error" role="alert">${this.error}</p>` : nothing}
      <footer>
        <label class="check grow"><input type="checkbox" name="exercise" value="yes" form="report-form" />${t("word.exercise_hint")}</label>
        <button type="button" @click=${() => this.dispatchEvent(new CustomEvent("done", { detail: null }))}>${t("act.cancel")}</button>
        <button class="primary" form="report-form" ?disabled=${this.busy}>${this.busy ? html`<span class="spinner"></span>` : nothing}${t("report.send")}</button>
      </footer>`;
  }

  what() {
    return html`<label class="field"><span class="label required">${t("label.title")}</span><input name="title" maxlength="100" required autofocus placeholder=${t("report.title_hint")} /></label>
      <label class="field half"><span class="label required">${t("label.category")}</span><select name="category" required>
        <option value="" disabled selected>${t("report.choose")}</option>
        ${CATEGORIES.map((code) => html`<option value=${code}>${t(`category.${code}`)}</option>`)}
      </select></label>
      <label class="field half"><span class="label required">${t("label.level")}</span><select name="level" required>
        <option value="" disabled selected>${t("report.choose")}</option>
        ${LEVELS.map((level) => html`<option value=${level}>${level} ${t(`level.${level}`)} · ${t(`level.colour.${level}`)}</option>`)}
      </select></label>
      <label class="field"><span class="label">${t("label.description")}</span><textarea name="description" maxlength="4000" rows="3"></textarea></label>
      <label class="field half"><span class="label">${t("label.occurred_at")}</span><input name="occurred_at" type="datetime-local" .value=${inputTime(now())} /></label>`;
  }

  source() {
    return html`<label class="field half"><span class="label">${t("label.source")}</span><select name="source">
        ${SOURCES.map((code) => html`<option value=${code} ?selected=${code === "phone"}>${t(`source.${code}`)}</option>`)}
      </select></label>
      <label class="field half"><span class="label">${t("report.source_name")}</span><input name="source_name" maxlength="200" /></label>
      <label class="field half"><span class="label">${t("report.source_phone")}</span><input name="source_phone" type="tel" maxlength="200" /></label>`;
  }

  where() {
    return html`<div class="report-map"><fh-map picking @map-pick=${(/** @type {CustomEvent} */ event) => this.put(event.detail)}></fh-map></div>
      <div class="form">
        <label class="field half"><span class="label required">${t("label.lon")}</span><input name="lon" type="number" step="any" min="-180" max="180" required .value=${this.place ? String(this.place.lon) : ""} @change=${() => this.typed()} /></label>
        <label class="field half"><span class="label required">${t("label.lat")}</span><input name="lat" type="number" step="any" min="-90" max="90" required .value=${this.place ? String(this.place.lat) : ""} @change=${() => this.typed()} /></label>
        <label class="field"><span class="label">${t("label.address")}</span><input name="address" maxlength="200" /></label>
      </div>
      <div class="row wrap">
        <span class="label">${t("label.area")}${this.area ? `${colon()}${t(`shape.${this.area.type}`)}` : ""}</span>
        <button type="button" class="small" @click=${() => void this.draw("Polygon")}><wa-icon name="pentagon"></wa-icon>${t("shape.Polygon")}</button>
        <button type="button" class="small" @click=${() => void this.draw("Circle")}><wa-icon name="circle"></wa-icon>${t("shape.Circle")}</button>
        <label class="row small"><input data-radius type="number" min="1" placeholder=${t("report.radius")} aria-label=${t("report.radius")} @change=${() => this.around()} /></label>
        ${this.area ? html`<button type="button" class="small plain" @click=${() => this.outline(null)}>${t("act.remove")}</button>` : nothing}
      </div>`;
  }
}
customElements.define("fh-report", Report);

/** Resolves to the new incident's id, or null. @param {{lon: number, lat: number}} [place] @returns {Promise<string | null>} */
export function reportDialog(place) {
  const opened = openDialog({
    title: () => t("report.new_long"),
    size: "wide",
    name: "report",
    body: (dialog) => html`<fh-report class="dialog-part" @done=${(/** @type {CustomEvent} */ event) => dialog.close(event.detail)}></fh-report>`,
  });
  const form = /** @type {Report | null} */ (opened.element.querySelector("fh-report"));
  if (form && place) form.place = place; // once: a redraw must not put it back
  return opened.result;
}
