// @ts-check
// What the chair has set, as the rows say, and the commands that change it. Every screen shows these rows and nothing else.
//
// Decides nothing. Invariant: names are looked up, never kept.

import { post, send } from "../api.js";
import { personName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { attempt } from "../parts/toast.js";
import { may, who } from "../session.js";

/** @typedef {Record<string, any>} Meeting */

export const LAYOUTS = ["free", "grid", "speaker", "one_plus_n"];
export const TILES = [5, 7, 9, 15];
export const INTERVALS_S = [5, 10, 15, 30, 60, 120];

/** The row of this room's control. @param {string} room @returns {Meeting | undefined} */
export const controlOf = (room) => live.row("meeting", room);

/** What somebody is called: as they joined, else as the registry knows them. @param {string} room @param {string} id an account or a person */
export const nameOf = (room, id) => live.row("attendance", `${room}.${id}`)?.name ?? live.row("account", id)?.name ?? personName(id);

/** Whether this screen may act as the chair here. @param {string} room */
export function chairs(room) {
  const row = live.row("room", room) ?? live.row("schedule", room);
  const mine = who()?.account ?? "";
  if (!row) return false;
  return (controlOf(room)?.cochairs ?? []).includes(mine) || may("room.chair", { organisation: row.organisation, owner: row.chair });
}

/** Whether microphones are the chair's and this account is neither a chair nor has the floor. @param {Meeting | undefined} control @param {{account: string, role: string}} member */
export function held(control, member) {
  if (!control || control.microphones !== "chair" || member.role === "chair") return false;
  return !control.cochairs.includes(member.account) && !control.floor.includes(member.account);
}

/** none, queued or speaking. @param {Meeting | undefined} control @param {string} account */
export function placeOf(control, account) {
  if (control?.floor.includes(account)) return "speaking";
  return control?.hands.some((/** @type {any} */ hand) => hand.account === account) ? "queued" : "none";
}

/** The roll call that goes on, if any. @param {string} room */
export const rollCallOf = (room) => live.row("roll_call", controlOf(room)?.roll_call);

/** All of this room, newest first. @param {string} room */
export const rollCallsOf = (room) => live.rows("roll_call").filter((row) => row.room === room).sort((a, b) => b.started_at - a.started_at);

/** @param {string} room */
export const chatOf = (room) => live.rows("chat").filter((row) => row.room === room).sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1));

/** @param {string} room */
export const attendanceOf = (room) =>
  live.rows("attendance").filter((row) => row.room === room).sort((a, b) => (a.spans[0]?.joined_at ?? 0) - (b.spans[0]?.joined_at ?? 0) || (a.id < b.id ? -1 : 1));

/** A command about this room; its error is shown. @param {string} room @param {string} path @param {object} [body] */
export const tell = (room, path, body = {}) => attempt(() => post(`/rooms/${room}/${path}`, body));

/** @param {string} room @param {object} changes */
export const set = (room, changes) => attempt(() => send("PATCH", `/rooms/${room}/control`, changes));

/** @param {string} room @param {string} account @param {string} standing */
export const stand = (room, account, standing) => tell(room, "standing", { account, standing });

/** Raise one's hand, take it back, or give the floor back: whichever fits. @param {string} room */
export function hand(room) {
  const place = placeOf(controlOf(room), who()?.account ?? "");
  return tell(room, "floor", { move: { none: "raise", queued: "lower", speaking: "yield" }[place] });
}

/** Who is shown to everybody now, and why, in words; "" for nobody. @param {string} room @param {boolean} chair */
export function shownNow(room, chair) {
  const control = controlOf(room);
  if (control?.broadcast) return t("meeting.now_broadcast", { name: nameOf(room, control.broadcast) });
  const poll = control?.poll;
  if (poll?.current && (poll.audience === "all" || chair)) return t("meeting.now_polled", { name: nameOf(room, poll.current), s: poll.interval_s });
  return "";
}
