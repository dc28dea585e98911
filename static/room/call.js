// @ts-check
// One call: our seat in a room, the others in it, and the media between. It outlives the page that began it.
//
// Decides nothing that the server decides. Invariant: until it has ended, it comes back by itself after a lost socket, a
// lost connection and a new media worker; `phase` says honestly where it is.

import { t, tOr } from "../i18n.js";
import { Publishing, Receiving } from "./links.js";
import { Signal } from "./signal.js";
import { Sound } from "./sound.js";
import { watchTiles } from "./tiles.js";

/**
 * @typedef {import("./devices.js").Kind} Kind
 * @typedef {{id: string, account: string, name: string, organisation: string | null, role: "chair" | "speaker" | "viewer",
 *   joined_at: number, audio: boolean, video: boolean, muted: boolean, screen: boolean}} Member
 * @typedef {"joining" | "door" | "in" | "waiting" | "ended"} Phase
 */

/** Errors after which trying again can't help. */
const FINAL = new Set(["room.missing", "room.closed", "room.seats", "room.barred", "room.locked", "rights.denied"]);
export const AGAIN_S = [0, 0.5, 1, 2, 4];

/** @param {{bitrate_bps: number}} row */
const kilobits = (row) => `${Math.round(row.bitrate_bps / 1000)} kbit/s`;
/** @param {{lost: number}} row */
const percent = (row) => (row.lost * 100).toFixed(1);

export class Call {
  /** @param {string} room @param {import("./local.js").Local} local @param {boolean} publish false: a viewer */
  constructor(room, local, publish) {
    this.room = room;
    this.local = local;
    this.publish = publish;
    /** @type {Phase} */
    this.phase = "joining";
    /** Why it ended: left, closed, removed, or an error's code. */
    this.reason = "";
    this.hint = "";
    this.me = "";
    /** @type {Map<string, Member>} */
    this.members = new Map();
    /** Members whose picture the chair has stopped. @type {Set<string>} */
    this.dark = new Set();
    /** @type {string | null} */
    this.speaker = null;
    /** member -> 0 good, 1 fair, 2 poor. @type {Map<string, number>} */
    this.grades = new Map();
    /** What the server measured of our two connections, by role. @type {Record<string, any>} */
    this.quality = {};
    /** How often pictures have frozen in this call. */
    this.freezes = 0;
    /** @type {Map<string, MediaStream>} */
    this.pictures = new Map();
    /** Shared screens, by member. @type {Map<string, MediaStream>} */
    this.screens = new Map();
    /** What we share. @type {MediaStreamTrack | null} */
    this.shared = null;
    this.sound = new Sound(() => this._tell());
    /** @type {Publishing | null} */
    this.publishing = null;
    /** @type {Receiving | null} */
    this.receiving = null;
    this.began = performance.now();
    /** Milliseconds from joining to the first connection, once known. @type {number | null} */
    this.joined_ms = null;
    /** @type {Set<(news: string, detail?: any) => void>} */
    this._listeners = new Set();
    /** @type {Record<string, number>} */
    this._again = { publish: 0, subscribe: 0 };
    this._peer = this._former = "";
    this._sent = "";
    this._endLocal = local.onChange(() => void this._localChanged());
    this.signal = new Signal(room, { opened: () => this._join(), frame: (frame) => this._frame(frame), lost: (code) => this._lost(code) });
    this._endTiles = watchTiles(this.signal, () => (this.phase === "in" ? this.receiving : null), (times) => (this.freezes += times));
  }

  // -- for the screen

  /** Calls `call(news)` after each change; `news` is "" or the name of something to tell. @param {(news: string, detail?: any) => void} call */
  onChange(call) {
    this._listeners.add(call);
    return () => this._listeners.delete(call);
  }

  get own() {
    return this.members.get(this.me);
  }

  /** A member's picture, or null while there is none. @param {Member} member */
  picture(member) {
    if (member.id === this.me) return this.local.on("video") ? this.local.view : null;
    return member.video && !this.dark.has(member.id) ? (this.pictures.get(member.id) ?? null) : null;
  }

  /** How a member's picture reaches us: height, layer, rate, loss; "" before it is known. @param {string} member */
  way(member) {
    const row = this.quality.subscribe?.tracks?.find((/** @type {any} */ each) => each.member === member && each.media === "video");
    if (!row || row.layer < 0) return "";
    const layer = row.layers > 1 && t("room.way.layer", { layer: row.layer + 1, layers: row.layers });
    return [row.height && `${row.height}p`, layer, kilobits(row), row.lost > 0 && `-${percent(row)} %`].filter(Boolean).join(" · ");
  }

  /** What our own two connections carry, a line each; [] before it is known. @returns {string[]} */
  ways() {
    const { publish, subscribe } = this.quality;
    const down = subscribe && t("room.way.down", { rate: kilobits(subscribe), lost: percent(subscribe), rtt: subscribe.rtt_ms ?? "–", freezes: this.freezes });
    return [publish && t("room.way.up", { rate: kilobits(publish), lost: percent(publish) }), down].filter(Boolean);
  }

  /** A member's shared screen, or null. @param {Member} member */
  screen(member) {
    if (member.id === this.me) return this.shared ? new MediaStream([this.shared]) : null;
    return member.screen ? (this.screens.get(member.id) ?? null) : null;
  }

  /** Show our screen to everybody (W3C Screen Capture), or end that. */
  async share() {
    if (this.shared) return this.unshare();
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 15 } }, audio: false });
    const [track] = stream.getVideoTracks();
    track.contentHint = "detail";
    track.onended = () => void this.unshare();
    this.shared = track;
    if (!this.publish) {
      this.publish = true;
      await this._publish();
    }
    await this.publishing?.share(track);
    this._report();
    this._tell();
  }

  async unshare() {
    const track = this.shared;
    this.shared = null;
    if (track) track.onended = null;
    track?.stop();
    await this.publishing?.share(null);
    this._report();
    this._tell();
  }

  leave() {
    this.signal.send({ type: "leave" });
    this._end("left");
  }

  // -- the socket

  _join() {
    this.signal.send({ type: "join", publish: this.publish, audio: this.local.on("audio"), video: this.local.on("video"), former: this.me });
  }

  /** @param {number} code */
  _lost(code) {
    if (code === 4401) return this._end("session");
    this._hangUp();
    this.phase = "waiting";
    this._tell();
  }

  /** @param {any} frame */
  _frame(frame) {
    this._handlers[frame.type]?.(frame);
  }

  /** What to do with each type of frame; a type that is unknown is passed over. @type {Record<string, (frame: any) => unknown>} */
  _handlers = {
    /** @param {any} frame */
    joined: (frame) => {
      this.me = frame.member;
      this.members = new Map(frame.members.map((/** @type {Member} */ member) => [member.id, member]));
      this.dark = new Set(frame.dark);
      this.grades = new Map(Object.entries(frame.grades));
      this.speaker = frame.speaker;
      this.phase = "in";
      this._sent = "";
      this._again = { publish: 0, subscribe: 0 };
      this._connect();
      this._tell();
    },
    waiting: () => {
      this.phase = "door";
      this._tell("door");
    },
    admitted: () => this._join(),
    /** Everybody's, after many changed at once. @param {{audio: string[], video: string[], floor: string[], closed: boolean}} frame */
    stopped: ({ audio, video, floor, closed }) => {
      const before = this.own?.muted ?? false;
      for (const [id, member] of this.members) this.members.set(id, { ...member, muted: audio.includes(id) });
      this.dark = new Set(video);
      const after = this.own?.muted ?? false;
      if (before !== after) this._heldBack(after, floor.includes(this.me), closed);
      this._tell(before === after ? "" : after ? "mute.audio" : "unmute.audio");
    },
    /** @param {any} frame */
    published: (frame) => this.publishing?.answered(frame.sdp).catch((error) => this._redo("publish", error)),
    /** @param {any} frame */
    offer: (frame) => this._offered(frame),
    /** @param {{fact: string, member: Member}} frame */
    member: ({ fact, member }) => {
      if (fact === "left") {
        this.members.delete(member.id);
        this.grades.delete(member.id);
        this.pictures.delete(member.id);
      } else this.members.set(member.id, member);
      this._tell(member.id === this.me || fact === "changed" ? "" : fact, member);
    },
    /** @param {any} frame */
    speaker: ({ member }) => {
      this.speaker = member;
      this._tell();
    },
    /** @param {any} frame */
    muted: ({ member, media, on, floor, closed }) => {
      const known = this.members.get(member);
      if (media === "screen") {
        if (member === this.me) void this.unshare();
      } else if (media === "video") this.dark[on ? "add" : "delete"](member);
      else if (known) this.members.set(member, { ...known, muted: on });
      if (media === "audio" && member === this.me) this._heldBack(on, floor, closed);
      this._tell(member === this.me ? `${on ? "mute" : "unmute"}.${media}` : "");
    },
    /** @param {any} frame */
    grade: ({ member, grade }) => {
      this.grades.set(member, grade);
      this._tell();
    },
    /** @param {any} frame */
    quality: (frame) => {
      this.quality = { ...this.quality, [frame.role]: frame };
      this._tell();
    },
    /** @param {{mid: string, rids: string[]}} frame */
    layers: ({ mid, rids }) => this.publishing?.limit(mid, rids),
    restarted: () => {
      this._again = { publish: 0, subscribe: 0 };
      this._hangUp();
      this._connect();
      this._tell("restarted");
    },
    /** @param {any} frame */
    reconnect: (frame) => this._redo(frame.role === "publish" ? "publish" : "subscribe", frame.reason),
    removed: () => this._end("removed"),
    closed: () => this._end("closed"),
    /** @param {{code: string, hint: string, about: string}} frame */
    error: (frame) => this._refused(frame),
  };

  /** @param {{code: string, hint: string, about: string}} frame */
  _refused({ code, hint, about }) {
    if (FINAL.has(code)) return this._end(code, hint);
    if (about === "publish" || about === "subscribe") return this._redo(about, code);
    if (about === "answer") return this._redo("subscribe", code);
    if (about === "state") return this._stateRefused(code, hint);
    this.hint = tOr(`error.${code}`, hint);
    if (about === "join") this.signal.drop();
    this._tell();
  }

  /** What we said we send was refused: we don't send it. @param {string} code @param {string} hint */
  _stateRefused(code, hint) {
    this._sent = "";
    if (code === "room.screen_taken") void this.unshare();
    else if (this.local.on("audio")) void this.local.toggle("audio");
    this._tell("refused", { text: tOr(`error.${code}`, hint) });
  }

  /** The chair closed our microphone, or (with the floor) opened it. @param {boolean} on @param {boolean} floor @param {boolean} closed */
  _heldBack(on, floor, closed) {
    if (on && closed && this.local.on("audio")) void this.local.toggle("audio");
    if (!on && floor && !this.local.on("audio")) void this.local.toggle("audio");
  }

  // -- the connections

  _connect() {
    if (this.publish) void this._publish();
    this._subscribe();
  }

  async _publish() {
    this.publishing?.close();
    const link = new Publishing(this.local.tracks, () => this._redo("publish", "failed"));
    this.publishing = link;
    this._watch(link);
    await link.share(this.shared);
    const sdp = await link.offer();
    if (link !== this.publishing) return;
    this.signal.send({ type: "publish", sdp, screens: link.screens });
    this._report();
  }

  _subscribe() {
    this.receiving?.close();
    this.receiving = new Receiving(() => this._redo("subscribe", "failed"));
    this._watch(this.receiving);
    this._former = this._peer;
    this._peer = "";
    this.signal.send({ type: "subscribe" });
  }

  /** @param {import("./links.js").Publishing | import("./links.js").Receiving} link */
  _watch(link) {
    link.limping = () => void this._mend(link);
    link.connection.addEventListener("connectionstatechange", () => {
      if (link.state === "connected" && this.joined_ms === null) this.joined_ms = Math.round(performance.now() - this.began);
      if (link.state === "connected") this._again[link === this.publishing ? "publish" : "subscribe"] = 0;
      this._tell();
    });
  }

  /** Restart ICE on a connection whose way is in doubt; it is replaced only if that doesn't help in LIMP_S.
   * @param {import("./links.js").Publishing | import("./links.js").Receiving} link */
  async _mend(link) {
    if (link === this.receiving) {
      if (this._peer) this.signal.send({ type: "restart", peer: this._peer });
    } else if (link === this.publishing && link) {
      const sdp = await /** @type {Publishing} */ (link).restart();
      if (sdp && link === this.publishing) this.signal.send({ type: "publish", sdp, screens: this.publishing.screens });
    }
  }

  /** @param {{peer: string, revision: number, sdp: string, tracks: import("./links.js").Offered[]}} frame */
  async _offered({ peer, revision, sdp, tracks }) {
    const link = this.receiving;
    if (!link || peer === this._former || (this._peer && this._peer !== peer)) return; // of one that we have replaced
    this._peer = peer;
    try {
      const answer = await link.take(sdp, tracks);
      if (answer) this.signal.send({ type: "answer", peer, revision, sdp: answer });
      this._received();
    } catch (error) {
      if (link === this.receiving) this._redo("subscribe", error);
    }
  }

  /** What arrives now. */
  _received() {
    const tracks = this.receiving?.tracks ?? new Map();
    const voices = [];
    for (const [member, { audio, video, screen }] of tracks) {
      if (audio) voices.push(audio);
      if (screen && this.screens.get(member)?.getVideoTracks()[0] !== screen) this.screens.set(member, new MediaStream([screen]));
      if (video && this.pictures.get(member)?.getVideoTracks()[0] !== video) this.pictures.set(member, new MediaStream([video]));
    }
    for (const member of [...this.pictures.keys()]) if (!tracks.get(member)?.video) this.pictures.delete(member);
    for (const member of [...this.screens.keys()]) if (!tracks.get(member)?.screen) this.screens.delete(member);
    this.sound.play(voices);
    this._tell();
  }

  /** Once more, after a growing wait. @param {"publish" | "subscribe"} role @param {unknown} why */
  _redo(role, why) {
    if (this.phase !== "in") return;
    const link = role === "publish" ? this.publishing : this.receiving;
    link?.close();
    const wait = AGAIN_S[Math.min(this._again[role]++, AGAIN_S.length - 1)];
    console.info(`${role} again in ${wait} s: ${why}`);
    setTimeout(() => {
      const same = (role === "publish" ? this.publishing : this.receiving) === link;
      if (this.phase !== "in" || !same) return;
      if (role === "subscribe") this._subscribe();
      else if (this.publish) void this._publish();
    }, wait * 1000);
    this._tell();
  }

  _hangUp() {
    this.publishing?.close();
    this.receiving?.close();
    this.publishing = this.receiving = null;
    this._peer = "";
  }

  /** @param {string} reason @param {string} [hint] */
  _end(reason, hint = "") {
    if (this.phase === "ended") return;
    this.phase = "ended";
    this.reason = reason;
    this.hint = hint;
    this.signal.end();
    this._hangUp();
    this.sound.end();
    this._endLocal();
    this._endTiles();
    this.local.close();
    this.shared?.stop();
    this._tell("ended");
  }

  // -- what we send

  async _localChanged() {
    if (this.local.busy || this.phase === "ended") return;
    if (!this.publish && (this.local.on("audio") || this.local.on("video"))) {
      this.publish = true; // a viewer who takes the floor
      if (this.phase === "in") void this._publish();
    }
    await this.publishing?.send(this.local.tracks);
    this._report();
    this._tell();
  }

  /** Tell the others what to expect of us; once per change. */
  _report() {
    const state = { audio: this.local.on("audio"), video: this.local.on("video"), screen: this.shared !== null };
    const text = JSON.stringify(state);
    if (this.phase !== "in" || text === this._sent) return;
    if (this.signal.send({ type: "state", ...state })) this._sent = text;
  }

  /** @param {string} [news] @param {any} [detail] */
  _tell(news = "", detail = undefined) {
    for (const call of this._listeners) call(news, detail);
  }
}
