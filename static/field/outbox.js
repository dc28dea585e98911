// @ts-check
// What was decided on this phone and isn't at the server yet: kept, retried in order, never doubled.
//
// Decides nothing about orders. Invariant: an action leaves the queue only when the server has said that it is durable
// (same Idempotency-Key on every try, so a lost answer doubles nothing), or when its person discards a refused one.

import { ApiError, newKey, send, upload } from "../api.js";
import { now } from "../clock.js";
import { onSession, who } from "../session.js";
import { all, put, remove } from "./store.js";

export const QUEUE_MAX = 500;
export const BACKOFF_S = [2, 4, 8, 15, 30];
const SENT_SHOWN_MS = 2500;

/**
 * @typedef {{id: string, account: string, at: number, kind: string, about: string, incident?: string, path: string,
 *   body: Record<string, any>, text?: string, file?: Blob, hash?: string, state: "waiting" | "refused" | "sent",
 *   code?: string, hint?: string, silent?: boolean}} Action
 */

class Outbox {
  constructor() {
    /** @type {Action[]} */
    this.items = [];
    this.trying = false;
    this.nextTry = 0;
    this._tries = 0;
    this._timer = 0;
    this._last = 0;
    /** @type {Set<() => void>} */
    this._listeners = new Set();
    /** @type {Promise<void> | null} */
    this._begun = null;
  }

  /** Read what an earlier visit left; once. */
  begin() {
    this._begun ??= all("queue").then((kept) => {
      const known = new Set(this.items.map((item) => item.id));
      this.items = [...kept.filter((item) => !known.has(item.id)), ...this.items];
      this._tell();
      this.kick();
    });
    return this._begun;
  }

  /** Mine and not at the server yet. */
  waiting() {
    return this.items.filter((item) => item.state !== "sent" && item.account === who()?.account);
  }

  /** Left by another account of this phone. */
  foreign() {
    return this.items.filter((item) => item.state !== "sent" && item.account !== who()?.account);
  }

  /** What concerns an order or an incident, oldest first. @param {string} about */
  of(about) {
    return this.items.filter((item) => item.about === about && item.account === who()?.account);
  }

  /** @param {() => void} listener */
  on(listener) {
    this._listeners.add(listener);
    return () => this._listeners.delete(listener);
  }

  /**
   * Keep an action, and try to send it. Resolves once it is kept on this phone.
   * @param {Pick<Action, "kind" | "about" | "path" | "body" | "text" | "file" | "incident" | "silent">} action
   */
  async add(action) {
    if (this.items.length >= QUEUE_MAX) throw new ApiError(0, "field.queue_full", "");
    const at = Math.max(now(), this._last + 1); // the key sorts by it
    this._last = at;
    const account = who()?.account ?? "";
    /** @type {Action} */
    const item = { ...action, id: newKey(), account, at, state: "waiting" };
    this.items = [...this.items, item];
    this._tell();
    await put("queue", key(item), item);
    this.kick();
  }

  /** Forget a refused action. @param {Action} item */
  async discard(item) {
    this.items = this.items.filter((other) => other !== item);
    await remove("queue", [key(item)]);
    this._tell();
  }

  /** Try now, not after the wait. */
  kick() {
    this._tries = 0;
    clearTimeout(this._timer);
    void this._run();
  }

  async _run() {
    if (this.trying) return;
    this.trying = true;
    this.nextTry = 0;
    this._tell();
    try {
      for (;;) {
        const item = this.items.find((one) => one.state === "waiting" && one.account === who()?.account);
        if (!item) break;
        if (!(await this._one(item))) break;
      }
    } finally {
      this.trying = false;
      this._tell();
    }
  }

  /** Whether to go on with the next. @param {Action} item */
  async _one(item) {
    try {
      await this._send(item);
      this._tries = 0;
      item.state = "sent";
      await remove("queue", [key(item)]);
      setTimeout(() => {
        this.items = this.items.filter((other) => other !== item);
        this._tell();
      }, SENT_SHOWN_MS);
    } catch (error) {
      const status = error instanceof ApiError ? error.status : 0;
      if (status === 401) return false; // sign in again; then all goes on
      if (status === 0 || status === 429 || status >= 500) {
        this._later();
        return false;
      }
      const refusal = /** @type {ApiError} */ (error);
      Object.assign(item, { state: "refused", code: refusal.code, hint: refusal.hint });
      await put("queue", key(item), item);
    }
    this._tell();
    return true;
  }

  /** @param {Action} item */
  async _send(item) {
    if (item.file && !item.hash) {
      item.hash = (await upload(item.file)).hash;
      await put("queue", key(item), item);
    }
    const body = item.hash ? { ...item.body, attachments: [item.hash] } : item.body;
    await send("POST", item.path, body, item.id);
  }

  _later() {
    const wait = BACKOFF_S[Math.min(this._tries++, BACKOFF_S.length - 1)];
    this.nextTry = Date.now() + wait * 1000;
    clearTimeout(this._timer);
    this._timer = setTimeout(() => void this._run(), wait * 1000);
  }

  _tell() {
    for (const listener of this._listeners) listener();
  }
}

/** @param {Action} item */
const key = (item) => `${String(item.at).padStart(18, "0")}-${item.id}`;

export const outbox = new Outbox();

addEventListener("online", () => outbox.kick());
document.addEventListener("visibilitychange", () => document.hidden || outbox.kick());
onSession(() => who() && outbox.kick());
