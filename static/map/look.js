// @ts-check
// How things look on the map. Every mark carries a letter or a word beside its colour; an old location looks old.

import { AGEING_S, OLD_S } from "../domain.js";
import { ageOf, duration } from "../format.js";
import { t } from "../i18n.js";
import { Circle, Fill, Point, RegularShape, Stroke, Style, Text } from "./ol.js";

/** @type {Record<string, string>} */
let colours = {};

/** "#abc" as "#aabbcc", so that an alpha can follow. @param {string} colour */
const six = (colour) => (colour.length === 4 ? `#${[...colour.slice(1)].map((digit) => digit + digit).join("")}` : colour);

/** Read the tokens again after a change of theme. */
export function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ground", "panel", "text", "text-2", "text-3", "land", "land-line", "water", "line-2", "accent", "beacon", "good", "warn", "bad", "red", "orange", "yellow", "blue"];
  colours = Object.fromEntries(names.map((name) => [name, six(style.getPropertyValue(`--${name}`).trim())]));
  colours.font = "'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', system-ui, sans-serif";
  return colours;
}

const LEVEL = /** @type {Record<string, string>} */ ({ I: "red", II: "orange", III: "yellow", IV: "blue" });

/** @param {string} level */
export const levelColour = (level) => colours[LEVEL[level] ?? "text"];

/** @param {string} colour @param {number} alpha */
const faint = (colour, alpha) => colour + Math.round(alpha * 255).toString(16).padStart(2, "0");

/** @param {string} text @param {number} offsetY @param {string} [colour] @param {string} [font] */
const label = (text, offsetY, colour = colours.text, font = `12px ${colours.font}`) =>
  new Text({ text, offsetY, font, fill: new Fill({ color: colour }), stroke: new Stroke({ color: colours.ground, width: 3.5 }), overflow: true });

export const land = () => new Style({ fill: new Fill({ color: colours.land }), stroke: new Stroke({ color: colours["land-line"], width: 1 }) });

/** @param {any} feature @param {number} resolution */
export function region(feature, resolution) {
  const level = feature.get("level");
  const width = level === "province" ? 2.2 : level === "city" ? 1.4 : 0.8;
  const dash = level === "county" ? [4, 4] : undefined;
  const wanted = resolution > 900 ? "province" : resolution > 160 ? "city" : "county";
  const style = new Style({
    stroke: new Stroke({ color: faint(colours["text-3"], level === "province" ? 0.9 : 0.6), width, lineDash: dash }),
    fill: level === "province" ? new Fill({ color: colours.land }) : undefined,
  });
  if (level === wanted) style.setText(label(feature.get("label"), 0, faint(colours["text-2"], 0.85), `${level === "county" ? 12 : 14}px ${colours.font}`));
  return style;
}

/** The middle of the upper edge, where a name hides nothing. @param {any} feature */
function topOf(feature) {
  const [west, , east, north] = feature.getGeometry().getExtent();
  return new Point([(west + east) / 2, north]);
}

/** @param {Record<string, any>} fence */
export function fence(fence) {
  const occupied = fence.inside.length > 0;
  const colour = occupied ? colours.warn : colours.accent;
  const name = new Style({ text: label(`${fence.name}${occupied ? ` (${fence.inside.length})` : ""}`, -9, colour), geometry: topOf, zIndex: 1 });
  return [new Style({
    stroke: new Stroke({ color: colour, width: 2, lineDash: [8, 5] }),
    fill: new Fill({ color: faint(colour, 0.08) }),
    zIndex: 1,
  }), name];
}

/** @param {Record<string, any>} incident */
export function area(incident) {
  const colour = levelColour(incident.level);
  return new Style({ stroke: new Stroke({ color: colour, width: 2 }), fill: new Fill({ color: faint(colour, 0.14) }), zIndex: 2 });
}

/** @param {Record<string, any>} incident @param {boolean} chosen */
export function incident(incident, chosen) {
  const colour = levelColour(incident.level);
  const radius = chosen ? 15 : 12;
  const dash = incident.exercise ? [3, 3] : undefined;
  return [
    new Style({ image: new Circle({ radius: radius + 5, fill: new Fill({ color: faint(colour, 0.22) }), stroke: chosen ? new Stroke({ color: colours.text, width: 2 }) : undefined }), zIndex: 20 }),
    new Style({
      image: new Circle({ radius, fill: new Fill({ color: colours.ground }), stroke: new Stroke({ color: colour, width: 3, lineDash: dash }) }),
      text: label(incident.level, 1, colour, `bold 12px ${colours.font}`),
      zIndex: 21,
    }),
    new Style({ text: label(`${incident.exercise ? `[${t("word.exercise")}] ` : ""}${incident.title}`, radius + 15, colours.text, `600 12px ${colours.font}`), zIndex: 22 }),
  ];
}

/** A unit where it was last seen; at its home, hollow, when it never was. @param {Record<string, any>} unit @param {Record<string, any> | undefined} seen @param {number} resolution */
export function unit(unit, seen, resolution) {
  const age = seen ? ageOf(seen.at) : Infinity;
  const stale = age > OLD_S;
  const busy = unit.status === "busy";
  const colour = !seen ? colours["text-3"] : stale ? colours["text-3"] : busy ? colours.warn : colours.good;
  const mark = new RegularShape({
    points: 4, radius: 13, angle: Math.PI / 4,
    fill: new Fill({ color: seen && !stale ? colour : colours.ground }),
    stroke: new Stroke({ color: colour, width: 2, lineDash: stale ? [3, 3] : undefined }),
  });
  const styles = [new Style({ image: mark, text: label(t(`unit.letter.${unit.kind}`), 1, seen && !stale ? colours.ground : colour, `600 11px ${colours.font}`), zIndex: 10 })];
  /** @type {any} */ (styles[0].getText()).setStroke(null);
  if (resolution < 120) {
    const when = !seen ? t("map.home") : age > AGEING_S ? `${stale ? "⚠ " : ""}${t("time.ago", { d: duration(age) })}` : "";
    styles.push(new Style({ text: label(`${unit.name}${when ? `\n${when}` : ""}`, when ? 27 : 20, stale && seen ? colours.bad : colours["text-2"], `11px ${colours.font}`), zIndex: 9 }));
  }
  return styles;
}

export const drawing = () => [
  new Style({
    stroke: new Stroke({ color: colours.beacon, width: 3 }),
    fill: new Fill({ color: faint(colours.beacon, 0.2) }),
    image: new Circle({ radius: 6, fill: new Fill({ color: colours.beacon }), stroke: new Stroke({ color: colours.ground, width: 2 }) }),
  }),
];

export const pin = () => new Style({ image: new RegularShape({ points: 4, radius: 14, radius2: 3, fill: new Fill({ color: colours.beacon }), stroke: new Stroke({ color: colours.ground, width: 1 }) }), zIndex: 30 });
