// @ts-check
// The signalling socket of one room (docs/protocol-conference.md): frames in order, and a new connection by itself.
//
// Knows nothing of media. Invariant: until `end()`, there is a socket, or one is due within BACKOFF_S; a silent socket is
// given up after SILENT_S.

import { BASE } from "../api.js";

export const BACKOFF_S = [0.2, 0.5, 1, 2, 4];
export const PING_S = 4;
export const SILENT_S = 10;

export class Signal {
  /**
   * @param {string} room
   * @param {{opened: () => void, frame: (frame: any) => void, lost: (code: number) => void}} owner
   */
  constructor(room, owner) {
    this.room = room;
    this.owner = owner;
    this.ended = false;
    /** @type {WebSocket | null} */
    this._socket = null;
    this._tries = 0;
    this._again = 0;
    this._heard = 0;
    this._hurry = () => this.hurry();
    addEventListener("online", this._hurry);
    this._watch = setInterval(() => this._check(), PING_S * 1000);
    this._connect();
  }

  /** @param {object} frame @returns {boolean} whether there was a socket to send it on */
  send(frame) {
    if (this._socket?.readyState !== WebSocket.OPEN) return false;
    this._socket.send(JSON.stringify(frame));
    return true;
  }

  /** Try again now, not after the wait. */
  hurry() {
    if (this.ended || this._socket) return;
    clearTimeout(this._again);
    this._connect();
  }

  /** Give this socket up; another follows. */
  drop() {
    const socket = this._socket;
    if (!socket) return;
    socket.close();
    this._lost(socket, 1006); // a dead network may take a minute to say so itself
  }

  end() {
    this.ended = true;
    clearInterval(this._watch);
    clearTimeout(this._again);
    removeEventListener("online", this._hurry);
    this._socket?.close();
    this._socket = null;
  }

  _connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${BASE}/rooms/${encodeURIComponent(this.room)}/signal`);
    this._socket = socket;
    this._heard = Date.now();
    socket.onopen = () => {
      if (socket === this._socket) this.owner.opened();
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this._socket) return;
      this._heard = Date.now();
      const frame = JSON.parse(data);
      if (frame.type === "joined") this._tries = 0;
      if (frame.type !== "pong") this.owner.frame(frame);
    };
    socket.onclose = ({ code }) => this._lost(socket, code);
  }

  /** @param {WebSocket} socket @param {number} code */
  _lost(socket, code) {
    if (socket !== this._socket) return;
    this._socket = null;
    if (this.ended) return;
    const wait = BACKOFF_S[Math.min(this._tries++, BACKOFF_S.length - 1)] * (0.7 + 0.6 * Math.random());
    this._again = setTimeout(() => this._connect(), wait * 1000);
    this.owner.lost(code);
  }

  _check() {
    if (!this._socket) return;
    if (Date.now() - this._heard > SILENT_S * 1000) this.drop();
    else this.send({ type: "ping" });
  }
}
