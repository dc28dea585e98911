// @ts-check
// What this screen sends: its microphone and its camera, on or off, and what is wrong with either.
//
// Invariant: a camera that is off is released (its light goes out); a microphone that is off sends silence and comes back
// at once. Whoever holds a `Local` closes it.

import { KINDS, NONE, open, remember, remembered } from "./devices.js";

/** @typedef {import("./devices.js").Kind} Kind */

export class Local {
  constructor() {
    /** @type {Record<Kind, MediaStreamTrack | null>} */
    this.tracks = { audio: null, video: null };
    /** @type {Record<Kind, import("./devices.js").Problem>} */
    this.problems = { audio: "", video: "" };
    /** @type {Record<Kind, string>} */
    this.chosen = remembered();
    /** The device that was used last, by kind, also while it is off. @type {Record<Kind, string>} */
    this.last = { audio: "", video: "" };
    /** The picture for the self view; a new stream for each camera. @type {MediaStream | null} */
    this.view = null;
    this.busy = false;
    this.closed = false;
    /** @type {Set<() => void>} */
    this._listeners = new Set();
    /** @type {Promise<void>} */
    this._queue = Promise.resolve();
  }

  /** Calls `call` after each change. @param {() => void} call */
  onChange(call) {
    this._listeners.add(call);
    return () => this._listeners.delete(call);
  }

  _tell() {
    for (const call of this._listeners) call();
  }

  /** Whether something of this kind is being sent. @param {Kind} kind */
  on(kind) {
    return this.tracks[kind]?.enabled === true && this.tracks[kind]?.readyState === "live";
  }

  /** Open what is chosen. @param {Kind[]} [kinds] */
  open(kinds = KINDS) {
    return this._turn(async () => {
      const wanted = Object.fromEntries(kinds.filter((kind) => !this.tracks[kind]).map((kind) => [kind, this.chosen[kind]]));
      const { tracks, problems } = await open(wanted);
      for (const kind of kinds) this.problems[kind] = problems[kind] ?? "";
      for (const kind of KINDS) if (tracks[kind]) this._take(kind, /** @type {MediaStreamTrack} */ (tracks[kind]));
    });
  }

  /** Another device, or "none"; remembered for the next time. @param {Kind} kind @param {string} id */
  choose(kind, id) {
    this.chosen = { ...this.chosen, [kind]: id };
    remember(this.chosen);
    return this._turn(async () => {
      const silent = this.tracks[kind]?.enabled === false;
      this._drop(kind);
      this.problems[kind] = "";
      if (id === NONE) return;
      const { tracks, problems } = await open({ [kind]: id });
      this.problems[kind] = problems[kind] ?? "";
      const track = tracks[kind];
      if (!track) return;
      this._take(kind, track);
      if (silent) track.enabled = false;
    });
  }

  /** On or off. @param {Kind} kind */
  toggle(kind) {
    const track = this.tracks[kind];
    if (!track) {
      if (this.chosen[kind] === NONE) this.chosen = { ...this.chosen, [kind]: "" };
      return this.open([kind]);
    }
    return this._turn(async () => {
      if (kind === "audio") track.enabled = !track.enabled;
      else this._drop(kind);
    });
  }

  /** Give one up without forgetting the choice: a viewer sends nothing. @param {Kind} kind */
  release(kind) {
    this._drop(kind);
    this._tell();
  }

  close() {
    this.closed = true;
    for (const kind of KINDS) this._drop(kind);
    this._listeners.clear();
  }

  /** One change after the other. @param {() => Promise<void>} action */
  _turn(action) {
    this._queue = this._queue.then(async () => {
      this.busy = true;
      this._tell();
      await action();
      this.busy = false;
      this._tell();
    });
    return this._queue;
  }

  /** @param {Kind} kind @param {MediaStreamTrack} track */
  _take(kind, track) {
    if (this.closed) return track.stop();
    this.tracks[kind] = track;
    this.last[kind] = track.getSettings().deviceId ?? "";
    if (kind === "video") this.view = new MediaStream([track]);
    track.onended = () => {
      if (this.tracks[kind] !== track) return;
      this._drop(kind); // unplugged, or taken back by the person
      this.problems[kind] = "absent";
      this._tell();
    };
  }

  /** @param {Kind} kind */
  _drop(kind) {
    const track = this.tracks[kind];
    this.tracks[kind] = null;
    if (kind === "video") this.view = null;
    if (track) track.onended = null;
    track?.stop();
  }
}
