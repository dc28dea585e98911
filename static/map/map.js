// @ts-check
// The map: land and regions from this node, incidents, units, fences from the live rows, and drawing on it.
//
// Never asks another host for anything. Invariant: what it shows follows the rows; how old a unit's place is can be read.
// Without a pointer: arrows move, + and - zoom, Enter opens the menu at the cross in the middle.

import { html, nothing, render } from "lit";
import { eachSecond } from "../clock.js";
import { coordinates } from "../format.js";
import { onLanguage, t } from "../i18n.js";
import { live } from "../live.js";
import { openMenu } from "../parts/menu.js";
import { Part, styleSheet } from "../parts/part.js";
import { Pen } from "./draw.js";
import { drawing as drawingLook } from "./look.js";
import { Layers } from "./layers.js";
import { boundingExtent, buffer, controls, createEmpty, extend, Feature, fromLonLat, isEmpty, MousePosition, OlMap, Overlay, Point, ScaleLine, toLonLat, View } from "./ol.js";
import { drawn } from "./shapes.js";

const AGES_EVERY_S = 10;
const ZOOM_CLOSE = 12;

export class FenghuoMap extends Part {
  static properties = { chosen: {}, menu: { attribute: false }, popup: { attribute: false }, only: {}, picking: { type: Boolean }, drawing: { state: true } };

  constructor() {
    super();
    styleSheet("/vendor/ol/ol.css");
    styleSheet("/static/map/map.css");
    /** The incident that stands out. */
    this.chosen = "";
    /** Show only what belongs to this incident (and all units). */
    this.only = "";
    /** A click only says where (event "map-pick"). */
    this.picking = false;
    /** @type {((place: {lon: number, lat: number}) => import("../parts/menu.js").Item[]) | null} */
    this.menu = null;
    /** @type {((table: string, id: string, close: () => void) => unknown) | null} */
    this.popup = null;
    /** @type {"" | "Polygon" | "Circle" | "Point" | "edit"} */
    this.drawing = "";
    /** @type {OlMap | null} */
    this.map = null;
    /** @type {Layers} */
    this.layers = new Layers();
    this._beat = 0;
    this._settled = false;
  }

  connectedCallback() {
    super.connectedCallback();
    this.until(live.follow(["incident", "unit", "location", "fence"], (changed) => this.refresh(changed)));
    this.until(onLanguage(() => this.layers.restyle()));
    this.until(eachSecond(() => ++this._beat % AGES_EVERY_S === 0 && this.layers.restyleUnits()));
    const theme = () => this.layers.restyle();
    addEventListener("fh-theme", theme);
    this.until(() => removeEventListener("fh-theme", theme));
  }

  firstUpdated() {
    const target = /** @type {HTMLElement} */ (this.querySelector(".map-canvas"));
    const place = /** @type {HTMLElement} */ (this.querySelector(".map-place"));
    this.map = new OlMap({
      target,
      layers: this.layers.all,
      controls: controls({ attribution: false, rotate: false, zoomOptions: { zoomInTipLabel: "+", zoomOutTipLabel: "−" } }).extend([
        new ScaleLine({ minWidth: 80 }),
        new MousePosition({ coordinateFormat: (at) => (at ? coordinates({ lon: at[0], lat: at[1] }) : ""), projection: "EPSG:4326", target: place, placeholder: "" }),
      ]),
      view: new View({ center: fromLonLat([105, 34]), zoom: 4, minZoom: 2, maxZoom: 18, enableRotation: false }),
      keyboardEventTarget: target,
    });
    this.pen = new Pen(this.map, this.layers.pen);
    this.bubble = new Overlay({ element: /** @type {HTMLElement} */ (this.querySelector(".map-popup")), autoPan: { animation: { duration: 150 } }, offset: [0, -18], positioning: "bottom-center", stopEvent: true });
    this.map.addOverlay(this.bubble);
    this.map.on("singleclick", (event) => this.clicked(event));
    this.map.on("pointermove", (event) => event.dragging || this.hover(event));
    target.addEventListener("contextmenu", (event) => this.contextMenu(event));
    target.addEventListener("keydown", (event) => this.key(event));
    this.refresh(null);
    void this.layers.loadGround().then(() => this.settle());
    this.map.on("change:size", () => this.settle());
    const paper = matchMedia("print");
    const print = () => {
      this.layers.restyle();
      this.map?.renderSync();
    };
    paper.addEventListener("change", print);
    this.until(() => paper.removeEventListener("change", print));
  }

  /** @param {Map<string, any>} changes */
  updated(changes) {
    if (changes.has("chosen") || changes.has("only")) {
      this.layers.chosen = this.chosen;
      this.layers.only = this.only;
      this.refresh(null);
    }
  }

  /** @param {Set<string> | null} changed */
  refresh(changed) {
    if (!this.map) return;
    const touched = (/** @type {string} */ name) => changed === null || changed.size === 0 || changed.has(name);
    if (touched("incident")) this.layers.incidents();
    if (touched("fence")) this.layers.fences();
    if (touched("unit") || touched("location")) this.layers.units();
  }

  // -- where we look

  /** Look at the whole once, as soon as there is ground and a size (a hidden tab has none). */
  settle() {
    const [width, height] = this.map?.getSize() ?? [0, 0];
    if (this._settled || !width || !height || !this.layers.loaded) return;
    this._settled = true;
    this.home();
  }

  /** The regions, or whatever there is; or the incident that this map is about. */
  home() {
    if (!this.map) return;
    if (this.only) return this.showIncident(this.only);
    let extent = createEmpty();
    for (const source of [this.layers.regions, this.layers.incidentMarks, this.layers.unitMarks]) {
      const found = source.getSource()?.getExtent();
      if (found && !isEmpty(found)) extend(extent, found);
      if (!isEmpty(extent)) break;
    }
    if (!isEmpty(extent)) this.map.getView().fit(extent, { padding: [24, 24, 40, 24], maxZoom: ZOOM_CLOSE });
  }

  /** @param {string} id */
  showIncident(id) {
    const incident = live.row("incident", id);
    if (!incident || !this.map) return;
    const point = fromLonLat([incident.place.lon, incident.place.lat]);
    let extent = buffer(boundingExtent([point]), 4000);
    if (incident.area) extent = buffer(extend(drawn(incident.area).getExtent(), [...point, ...point]), 1500);
    for (const fence of live.rows("fence")) if (fence.active && fence.incident === id) extend(extent, drawn(fence.geometry).getExtent());
    this.map.getView().fit(extent, { padding: [40, 40, 50, 40], maxZoom: 14 });
  }

  /** @param {{lon: number, lat: number}} place @param {number} [zoom] */
  goTo(place, zoom = ZOOM_CLOSE) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const view = this.map?.getView();
    view?.animate({ center: fromLonLat([place.lon, place.lat]), zoom: Math.max(view.getZoom() ?? 0, zoom), duration: still ? 0 : 350 });
  }

  /** Put a mark somewhere and sketch an area, or take them away. @param {{lon: number, lat: number} | null} place @param {any} [area] */
  mark(place, area) {
    const source = this.layers.pen.getSource();
    source?.clear();
    if (area) {
      const sketch = new Feature(drawn(area));
      sketch.setStyle(drawingLook());
      source?.addFeature(sketch);
    }
    if (place) source?.addFeature(new Feature(new Point(fromLonLat([place.lon, place.lat]))));
  }

  // -- drawing

  /**
   * Let the person draw. Resolves to a geometry, a place for "Point", or null when they gave up.
   * @param {"Polygon" | "Circle" | "Point"} kind @param {any} [around] a shape to begin with
   */
  async draw(kind, around) {
    this.drawing = around ? "edit" : kind;
    this.closePopup();
    const shape = await this.pen?.draw(kind, around);
    this.drawing = "";
    return shape ?? null;
  }

  // -- events

  /** @param {any} event */
  hover(event) {
    const target = this.map?.getTargetElement();
    if (target) target.style.cursor = this.drawing ? "crosshair" : this.hit(event.pixel) ? "pointer" : "";
  }

  /** @param {number[]} pixel @returns {{table: string, id: string} | undefined} */
  hit(pixel) {
    return this.map?.forEachFeatureAtPixel(pixel, (feature) => (feature.get("table") ? { table: feature.get("table"), id: feature.get("key") } : undefined), { hitTolerance: 4 });
  }

  /** @param {any} event */
  clicked(event) {
    if (this.drawing) return;
    if (this.picking) return this.pick(event.coordinate);
    const found = this.hit(event.pixel);
    this.dispatchEvent(new CustomEvent("map-select", { detail: found ?? null }));
    if (!found || !this.popup) return this.closePopup();
    this.openPopup(found.table, found.id, event.coordinate);
  }

  /** @param {number[]} at */
  pick(at) {
    const [lon, lat] = toLonLat(at).map((degrees) => Math.round(degrees * 1e6) / 1e6);
    this.dispatchEvent(new CustomEvent("map-pick", { detail: { lon, lat } }));
  }

  /** @param {string} table @param {string} id @param {number[]} at */
  openPopup(table, id, at) {
    const element = /** @type {HTMLElement} */ (this.querySelector(".map-popup"));
    const close = () => this.closePopup();
    render(html`<button class="plain icon small map-popup-close" aria-label=${t("act.close")} @click=${close}><wa-icon name="x-lg"></wa-icon></button>${this.popup?.(table, id, close)}`, element);
    element.hidden = false;
    this.bubble?.setPosition(at);
  }

  closePopup() {
    const element = /** @type {HTMLElement | null} */ (this.querySelector(".map-popup"));
    if (element) element.hidden = true;
    this.bubble?.setPosition(undefined);
  }

  /** @param {MouseEvent} event */
  contextMenu(event) {
    event.preventDefault();
    if (!this.map || this.drawing) return;
    const byKey = event.clientX === 0 && event.clientY === 0;
    if (byKey) return this.menuInTheMiddle();
    this.openMenuAt(event.clientX, event.clientY, this.map.getEventCoordinate(event));
  }

  menuInTheMiddle() {
    const box = /** @type {HTMLElement} */ (this.map?.getTargetElement()).getBoundingClientRect();
    this.openMenuAt(box.x + box.width / 2, box.y + box.height / 2, /** @type {any} */ (this.map?.getView().getCenter()));
  }

  /** @param {number} x @param {number} y @param {number[]} at */
  openMenuAt(x, y, at) {
    const [lon, lat] = toLonLat(at).map((degrees) => Math.round(degrees * 1e6) / 1e6);
    const place = { lon, lat };
    const items = this.menu?.(place) ?? [];
    items.push({ label: t("map.copy"), icon: "clipboard", do: () => void navigator.clipboard?.writeText(`${lat}, ${lon}`) });
    openMenu(x, y, items, coordinates(place));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    // Not what is pressed on a button in the map: Enter on "+" zooms.
    if (event.key === "Enter" && !this.drawing && event.target === event.currentTarget) {
      if (this.picking) this.pick(/** @type {any} */ (this.map?.getView().getCenter()));
      else this.menuInTheMiddle();
    }
    else if (event.key === "Escape") {
      if (!this.drawing) return this.closePopup();
      this.pen?.cancel();
      event.stopPropagation();
    } else return;
    event.preventDefault();
  }

  render() {
    return html`<div class="map-frame">
      <div class="map-canvas" tabindex="0" role="application" aria-label=${t("map.label")} aria-describedby="map-help"></div>
      <p class="visually-hidden" id="map-help">${t("map.help")}</p>
      <div class="map-cross" aria-hidden="true"></div>
      <div class="map-popup panel" hidden></div>
      ${this.drawing ? this.pad() : nothing}
      <div class="map-foot num"><span class="map-place"></span><span>${t("map.approval", { n: this.layers.approval || t("map.no_approval") })}</span></div>
      <div class="map-buttons no-print">
        <button class="icon" title=${t("map.home_view")} aria-label=${t("map.home_view")} @click=${() => this.home()}><wa-icon name="arrows-fullscreen"></wa-icon></button>
      </div>
    </div>`;
  }

  pad() {
    const undo = this.drawing === "Polygon";
    return html`<div class="map-pad panel" role="status">
      <span>${t(`map.draw.${this.drawing}`)}</span>
      ${undo ? html`<button class="small" @click=${() => this.pen?.undo()}>${t("map.undo")}</button>` : nothing}
      ${this.drawing === "edit" ? html`<button class="small primary" @click=${() => this.pen?.finish()}>${t("map.finish")}</button>` : nothing}
      <button class="small" @click=${() => this.pen?.cancel()}>${t("act.cancel")}</button>
    </div>`;
  }
}
customElements.define("fh-map", FenghuoMap);
