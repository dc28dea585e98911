// @ts-check
// Drawing on the map: a polygon, a circle, a point; or changing one that is there. One drawing at a time.
//
// Invariant: the promise of a drawing settles, with null when it was given up.

import { drawing } from "./look.js";
import { Draw, Feature, Modify, toLonLat } from "./ol.js";
import { editable, stored } from "./shapes.js";

export class Pen {
  /** @param {any} map @param {any} layer */
  constructor(map, layer) {
    this.map = map;
    this.source = layer.getSource();
    /** @type {any[]} */
    this.interactions = [];
    /** @type {((shape: any) => void) | null} */
    this.settle = null;
    /** @type {any} */
    this.feature = null;
  }

  /** @param {"Polygon" | "Circle" | "Point"} kind @param {any} [around] @returns {Promise<any>} */
  draw(kind, around) {
    this.cancel();
    this.source.clear();
    const result = new Promise((settle) => (this.settle = settle));
    if (around) this.change(around);
    else this.begin(kind);
    return result;
  }

  /** @param {"Polygon" | "Circle" | "Point"} kind */
  begin(kind) {
    const pen = new Draw({ type: kind, style: drawing(), stopClick: true });
    pen.on("drawend", (/** @type {any} */ event) => {
      const shape = event.feature.getGeometry();
      if (kind !== "Point") return this.end(stored(shape));
      const [lon, lat] = toLonLat(shape.getCoordinates()).map((degrees) => Math.round(degrees * 1e6) / 1e6);
      this.end({ lon, lat });
    });
    this.add(pen);
  }

  /** @param {any} geometry */
  change(geometry) {
    this.feature = new Feature(editable(geometry));
    this.feature.setStyle(drawing());
    this.source.addFeature(this.feature);
    this.add(new Modify({ source: this.source, style: drawing() }));
  }

  /** @param {any} interaction */
  add(interaction) {
    this.interactions.push(interaction);
    this.map.addInteraction(interaction);
    this.map.getTargetElement().focus();
  }

  /** Take back the last corner. */
  undo() {
    this.interactions[0]?.removeLastPoint?.();
  }

  /** Done with changing. */
  finish() {
    this.end(this.feature ? stored(this.feature.getGeometry()) : null);
  }

  cancel() {
    this.end(null);
  }

  /** @param {any} shape */
  end(shape) {
    const settle = this.settle;
    this.settle = null;
    const interactions = this.interactions;
    this.interactions = [];
    this.feature = null;
    this.source.clear();
    settle?.(shape);
    setTimeout(() => interactions.forEach((one) => this.map.removeInteraction(one))); // not inside its own event
  }
}
