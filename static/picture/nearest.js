// @ts-check
// Which units are nearest to a place, how far, and how old that knowledge is.

import { html, nothing } from "lit";
import { get } from "../api.js";
import { coordinates, distance, organisationName, unitName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { openDialog } from "../parts/dialog.js";
import { now } from "../clock.js";
import { Part } from "../parts/part.js";
import { busy, empty, stateBadge } from "../parts/small.js";
import { textOf } from "../api.js";

const LIMIT = 8;

export class Nearest extends Part {
  static follows = ["unit"];
  static properties = { place: { attribute: false }, items: { state: true }, error: { state: true }, pick: { attribute: false } };
  constructor() {
    super();
    /** @type {{lon: number, lat: number} | null} */
    this.place = null;
    /** @type {any[] | null} */
    this.items = null;
    this.error = "";
    /** @type {((unit: string) => void) | null} */
    this.pick = null;
  }

  /** @param {Map<string, any>} changes */
  willUpdate(changes) {
    const key = this.place ? `${this.place.lon} ${this.place.lat}` : "";
    if (changes.has("place") && key !== this._asked) {
      this._asked = key;
      void this.load();
    }
  }

  async load() {
    if (!this.place) return;
    try {
      this.items = (await get("/units/nearest", { lon: this.place.lon, lat: this.place.lat, limit: LIMIT })).items;
      this.at = now();
      this.error = "";
    } catch (error) {
      this.error = textOf(error);
    }
  }

  render() {
    if (this.error) return html`<p class="error-line">${this.error}</p>`;
    if (!this.items) return busy();
    if (!this.items.length) return empty("pin-map", t("nearest.none"));
    return html`<table class="data nearest">
        <thead><tr><th>${t("party.unit")}</th><th>${t("nearest.distance")}</th><th>${t("nearest.age")}</th><th></th></tr></thead>
        <tbody>${this.items.map((item) => this.row(item))}</tbody>
      </table>
      <button class="small plain no-print" @click=${() => void this.load()}><wa-icon name="arrow-clockwise"></wa-icon>${t("nearest.again")}</button>`;
  }

  /** @param {any} item */
  row(item) {
    const id = item.unit ?? item.id;
    const unit = live.row("unit", id);
    return html`<tr>
      <td>${unitName(id)} ${unit ? stateBadge("unit.status", unit.status) : nothing}<div class="small muted">${organisationName(unit?.organisation)}</div></td>
      <td class="num">${distance(item.distance_m)}</td>
      <td>${item.age_s === null || item.age_s === undefined ? html`<span class="muted">${t("map.home")}</span>` : html`<fh-ago location .at=${(this.at ?? now()) - item.age_s * 1e6}></fh-ago>`}</td>
      <td class="actions">${this.pick ? html`<button class="small" @click=${() => this.pick?.(id)}>${t("order.give")}</button>` : nothing}</td>
    </tr>`;
  }
}
customElements.define("fh-nearest", Nearest);

/** @param {{lon: number, lat: number}} place */
export function nearestDialog(place) {
  openDialog({
    title: () => `${t("nearest.title")} · ${coordinates(place)}`,
    name: "nearest",
    body: () => html`<div class="body"><fh-nearest .place=${place}></fh-nearest></div>`,
  });
}
