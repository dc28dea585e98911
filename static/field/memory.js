// @ts-check
// The last known rows and account, so that the page opens without a network: own orders, their incidents and rooms.
//
// Never shown as fresh: the shell says since when there is no connection. Invariant: rows of one account are never shown
// to another; signing out forgets them.

import { live } from "../live.js";
import { onSession, who } from "../session.js";
import { forgetRows, put, recall } from "./store.js";

const KEPT = ["order", "incident", "room", "organisation", "unit"];
const ROWS_MAX = 300;
const WAIT_MS = 800;
let timer = 0;
let signedIn = "";

/** The ids that an order may name when it is mine. */
export const mine = () => [who()?.person?.id, who()?.unit?.id, who()?.organisation?.id].filter(Boolean);

/** @param {Record<string, any>} row */
export const isMine = (row) => (row.parties ?? []).some((/** @type {string} */ party) => mine().includes(party));

/** The account of the last visit, or null. */
export const lastAccount = () => recall("me");

/** Put the kept rows where the screen looks for them, until the feed brings fresh ones. @param {string} account */
export async function restore(account) {
  const kept = await recall("rows");
  if (kept?.account !== account || live.ready("picture")) return 0;
  for (const [name, rows] of Object.entries(kept.tables))
    if (!live.tables.has(name)) live.tables.set(name, new Map(rows.map((/** @type {any} */ row) => [row.id, row])));
  return kept.at;
}

function save() {
  timer = 0;
  const me = who();
  if (!me || !live.ready("picture")) return;
  const orders = live.rows("order").filter(isMine);
  const incidents = new Set(orders.map((order) => order.incident));
  /** @type {Record<string, any[]>} */
  const tables = {};
  for (const name of KEPT) {
    const rows = name === "order" ? orders : live.rows(name);
    const wanted = name === "incident" || name === "room" ? rows.filter((row) => isMine(row) || incidents.has(row.incident ?? row.id)) : rows;
    tables[name] = wanted.slice(0, ROWS_MAX);
  }
  void put("cache", "rows", { account: me.account, at: Date.now(), tables });
}

/** Keep what the feed brings; once. */
export function remember() {
  live.follow(KEPT, () => {
    timer ||= setTimeout(save, WAIT_MS);
  });
  onSession(() => {
    const me = who();
    if (me && !me.limited) {
      signedIn = me.account;
      void put("cache", "me", me);
    } else if (signedIn) {
      signedIn = "";
      void forgetRows();
    }
  });
}
