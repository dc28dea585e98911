// @ts-check
// The nodes of the tree as every page speaks of them: names, who stands above whom, how the link to one is, who decides
// about an incident, and how far the superior holds an entry.
//
// Decides nothing. Invariant: what nobody knows is called unknown, never cut.

import { html, nothing } from "lit";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { may, who } from "../session.js";

const LINE_MAX = 16;
const SKEW_ALARM_US = 2_000_000;
export const LEVELS = ["province", "city", "county", "field"];
export const KINDS = ["fixed", "mobile", "on_site"];
const ICONS = /** @type {Record<string, string>} */ ({ fixed: "building", mobile: "truck", on_site: "geo-alt" });

/** This node's id. */
export const here = () => who()?.here ?? "";

/** @param {string | null | undefined} id */
export const nodeName = (id) => (id ? (live.row("node", id)?.name ?? (id === here() ? who()?.node : id)) : "—");

/** @param {string} id */
export const nodeIcon = (id) => ICONS[live.row("node", id)?.kind] ?? "building";

/** The node and its superiors, itself first. @param {string | null | undefined} id @returns {string[]} */
export function lineOf(id) {
  /** @type {string[]} */
  const found = [];
  for (let at = id; at && !found.includes(at) && found.length < LINE_MAX; at = live.row("node", at)?.parent) found.push(at);
  return found;
}

/** Whether `node` stands above `to`. @param {string} node @param {string} to */
export const above = (node, to) => node !== to && lineOf(to).includes(node);

/** The superior's id, or "". */
export const superior = () => live.row("node", here())?.parent ?? "";

/** Where a transfer to `to` would go. @param {string} from @param {string} to */
export const direction = (from, to) => (above(to, from) ? "raise" : above(from, to) ? "hand_down" : "aside");

/** How it stands with a node as far as this one knows. @param {string} id @returns {"here" | "linked" | "cut" | "unknown" | "revoked"} */
export function standing(id) {
  if (id === here()) return "here";
  if (live.row("node", id)?.revoked) return "revoked";
  const state = live.row("presence", id);
  if (!state || state.known === false) return "unknown";
  return state.linked ? "linked" : "cut";
}

/** Whether the superior told this node that it is revoked: what it writes has no effect elsewhere. */
export const revokedHere = () => !!superior() && (!!live.row("node", here())?.revoked || (standing(superior()) !== "linked" && live.row("presence", superior())?.refused === "link.revoked"));

/** Whether a node that is linked has a clock too far off. @param {Record<string, any>} state */
export const skewed = (state) => state.linked && state.known !== false && Math.abs(state.skew_us) > SKEW_ALARM_US;

const TONE = /** @type {Record<string, string>} */ ({ linked: "good", cut: "bad", revoked: "bad", unknown: "", here: "" });

/** A node by name, with a mark and words for its link. @param {string} id */
export const nodeChip = (id) => html`<span class="badge node ${TONE[standing(id)]}" title=${t(`tree.${standing(id)}`)}><wa-icon name=${nodeIcon(id)}></wa-icon>${nodeName(id)}${standing(id) === "here" ? nothing : html`<span class="node-state">${t(`tree.${standing(id)}`)}</span>`}</span>`;

/** Whether this node decides about the incident. @param {Record<string, any> | undefined} incident */
export const owned = (incident) => !incident?.owner || !here() || incident.owner === here();

/** Whether this person may take a decision about the incident, here. @param {string} right @param {Record<string, any>} incident */
export const decides = (right, incident) => owned(incident) && may(right, incident);

/**
 * The second tick of an entry: whether the superior holds it; null where there is no superior. What came from above or
 * aside came through the superior. @param {Record<string, any> | undefined} item a row of the timeline
 * @returns {boolean | null}
 */
export function heldAbove(item) {
  const up = superior();
  if (!up || !item) return null;
  if (item.origin !== here() && !above(here(), item.origin)) return true;
  const tick = live.row("tick", `${item.subject}@${item.origin}.${item.generation}`);
  return !!tick && tick.length >= item.seq;
}

/**
 * What waits for this node's word: transfers that were offered to it or are asked of it, and requests to it as the owner.
 * @returns {{id: string, incident: string, at: number, kind: "transfer" | "ask"}[]}
 */
export function awaited() {
  /** @param {any} one @returns {any} */
  const about = (one) => live.row("incident", one.incident);
  const transfers = live.rows("transfer").filter((one) => one.claim === about(one)?.claim && ((one.state === "offered" && one.to === here()) || (one.state === "requested" && one.owner === here())));
  const asks = live.rows("ask").filter((one) => one.open && about(one) && owned(about(one)));
  const shown = (/** @type {any} */ one, /** @type {"transfer" | "ask"} */ kind) => ({ id: one.id, incident: one.incident, at: one.asked_at, kind });
  return [
    ...transfers.filter((one) => may("incident.transfer", about(one))).map((one) => shown(one, "transfer")),
    ...asks.filter((one) => may("incident.edit", about(one))).map((one) => shown(one, "ask")),
  ];
}
