// @ts-check
// The live feed: one WebSocket, a store of rows by table and key, and honesty about how old they are.
//
// Holds no rule of the domain. Invariant: the store is the last snapshot of every followed topic plus every change since;
// when no frame came for STALE_S seconds, `stale` is true until one comes.

import { BASE, saw } from "./api.js";
import { heard } from "./clock.js";

export const STALE_S = 8;
export const BACKOFF_S = [0.4, 0.8, 1.6, 3, 6, 10];

/** @typedef {{id: string, version?: number} & Record<string, any>} Row */

class Feed {
  constructor() {
    /** @type {Map<string, Map<string, Row>>} */
    this.tables = new Map();
    /** @type {Map<string, {count: number, ready: boolean, tables: Set<string>, error: string}>} */
    this.topics = new Map();
    /** @type {Map<string, Set<string>>} `table/key` -> topics that hold it */
    this.holders = new Map();
    this.position = 0;
    this.connected = false;
    this.stale = false;
    this.lastFrame = 0;
    /** @type {Set<{tables: Set<string> | null, call: (changed: Set<string>) => void}>} */
    this._listeners = new Set();
    /** @type {Set<() => void>} */
    this._statusListeners = new Set();
    /** @type {WebSocket | null} */
    this._socket = null;
    this._tries = 0;
    this._running = false;
    this._greeting = false;
    this._again = 0;
    /** @type {(code: number) => void} */
    this.onRefused = () => {};
  }

  // -- for pages

  /** All rows of a table. @param {string} table @returns {Row[]} */
  rows(table) {
    return [...(this.tables.get(table)?.values() ?? [])];
  }

  /** One row. @param {string} table @param {string | null | undefined} key @returns {Row | undefined} */
  row(table, key) {
    return key ? this.tables.get(table)?.get(key) : undefined;
  }

  /** Whether the first snapshot of a topic is there. @param {string} topic */
  ready(topic) {
    return this.topics.get(topic)?.ready ?? false;
  }

  /** The error code with which a topic was refused, or "". @param {string} topic */
  refused(topic) {
    return this.topics.get(topic)?.error ?? "";
  }

  /** Calls `call` after changes of `tables` (null: of any). @param {Iterable<string> | null} tables @param {(changed: Set<string>) => void} call */
  follow(tables, call) {
    const listener = { tables: tables && new Set(tables), call };
    this._listeners.add(listener);
    return () => this._listeners.delete(listener);
  }

  /** Calls `call` when connection or staleness changes. @param {() => void} call */
  onStatus(call) {
    this._statusListeners.add(call);
    return () => this._statusListeners.delete(call);
  }

  /** Follow a topic until the returned function is called; several callers share one subscription. @param {string} name */
  subscribe(name) {
    const topic = this.topics.get(name) ?? { count: 0, ready: false, tables: new Set(), error: "" };
    this.topics.set(name, topic);
    topic.count++;
    if (topic.count === 1) this._say({ type: "subscribe", topic: name });
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      topic.count--;
      if (topic.count === 0) this._drop(name);
    };
  }

  // -- life

  start() {
    if (this._running) return;
    this._running = true;
    this._watch = setInterval(() => this._checkAge(), 1000);
    this.lastFrame = Date.now();
    this._connect();
  }

  /** Close and forget everything: the session has ended. */
  stop() {
    this._running = false;
    clearInterval(this._watch);
    clearTimeout(this._again);
    this._socket?.close();
    this._socket = null;
    this.tables.clear();
    this.holders.clear();
    this.position = 0;
    this.connected = this.stale = false;
    for (const topic of this.topics.values()) Object.assign(topic, { ready: false, error: "" });
  }

  /** Try again now, not after the wait. */
  hurry() {
    if (!this._running || this.connected) return;
    clearTimeout(this._again);
    this._tries = 0;
    this._connect();
  }

  _connect() {
    this._socket?.close();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${BASE}/live`);
    this._socket = socket;
    socket.onopen = () => this._opened();
    socket.onmessage = (message) => socket === this._socket && this._frame(JSON.parse(message.data));
    socket.onclose = (event) => socket === this._socket && this._closed(event.code);
  }

  _opened() {
    this.connected = true;
    this._greeting = true; // the answer to this ping may name a position whose changes are still on their way
    this._say({ type: "ping" });
    for (const [name, topic] of this.topics) {
      const resume = topic.ready && this.position > 0;
      this._say(resume ? { type: "subscribe", topic: name, since: this.position } : { type: "subscribe", topic: name });
    }
    this._status();
  }

  /** @param {number} code */
  _closed(code) {
    this._socket = null;
    this.connected = false;
    if (code === 4401 || code === 4409 || code === 1013) this.position = 0; // a new snapshot, not a resumption
    this._status();
    if (code === 4401) return this.onRefused(code);
    if (code === 4409) this.onRefused(code);
    if (!this._running) return;
    const wait = BACKOFF_S[Math.min(this._tries++, BACKOFF_S.length - 1)] * (0.5 + Math.random());
    this._again = setTimeout(() => this._connect(), wait * 1000);
  }

  /** @param {object} message */
  _say(message) {
    if (this._socket?.readyState === WebSocket.OPEN) this._socket.send(JSON.stringify(message));
  }

  _checkAge() {
    const stale = Date.now() - this.lastFrame > STALE_S * 1000;
    if (stale && this.connected) this._socket?.close(); // half open: start again
    if (stale !== this.stale) {
      this.stale = stale;
      this._status();
    }
  }

  _status() {
    for (const call of this._statusListeners) call();
  }

  // -- frames

  /** @param {any} frame */
  _frame(frame) {
    this.lastFrame = Date.now();
    this._tries = 0;
    if (this.stale) this._checkAge();
    if (frame.type === "snapshot") this._snapshot(frame);
    else if (frame.type === "changes") this._changes(frame);
    else if (frame.type === "position") this._heartbeat(frame);
    else if (frame.type === "resumed") this._reached(frame.position);
    else if (frame.type === "error") this._error(frame);
  }

  /** @param {{now: number, position: number}} frame */
  _heartbeat(frame) {
    heard(frame.now);
    if (!this._greeting) this._reached(frame.position);
    this._greeting = false;
  }

  /** @param {number} position */
  _reached(position) {
    this.position = Math.max(this.position, position);
    saw(this.position);
  }

  /** @param {{topic: string, position: number, tables: Record<string, Row[]>}} frame */
  _snapshot(frame) {
    const topic = this.topics.get(frame.topic);
    if (!topic) return;
    const names = new Set([...topic.tables, ...Object.keys(frame.tables)]);
    for (const name of names) {
      const rows = frame.tables[name] ?? [];
      const keep = new Set(rows.map((row) => row.id));
      for (const key of [...(this.tables.get(name)?.keys() ?? [])]) if (!keep.has(key)) this._release(frame.topic, name, key);
      for (const row of rows) this._put(name, row.id, row, [frame.topic]);
    }
    topic.tables = new Set(Object.keys(frame.tables));
    topic.ready = true;
    topic.error = "";
    if (this.position === 0) this._reached(frame.position);
    this._tell(names);
  }

  /** @param {{position: number, rows: {table: string, key: string, row: Row | null}[]}} frame */
  _changes(frame) {
    const changed = new Set();
    for (const { table, key, row } of frame.rows) {
      changed.add(table);
      if (row === null) {
        this.tables.get(table)?.delete(key);
        this.holders.delete(`${table}/${key}`);
      } else {
        const holders = [...this.topics].filter(([, topic]) => topic.tables.has(table)).map(([name]) => name);
        this._put(table, key, row, holders);
      }
    }
    this._reached(frame.position);
    this._tell(changed);
  }

  /** @param {string} table @param {string} key @param {Row} row @param {string[]} topics */
  _put(table, key, row, topics) {
    let rows = this.tables.get(table);
    if (!rows) this.tables.set(table, (rows = new Map()));
    rows.set(key, row);
    const name = `${table}/${key}`;
    const holders = this.holders.get(name) ?? new Set();
    for (const topic of topics) holders.add(topic);
    this.holders.set(name, holders);
  }

  /** @param {string} topic @param {string} table @param {string} key */
  _release(topic, table, key) {
    const name = `${table}/${key}`;
    const holders = this.holders.get(name);
    holders?.delete(topic);
    if (holders && holders.size > 0) return;
    this.holders.delete(name);
    this.tables.get(table)?.delete(key);
  }

  /** @param {string} name */
  _drop(name) {
    const topic = this.topics.get(name);
    this.topics.delete(name);
    this._say({ type: "unsubscribe", topic: name });
    for (const table of topic?.tables ?? [])
      for (const key of [...(this.tables.get(table)?.keys() ?? [])]) this._release(name, table, key);
  }

  /** @param {{topic?: string, code: string, hint: string}} frame */
  _error(frame) {
    const topic = frame.topic && this.topics.get(frame.topic);
    if (topic) Object.assign(topic, { error: frame.code, ready: false });
    this._tell(new Set());
    this._status();
  }

  /** @param {Set<string>} changed */
  _tell(changed) {
    for (const { tables, call } of this._listeners)
      if (tables === null || changed.size === 0 || [...changed].some((name) => tables.has(name))) call(changed);
  }
}

export const live = new Feed();

addEventListener("online", () => live.hurry());
document.addEventListener("visibilitychange", () => document.hidden || live.hurry());
