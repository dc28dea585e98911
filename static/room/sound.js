// @ts-check
// The others' voices: one audio element per track, outside every page, so that they go on while one looks at the map.
//
// Invariant: `blocked` is true exactly while the browser refuses to play without a tap.

export class Sound {
  /** @param {() => void} changed */
  constructor(changed) {
    this.blocked = false;
    this._changed = changed;
    /** @type {Map<string, HTMLAudioElement>} track id -> element */
    this._players = new Map();
  }

  /** Play exactly these. @param {MediaStreamTrack[]} tracks */
  play(tracks) {
    const wanted = new Set(tracks.map((track) => track.id));
    for (const [id, player] of this._players) {
      if (wanted.has(id)) continue;
      player.srcObject = null;
      player.remove();
      this._players.delete(id);
    }
    for (const track of tracks) if (!this._players.has(track.id)) this._add(track);
  }

  /** The person tapped. */
  async resume() {
    await Promise.all([...this._players.values()].map((player) => this._start(player)));
  }

  end() {
    this.play([]);
  }

  /** @param {MediaStreamTrack} track */
  _add(track) {
    const player = document.createElement("audio");
    player.className = "fenghuo-voice";
    player.srcObject = new MediaStream([track]);
    document.body.append(player);
    this._players.set(track.id, player);
    void this._start(player);
  }

  /** @param {HTMLAudioElement} player */
  async _start(player) {
    try {
      await player.play();
      this._set(false);
    } catch (error) {
      if (/** @type {any} */ (error).name === "NotAllowedError") this._set(true);
    }
  }

  /** @param {boolean} blocked */
  _set(blocked) {
    if (this.blocked === blocked) return;
    this.blocked = blocked;
    if (blocked) addEventListener("click", () => void this.resume(), { once: true }); // any tap will do
    this._changed();
  }
}
