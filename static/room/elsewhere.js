// @ts-check
// Rooms and meetings that another node hosts: they are shown here and joined there.

import { html, nothing } from "lit";
import { t } from "../i18n.js";
import { here, nodeName } from "../parts/nodes.js";

/** Whether another node hosts it. @param {Record<string, any> | undefined} row a room or a meeting */
export const elsewhere = (row) => Boolean(row?.node && here() && row.node !== here());

/** The address there, if it is one that may be followed. @param {Record<string, any>} row */
const address = (row) => (/^https?:\/\//.test(row.link ?? "") ? row.link : "");

/** Who hosts it, when that is another node. @param {Record<string, any>} row */
export const host = (row) => (elsewhere(row) ? html`<span class="small muted" data-host=${row.node}>${t("room.hosted", { node: nodeName(row.node) })}</span>` : nothing);

/** The way in: here, or at the node that hosts it. @param {Record<string, any>} row @param {string} label */
export function way(row, label) {
  if (!elsewhere(row)) return html`<a class="button small" href=${`#/room/${row.id}`}>${label}</a>`;
  const to = address(row);
  return to ? html`<a class="button small" data-join=${row.id} href=${to} target="_blank" rel="noopener">${t("room.join_there")}</a>` : nothing;
}

/** The page of a room that is held elsewhere. @param {Record<string, any>} row @param {unknown} record */
export const there = (row, record) => html`<div class="prejoin"><section class="panel" id="elsewhere">
  <header><wa-icon name="camera-video"></wa-icon><h2 class="clip">${row.title || t("nav.room")}</h2></header>
  <div class="body stack"><p class="note-line" role="status">${t("room.elsewhere", { node: nodeName(row.node) })}</p><div class="row wrap">${row.open ? way(row, "") : nothing}</div>${record}</div></section></div>`;
