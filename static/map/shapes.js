// @ts-check
// Between our geometries (WGS-84 GeoJSON, and Circle in metres) and what OpenLayers draws (EPSG:3857).


import { CircleGeometry, circular, fromLonLat, GeoJSON, getDistance, getPointResolution, toLonLat } from "./ol.js";
const MERCATOR = "EPSG:3857";
const CIRCLE_VERTICES = 96;
const format = new GeoJSON({ featureProjection: MERCATOR });

/** As drawn: a circle becomes its polygon on the ellipsoid's sphere. @param {any} geometry @returns {any} */
export function drawn(geometry) {
  if (geometry.type !== "Circle") return format.readGeometry(geometry);
  return circular(geometry.coordinates, geometry.radius_m, CIRCLE_VERTICES).transform("EPSG:4326", MERCATOR);
}

/** As edited: a circle stays one, with a handle for its centre and one for its radius. @param {any} geometry @returns {any} */
export function editable(geometry) {
  if (geometry.type !== "Circle") return format.readGeometry(geometry);
  const centre = fromLonLat(geometry.coordinates);
  return new CircleGeometry(centre, geometry.radius_m / getPointResolution(MERCATOR, 1, centre));
}

/** @param {number} degrees */
const rounded = (degrees) => Math.round(degrees * 1e7) / 1e7;

/** @param {any} value @returns {any} */
const roundAll = (value) => (Array.isArray(value) ? value.map(roundAll) : rounded(value));

/** What was drawn, as the server takes it. @param {any} shape @returns {Record<string, any>} */
export function stored(shape) {
  if (shape.getType() !== "Circle") {
    const { type, coordinates } = /** @type {any} */ (format.writeGeometryObject(shape));
    return { type, coordinates: roundAll(coordinates) };
  }
  const centre = toLonLat(shape.getCenter());
  const [x, y] = shape.getCenter();
  const edge = toLonLat([x + shape.getRadius(), y]);
  return { type: "Circle", coordinates: roundAll(centre), radius_m: Math.max(1, Math.round(getDistance(centre, edge))) };
}

/** Some point of it, to fly to. @param {any} geometry @returns {[number, number]} */
export function centreOf(geometry) {
  if (geometry.type === "Circle") return geometry.coordinates;
  const extent = drawn(geometry).getExtent();
  const [lon, lat] = toLonLat([(extent[0] + extent[2]) / 2, (extent[1] + extent[3]) / 2]);
  return [lon, lat];
}
