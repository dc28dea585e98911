// @ts-check
// The layers of the map, and how rows become features in them.

import { get } from "../api.js";
import { language } from "../i18n.js";
import { live } from "../live.js";
import * as look from "./look.js";
import { Feature, fromLonLat, GeoJSON, Point, TopoJSON, VectorImageLayer, VectorLayer, VectorSource } from "./ol.js";
import { drawn } from "./shapes.js";

const LAND = "/vendor/world-atlas/land-50m.json";
const MERCATOR = "EPSG:3857";
const geojson = new GeoJSON({ featureProjection: MERCATOR });
const topojson = new TopoJSON();
/** Loaded once per page load. @type {Promise<{land: any[], regions: any[], approval: string}> | null} */
let ground = null;

/** The outline of land and the regions this node knows. */
async function fetchGround() {
  const atlas = await (await fetch(LAND)).json();
  const land = topojson.readFeatures(atlas, { featureProjection: MERCATOR });
  let regions = [];
  let approval = "";
  try {
    const collection = await get("/regions");
    regions = geojson.readFeatures(collection);
    approval = collection.approval ?? "";
  } catch {
    // a node without regions: the coast has to do
  }
  return { land, regions, approval };
}

export class Layers {
  constructor() {
    look.readColours();
    const vector = (/** @type {any} */ style, /** @type {number} */ zIndex) => new VectorLayer({ source: new VectorSource(), style, zIndex, declutter: false, updateWhileAnimating: true });
    this.land = new VectorImageLayer({ source: new VectorSource({ wrapX: true }), style: () => look.land(), zIndex: 0 });
    this.regions = new VectorImageLayer({ source: new VectorSource(), style: (feature, resolution) => this.regionStyle(feature, resolution), zIndex: 1 });
    this.fenceAreas = vector((/** @type {any} */ feature) => look.fence(feature.get("row")), 2);
    this.incidentAreas = vector((/** @type {any} */ feature) => look.area(feature.get("row")), 3);
    this.unitMarks = vector((/** @type {any} */ feature, /** @type {number} */ resolution) => look.unit(feature.get("row"), live.row("location", feature.get("key")), resolution), 4);
    this.incidentMarks = vector((/** @type {any} */ feature) => look.incident(feature.get("row"), feature.get("key") === this.chosen), 5);
    this.pen = vector(() => look.pin(), 6);
    this.all = [this.land, this.regions, this.fenceAreas, this.incidentAreas, this.unitMarks, this.incidentMarks, this.pen];
    this.chosen = "";
    this.only = "";
    this.approval = "";
    this.loaded = false;
  }

  async loadGround() {
    ground ??= fetchGround();
    const { land, regions, approval } = await ground;
    this.approval = approval;
    this.loaded = true;
    this.land.getSource()?.addFeatures(land.map((one) => one.clone()));
    this.regions.getSource()?.addFeatures(regions.map((one) => one.clone()));
  }

  /** @param {any} feature @param {number} resolution */
  regionStyle(feature, resolution) {
    feature.set("label", feature.get(language() === "en" ? "name_en" : "name_zh") ?? "", true);
    return look.region(feature, resolution);
  }

  restyle() {
    look.readColours();
    for (const layer of this.all) layer.changed();
  }

  restyleUnits() {
    this.unitMarks.changed();
  }

  /**
   * Make the features of a layer those of `rows`.
   * @param {any} layer @param {string} table @param {Record<string, any>[]} rows @param {(row: any) => any} geometry
   */
  fill(layer, table, rows, geometry) {
    const source = layer.getSource();
    const wanted = new Set(rows.map((row) => row.id));
    for (const feature of source.getFeatures()) if (!wanted.has(feature.getId())) source.removeFeature(feature);
    for (const row of rows) {
      let feature = source.getFeatureById(row.id);
      if (!feature) {
        feature = new Feature();
        feature.setId(row.id);
        feature.setProperties({ table, key: row.id, row, geometry: geometry(row) }, true);
        source.addFeature(feature);
      } else {
        feature.set("row", row, true);
        feature.setGeometry(geometry(row));
      }
    }
    layer.changed();
  }

  incidents() {
    const shown = live.rows("incident").filter((row) => (this.only ? row.id === this.only : row.open));
    const point = (/** @type {any} */ row) => new Point(fromLonLat([row.place.lon, row.place.lat]));
    this.fill(this.incidentMarks, "incident", shown, point);
    this.fill(this.incidentAreas, "incident", shown.filter((row) => row.area), (row) => drawn(row.area));
  }

  fences() {
    const shown = live.rows("fence").filter((row) => row.active && (!this.only || row.incident === this.only || !row.incident));
    this.fill(this.fenceAreas, "fence", shown, (row) => drawn(row.geometry));
  }

  units() {
    const place = (/** @type {any} */ row) => live.row("location", row.id) ?? row.home;
    const shown = live.rows("unit").filter((row) => !row.retired && place(row));
    this.fill(this.unitMarks, "unit", shown, (row) => new Point(fromLonLat([place(row).lon, place(row).lat])));
  }
}
