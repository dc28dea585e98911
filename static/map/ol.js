// @ts-check
// OpenLayers as one file: the package's own bundle, which is a script and no module. Of its single modules the map would
// need 177, each a request.
//
// Types stand in `ol.d.ts`, which must name the same things.

const BUNDLE = "/vendor/ol/dist/ol.js";

await new Promise((done, failed) => {
  const script = Object.assign(document.createElement("script"), { src: BUNDLE, onload: done });
  script.onerror = () => failed(new Error(`${BUNDLE} can't be loaded`));
  document.head.append(script);
});
const { ol } = /** @type {any} */ (globalThis);

export const { Feature, Overlay, View } = ol;
export const OlMap = ol.Map;
export const { MousePosition, ScaleLine } = ol.control;
export const controls = ol.control.defaults.defaults;
export const { boundingExtent, buffer, createEmpty, extend, isEmpty } = ol.extent;
export const { GeoJSON, TopoJSON } = ol.format;
export const { Point } = ol.geom;
export const CircleGeometry = ol.geom.Circle;
export const { circular } = ol.geom.Polygon;
export const { Draw, Modify } = ol.interaction;
export const { VectorImage: VectorImageLayer, Vector: VectorLayer } = ol.layer;
export const { fromLonLat, getPointResolution, toLonLat } = ol.proj;
export const VectorSource = ol.source.Vector;
export const { getDistance } = ol.sphere;
export const { Circle, Fill, RegularShape, Stroke, Style, Text } = ol.style;
