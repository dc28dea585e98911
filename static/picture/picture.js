// @ts-check
// The picture: what is happening, where, who is on it, and who is on duty. The page a duty officer has open all day.

import { html, nothing } from "lit";
import { t } from "../i18n.js";
import { live } from "../live.js";
import "../map/map.js";
import { Part, styleSheet } from "../parts/part.js";
import "../parts/dues.js";
import { busy } from "../parts/small.js";
import { may } from "../session.js";
import "./activations.js";
import "./duty.js";
import { drawFence } from "./fence.js";
import "./list.js";
import { nearestDialog } from "./nearest.js";
import "./orders.js";
import { popup } from "./popup.js";
import { reportDialog } from "./report.js";

class Picture extends Part {
  static properties = { params: { attribute: false }, query: { attribute: false }, chosen: { state: true }, side: { state: true } };
  constructor() {
    super();
    styleSheet("/static/picture/picture.css");
    this.chosen = "";
    /** On a phone: which of the three is shown. */
    this.side = "list";
  }

  connectedCallback() {
    super.connectedCallback();
    this.until(live.follow(["incident"], () => !this.hasRows && this.requestUpdate()));
  }

  get hasRows() {
    return this.querySelector("fh-map") !== null;
  }

  /** @returns {import("../map/map.js").FenghuoMap | null} */
  get map() {
    return this.querySelector("fh-map");
  }

  menu = (/** @type {{lon: number, lat: number}} */ place) => {
    /** @type {import("../parts/menu.js").Item[]} */
    const items = [];
    if (may("incident.report")) items.push({ label: t("map.report_here"), icon: "plus-circle", do: () => void this.report(place) });
    if (may("fence.edit")) items.push({ label: t("map.circle_here"), icon: "record-circle", do: () => void drawFence(this.map, { circle: place }) });
    items.push({ label: t("map.nearest_here"), icon: "pin-map", do: () => nearestDialog(place) });
    return items;
  };

  /** @param {{lon: number, lat: number}} [place] */
  async report(place) {
    const id = await reportDialog(place);
    if (id) this.choose(id);
  }

  /** @param {string} id */
  choose(id) {
    this.chosen = id;
    const incident = live.row("incident", id);
    if (incident) this.map?.goTo(incident.place);
  }

  render() {
    if (!live.ready("picture")) return busy();
    const tabs = ["list", "map", "orders"];
    return html`<div class="picture" data-side=${this.side}>
      <div class="picture-tabs seg no-print" role="tablist">
        ${tabs.map((tab) => html`<button role="tab" aria-selected=${this.side === tab} @click=${() => (this.side = tab)}>${t(`picture.tab.${tab}`)}</button>`)}
      </div>
      <section class="panel side-list" aria-label=${t("picture.incidents")}>
        <fh-incident-list .chosen=${this.chosen} @choose=${(/** @type {CustomEvent} */ event) => this.choose(event.detail)} @report=${() => void this.report()}></fh-incident-list>
      </section>
      <section class="side-map" aria-label=${t("map.label")}>
        <div class="map-box panel">
          <fh-map .chosen=${this.chosen} .menu=${this.menu} .popup=${popup} @map-select=${(/** @type {CustomEvent} */ event) => event.detail?.table === "incident" && (this.chosen = event.detail.id)}></fh-map>
          ${may("fence.edit") ? this.pens() : nothing}
        </div>
        <fh-duty class="panel"></fh-duty>
      </section>
      <div class="side-orders"><fh-activations></fh-activations><fh-dues></fh-dues><fh-open-orders class="panel"></fh-open-orders></div>
    </div>`;
  }

  pens() {
    return html`<div class="pens no-print">
      <button class="small" @click=${() => void drawFence(this.map, { kind: "Polygon" })}><wa-icon name="pentagon"></wa-icon>${t("fence.draw_polygon")}</button>
      <button class="small" @click=${() => void drawFence(this.map, { kind: "Circle" })}><wa-icon name="circle"></wa-icon>${t("fence.draw_circle")}</button>
    </div>`;
  }
}
customElements.define("fh-picture-page", Picture);
