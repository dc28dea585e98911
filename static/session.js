// @ts-check
// Who is signed in, and what their roles let them try. The server decides; this only spares people useless buttons.

import { get, post, send } from "./api.js";
import { heard } from "./clock.js";
import { remembered, setLanguage } from "./i18n.js";
import { live } from "./live.js";

/**
 * @typedef {import("./live.js").Row} Row
 * @typedef {{session: string, account: string, name: string, roles: string[], posts: string[], organisation: Row | null,
 *   person: Row | null, unit: Row | null, rights: Record<string, string>, language: string, limited: boolean,
 *   demanded: string[], totp: boolean, expires_at: number, node: string, here: string, position: number, now: number}} Me
 */

/** Set on this device while somebody is signed in, so that a screen without a session asks nothing. */
export const SIGNED_IN = "fenghuo.signed-in";
const RELATIONS = ["NONE", "SELF", "ASSIGNED", "LINE", "ANY"];
/** @type {Me | null} */
let me = null;
/** @type {Set<() => void>} */
const listeners = new Set();

/** The account that is signed in, or null. */
export const who = () => me;

/** Calls `listener` at sign-in, sign-out and change. @param {() => void} listener */
export function onSession(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** @param {Me | null} next */
export function become(next) {
  me = next;
  if (next) localStorage.setItem(SIGNED_IN, "yes");
  else localStorage.removeItem(SIGNED_IN);
  if (next) heard(next.now);
  if (next && !remembered()) setLanguage(next.language, false);
  for (const listener of listeners) listener();
}

/** Ask the server who we are; null when nobody is signed in. */
export async function load() {
  if (!localStorage.getItem(SIGNED_IN)) return null;
  try {
    become(await get("/session"));
  } catch (error) {
    if (/** @type {any} */ (error).status !== 401) throw error;
    become(null);
  }
  return me;
}

/** @param {string} name @param {string} password @param {string} [code] the six digits, once asked for */
export async function signIn(name, password, code) {
  become(await post("/session", code ? { name, password, code } : { name, password }));
  return me;
}

export async function signOut() {
  try {
    await send("DELETE", "/session");
  } finally {
    forget();
  }
}

/** The session has ended elsewhere. */
export function forget() {
  live.stop();
  become(null);
}

/** @param {string | undefined} relation */
const rank = (relation) => Math.max(0, RELATIONS.indexOf(relation ?? "NONE"));

/**
 * Whether it is worth showing: some role has `right`, and the thing (where given) is near enough.
 * @param {string} right @param {{organisation?: string | null, parties?: string[], owner?: string | null}} [thing]
 */
export function may(right, thing) {
  const wide = rank(me?.rights?.[right]);
  if (!me || wide === 0) return false;
  if (!thing || wide === 4) return true;
  return distance(thing) <= wide;
}

/** Choose the language of this screen and of messages to this account. @param {string} language */
export async function chooseLanguage(language) {
  setLanguage(language);
  if (me && !me.limited && me.language !== language) become(await send("PATCH", "/session", { language }));
}

/** @param {{organisation?: string | null, parties?: string[], owner?: string | null}} thing */
function distance(thing) {
  if (!me) return 4;
  const own = me.organisation?.id ?? "";
  if (thing.owner && [me.account, me.person?.id].includes(thing.owner)) return 1;
  const mine = [me.person?.id, me.unit?.id, own, me.account].filter(Boolean);
  if ((thing.parties ?? []).some((party) => mine.includes(party))) return 2;
  const line = live.row("organisation", thing.organisation)?.line ?? [thing.organisation];
  return line.includes(own) ? 3 : 4;
}
