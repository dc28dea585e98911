// @ts-check
// The way to the server. A command carries one Idempotency-Key for all its tries, so a lost answer never doubles it.
//
// Never decides anything: refusals come back as `ApiError` with the server's code, hint and details.

import { t, tOr } from "./i18n.js";

export const BASE = "/api/v1";
export const TRIES_MAX = 4;
export const WAIT_S = [0.5, 1.5, 4];

let seen = 0;
let pending = 0;
/** @type {Set<(pending: number) => void>} */
const pendingListeners = new Set();
/** @type {() => void} */
let ended = () => {};

/** The log position that the screen shows; sent with every command. @param {number} position */
export function saw(position) {
  seen = position;
}

/** Calls `listener` with the number of open requests. @param {(pending: number) => void} listener */
export function onPending(listener) {
  pendingListeners.add(listener);
  return () => pendingListeners.delete(listener);
}

/** What happens when the session has ended. @param {() => void} action */
export function onEnded(action) {
  ended = action;
}

/** A refusal of the server, or `code` "network" when it could not be reached. */
export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} hint @param {Record<string, any>} [details] */
  constructor(status, code, hint, details = {}) {
    super(hint || code);
    this.status = status;
    this.code = code;
    this.hint = hint;
    this.details = details;
  }

  /** For people, in their language; the server's own English hint where we have no translation. */
  get text() {
    return tOr(`error.${this.code}`, this.hint || this.code);
  }
}

/** The text of any error. @param {unknown} error */
export const textOf = (error) => (error instanceof ApiError ? error.text : t("error.bug", { what: String(error) }));

/** @param {number} seconds */
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** @param {number} by */
function count(by) {
  pending += by;
  for (const listener of pendingListeners) listener(pending);
}

/** @param {string} path @param {RequestInit} init @param {number} tries @returns {Promise<Response>} */
async function attempt(path, init, tries) {
  for (let number = 1; ; number++) {
    try {
      const response = await fetch(BASE + path, init);
      if (response.status !== 503 || number >= tries) return response;
    } catch {
      if (number >= tries) throw new ApiError(0, "network", t("error.network"));
    }
    await sleep(WAIT_S[number - 1] * (0.8 + 0.4 * Math.random()));
  }
}

/** @param {string} path @param {RequestInit} init @param {number} [tries] @returns {Promise<any>} */
async function ask(path, init, tries = TRIES_MAX) {
  count(1);
  try {
    const response = await attempt(path, { credentials: "same-origin", ...init }, tries);
    const text = await response.text();
    if (response.ok) return text ? JSON.parse(text) : null;
    throw refusal(response.status, text, path);
  } finally {
    count(-1);
  }
}

/** @param {number} status @param {string} text @param {string} path */
function refusal(status, text, path) {
  /** @type {{code?: string, hint?: string, details?: Record<string, any>}} */
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = { code: `http.${status}`, hint: text.slice(0, 200) };
  }
  if (status === 401 && !path.startsWith("/session")) ended();
  return new ApiError(status, body.code ?? `http.${status}`, body.hint ?? "", body.details ?? {});
}

/**
 * Read. @param {string} path @param {Record<string, unknown>} [query] values that are null, undefined or "" are left out
 * @returns {Promise<any>}
 */
export function get(path, query = {}) {
  const chosen = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(chosen.map(([name, value]) => [name, String(value)])).toString();
  return ask(text ? `${path}?${text}` : path, { method: "GET" });
}

/**
 * A command: durable when it resolves, to the server's receipt. All tries carry the same key.
 * @param {"POST" | "PATCH" | "PUT" | "DELETE"} method @param {string} path @param {object} [body] @param {string} [key]
 * @returns {Promise<any>}
 */
export function send(method, path, body, key = newKey()) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key, "Fenghuo-Seen": String(seen) };
  const tries = path.startsWith("/session") ? 1 : TRIES_MAX; // a wrong password is not worth four tries
  return ask(path, { method, headers, body: body === undefined || body === null ? undefined : JSON.stringify(body) }, tries);
}

/** @param {string} path @param {object} [body] */
export const post = (path, body) => send("POST", path, body);

/**
 * Send a file; resolves to its {hash, size, type}.
 * @param {Blob} file @returns {Promise<{hash: string, size: number, type: string}>}
 */
export function upload(file) {
  const type = /^[a-z]+\/[A-Za-z0-9.+-]+$/.test(file.type) ? file.type : "application/octet-stream";
  const headers = { "Content-Type": "application/octet-stream", "Idempotency-Key": newKey() };
  return ask(`/attachments?${new URLSearchParams({ type })}`, { method: "POST", headers, body: file });
}

/** The address of an attachment. @param {string} hash */
export const attachment = (hash) => `${BASE}/attachments/${hash}`;

/** A fresh key. `crypto.randomUUID` exists in secure contexts only; so do we, but a test page may not. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((octet) => octet.toString(16).padStart(2, "0")).join("");
}
