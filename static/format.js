// @ts-check
// Instants, durations, distances and names as people read them. Pure but for the clock and the live rows.

import { now } from "./clock.js";
import { language, locale, t, tOr } from "./i18n.js";
import { live } from "./live.js";

/** @param {number} n */
const two = (n) => String(n).padStart(2, "0");

/** hh:mm:ss in this device's time zone. @param {number | null | undefined} us */
export function clockTime(us) {
  if (us === null || us === undefined) return "—";
  const at = new Date(us / 1000);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** "20:31" today, "11-19 20:31" otherwise. @param {number | null | undefined} us */
export function shortTime(us) {
  if (us === null || us === undefined) return "—";
  const at = new Date(us / 1000);
  const today = new Date(now() / 1000).toDateString() === at.toDateString();
  const time = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return today ? time : `${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

/** Date and time in full, with the zone. @param {number | null | undefined} us */
export function fullTime(us) {
  if (us === null || us === undefined) return "—";
  return new Date(us / 1000).toLocaleString(locale(), { dateStyle: "medium", timeStyle: "long" });
}

/** For `<input type="datetime-local">`. @param {number} us */
export function inputTime(us) {
  const at = new Date(us / 1000);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** Microseconds of an `<input type="datetime-local">`, or null. @param {string} text */
export const fromInput = (text) => (text ? new Date(text).getTime() * 1000 : null);

/** "4 min 05 s": the two largest units. @param {number} seconds */
export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return t("time.s", { s });
  if (s < 3600) return t("time.ms", { m: Math.floor(s / 60), s: two(s % 60) });
  if (s < 86400) return t("time.hm", { h: Math.floor(s / 3600), m: two(Math.floor((s % 3600) / 60)) });
  return t("time.dh", { d: Math.floor(s / 86400), h: Math.floor((s % 86400) / 3600) });
}

/** Seconds since `us` on the server's clock. @param {number} us */
export const ageOf = (us) => Math.max(0, (now() - us) / 1e6);

/** @param {number} metres */
export const distance = (metres) => (metres < 1000 ? `${Math.round(metres)} m` : `${(metres / 1000).toFixed(metres < 10000 ? 1 : 0)} km`);

/** "32.12345°N 155.00000°E". @param {{lon: number, lat: number} | null | undefined} place */
export function coordinates(place) {
  if (!place) return "—";
  const { lon, lat } = place;
  return `${Math.abs(lat).toFixed(5)}°${lat < 0 ? "S" : "N"} ${Math.abs(lon).toFixed(5)}°${lon < 0 ? "W" : "E"}`;
}

/** @param {string | null | undefined} id */
export function organisationName(id) {
  const row = live.row("organisation", id);
  return row ? (language() === "en" && row.name_en ? row.name_en : row.name) : (id ?? "—");
}

/** A person by name, or by organisation where the name isn't given to this node. @param {string | null | undefined} id */
export function personName(id) {
  const row = live.row("person", id);
  if (!row?.name.startsWith("person/")) return row?.name ?? id ?? "—";
  return t("word.person_of", { name: organisationName(row.organisation), n: row.id.slice(-4) });
}

/** @param {string | null | undefined} id */
export const unitName = (id) => live.row("unit", id)?.name ?? id ?? "—";

/** @param {{kind: string, id: string} | null | undefined} party */
export function partyName(party) {
  if (!party) return "—";
  if (party.kind === "unit") return unitName(party.id);
  if (party.kind === "organisation") return organisationName(party.id);
  return personName(party.id);
}

/** Whoever answers to this id: a person, a unit, an organisation. @param {string | null | undefined} id */
export function anyName(id) {
  if (!id) return "—";
  if (live.row("unit", id)) return unitName(id);
  if (live.row("organisation", id)) return organisationName(id);
  return personName(id);
}

/** Who wrote an entry, in words. @param {{account: string, person?: string, post?: string, organisation?: string}} by */
export function author(by) {
  if (by.account === "node") return t("word.node");
  const name = by.person ? personName(by.person) : (live.row("account", by.account)?.name ?? by.account);
  return by.post ? `${name} · ${tOr(`post.${by.post}`, by.post)}` : name;
}

/** A list in words. @param {string[]} items */
export const joined = (items) => items.join(language() === "zh" ? "、" : ", ");

/** What stands between a name and its value. */
export const colon = () => (language() === "zh" ? "：" : ": ");

/** Octets. @param {number} size */
export const octets = (size) => (size < 1024 ? `${size} B` : size < 1048576 ? `${(size / 1024).toFixed(0)} kB` : `${(size / 1048576).toFixed(1)} MB`);
