// @ts-check
// Where this phone is, sent while its person lets it: watched, thinned to one fix per interval, kept until the server has
// it, and sent in batches after a gap.
//
// Never runs unless switched on. Invariant: a fix is forgotten only after the server answered for it, or when more than
// FIXES_MAX newer ones wait.

import { ApiError, send } from "../api.js";
import { now } from "../clock.js";
import { onSession, who } from "../session.js";
import { all, put, remove } from "./store.js";

export const FIXES_MAX = 5000;
export const BATCH_MAX = 100;
export const INTERVALS_S = [5, 15, 60];
const MOVED_M = 30; // sent before the interval is over
const RETRY_S = [3, 6, 15, 30];
const KEY_ON = "fenghuo.field.sharing";
const KEY_INTERVAL = "fenghuo.field.interval";

/** @typedef {{key: string, account: string, unit: string, at: number, lon: number, lat: number, accuracy_m: number | null,
 *   speed_mps: number | null, heading_deg: number | null, altitude_m: number | null}} Fix */

class Sharing {
  constructor() {
    this.on = false;
    this.interval = Number(localStorage.getItem(KEY_INTERVAL)) || INTERVALS_S[1];
    /** The newest fix, sent or not. @type {Fix | null} */
    this.last = null;
    /** When the server last took one (its clock, microseconds). */
    this.sentAt = 0;
    this.waiting = 0;
    /** Why there are no fixes: a key of the dictionary, or "". */
    this.problem = "";
    /** Why they don't reach the server. */
    this.refused = "";
    /** @type {Fix[]} */
    this._fixes = [];
    this._watch = 0;
    this._sending = false;
    this._tries = 0;
    this._timer = 0;
    /** @type {Set<() => void>} */
    this._listeners = new Set();
    /** @type {WakeLockSentinel | null} */
    this._awake = null;
  }

  async begin() {
    this._fixes = [...(await all("fixes")), ...this._fixes];
    this.waiting = this._fixes.length;
    this.resume();
    void this.flush();
    this._tell();
  }

  /** Go on as it was left by the same account on this phone. */
  resume() {
    const own = who();
    if (!this.on && own && localStorage.getItem(KEY_ON) === own.account) this.start();
  }

  /** @param {() => void} listener */
  listen(listener) {
    this._listeners.add(listener);
    return () => this._listeners.delete(listener);
  }

  start() {
    if (!who()?.unit) {
      this.problem = "field.place.no_unit";
      return this._tell();
    }
    if (!window.isSecureContext || !("geolocation" in navigator)) {
      this.problem = window.isSecureContext ? "field.place.none" : "field.place.insecure";
      return this._tell();
    }
    this.on = true;
    this.problem = "";
    localStorage.setItem(KEY_ON, who()?.account ?? "");
    this._watch = navigator.geolocation.watchPosition(
      (position) => void this._heard(position),
      (error) => this._failed(error),
      { enableHighAccuracy: true, maximumAge: 2000, timeout: 30000 },
    );
    void this._stayAwake();
    this._tell();
  }

  stop() {
    localStorage.removeItem(KEY_ON);
    this.pause();
  }

  /** Without a session there is nobody whose place it were. */
  pause() {
    this.on = false;
    navigator.geolocation?.clearWatch(this._watch);
    void this._awake?.release();
    this._awake = null;
    this._tell();
  }

  /** @param {number} seconds */
  every(seconds) {
    this.interval = seconds;
    localStorage.setItem(KEY_INTERVAL, String(seconds));
    this._tell();
  }

  /** The place to put beside an answer, when it is known well enough. */
  here() {
    if (!this.last || now() - this.last.at > 120e6) return null;
    return { lon: this.last.lon, lat: this.last.lat };
  }

  /** A phone that sleeps stops telling where it is. */
  async _stayAwake() {
    try {
      this._awake = (await navigator.wakeLock?.request("screen")) ?? null;
    } catch {
      this._awake = null; // battery saver
    }
  }

  /** @param {GeolocationPosition} position */
  async _heard({ coords, timestamp }) {
    const own = who();
    if (!this.on || !own) return;
    const at = Math.round(now() - Math.max(0, Date.now() - timestamp) * 1000); // on the server's clock
    const before = this.last;
    const due = !before || at - before.at >= this.interval * 1e6 - 500_000 || metres(before, coords) > MOVED_M;
    this.problem = "";
    if (!due || (before && at <= before.at)) return this._tell();
    const known = (/** @type {number | null} */ value) => (value === null || Number.isNaN(value) ? null : value);
    /** @type {Fix} */
    const fix = {
      key: String(at).padStart(18, "0"), account: own.account, unit: own.unit?.id ?? "", at,
      lon: round(coords.longitude, 7), lat: round(coords.latitude, 7), accuracy_m: round(coords.accuracy, 1),
      speed_mps: known(coords.speed), heading_deg: known(coords.heading), altitude_m: known(coords.altitude),
    };
    this.last = fix;
    this._fixes.push(fix);
    const over = this._fixes.splice(0, Math.max(0, this._fixes.length - FIXES_MAX));
    this.waiting = this._fixes.length;
    this._tell();
    await put("fixes", fix.key, fix);
    if (over.length) await remove("fixes", over.map((old) => old.key));
    void this.flush();
  }

  /** @param {GeolocationPositionError} error */
  _failed(error) {
    this.problem = error.code === error.PERMISSION_DENIED ? "field.place.denied" : "field.place.searching";
    this._tell();
  }

  /** Send what waits, oldest first. */
  async flush() {
    if (this._sending) return;
    this._sending = true;
    try {
      for (;;) {
        const batch = this._fixes.filter((fix) => fix.account === who()?.account).slice(0, BATCH_MAX);
        if (!batch.length) break;
        await send("POST", "/locations", body(batch), `fix-${batch[0].account}-${batch[0].key}-${batch.length}`);
        this.sentAt = now();
        this.refused = "";
        this._tries = 0;
        await this._forget(batch);
      }
    } catch (error) {
      await this._trouble(error);
    } finally {
      this._sending = false;
      this._tell();
    }
  }

  /** @param {unknown} error */
  async _trouble(error) {
    const refusal = error instanceof ApiError ? error : new ApiError(0, "network", "");
    if (refusal.status === 401) return;
    if (refusal.status >= 400 && refusal.status < 500 && refusal.status !== 429) {
      this.refused = refusal.text;
      await this._forget(this._fixes.filter((fix) => fix.account === who()?.account).slice(0, BATCH_MAX)); // it would be refused for ever
      return;
    }
    clearTimeout(this._timer);
    const wait = RETRY_S[Math.min(this._tries++, RETRY_S.length - 1)];
    this._timer = setTimeout(() => void this.flush(), wait * 1000);
  }

  /** @param {Fix[]} batch */
  async _forget(batch) {
    const gone = new Set(batch.map((fix) => fix.key));
    this._fixes = this._fixes.filter((fix) => !gone.has(fix.key));
    this.waiting = this._fixes.length;
    await remove("fixes", [...gone]);
  }

  _tell() {
    for (const listener of this._listeners) listener();
  }
}

/** @param {Fix[]} fixes */
const body = (fixes) => ({
  fixes: fixes.map(({ key: _key, account: _account, ...fix }) =>
    Object.fromEntries(Object.entries(fix).filter(([, value]) => value !== null && value !== "")),
  ),
});

/** @param {number} value @param {number} digits */
const round = (value, digits) => Number(value.toFixed(digits));

/** Near enough for "has moved". @param {Fix} from @param {GeolocationCoordinates} to */
function metres(from, to) {
  const north = (to.latitude - from.lat) * 111_200;
  const east = (to.longitude - from.lon) * 111_200 * Math.cos((to.latitude * Math.PI) / 180);
  return Math.hypot(north, east);
}

export const sharing = new Sharing();

addEventListener("online", () => void sharing.flush());
onSession(() => {
  if (!who()) return sharing.on ? sharing.pause() : undefined;
  sharing.resume();
  void sharing.flush();
});
document.addEventListener("visibilitychange", () => !document.hidden && sharing.on && void sharing._stayAwake());
