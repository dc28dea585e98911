// @ts-check
// The two peer connections of a member: one it publishes on (we offer), one it receives on (the server offers).
//
// Knows nothing of the screen. Invariant: offers are answered one after the other, and nothing of a former connection
// reaches the present one.

/** @typedef {import("./devices.js").Kind} Kind */
/** @typedef {{mid: string, member: string, track: string, media: Kind, screen?: boolean}} Offered */

export const LIMP_S = 4;
export const CONNECT_S = 8;
const SCREEN_BPS_MAX = 2_500_000;
/** Simulcast layers of the camera. The highest begins paused: the server asks for it when somebody shows it large. */
const LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 130_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 450_000 },
  { rid: "f", scaleResolutionDownBy: 1, maxBitrate: 1_500_000, active: false },
];

/** A connection that says once when it has failed for good. */
class Link {
  /** @param {() => void} failed */
  constructor(failed) {
    this.connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.closed = false;
    /** Called when the way to the server is in doubt: an ICE restart may find another before it is given up. */
    this.limping = () => {};
    this._failed = failed;
    this._timer = 0;
    this.connection.onconnectionstatechange = () => this._state();
  }

  get state() {
    return this.connection.connectionState;
  }

  /** Being connected is due in `seconds`. @param {number} seconds */
  _due(seconds) {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._fail(), seconds * 1000);
  }

  _state() {
    if (this.closed) return;
    if (this.state === "connected") clearTimeout(this._timer);
    else if (this.state === "disconnected") {
      this._due(LIMP_S);
      this.limping();
    }
    else if (this.state === "failed") this._fail();
  }

  _fail() {
    if (!this.closed) this._failed();
  }

  close() {
    this.closed = true;
    clearTimeout(this._timer);
    this.connection.close();
  }
}

export class Publishing extends Link {
  /** Offer both kinds, also those that send nothing yet: a camera may come later without a new offer.
   * @param {Record<Kind, MediaStreamTrack | null>} tracks @param {() => void} failed */
  constructor(tracks, failed) {
    super(failed);
    const stream = new MediaStream();
    const add = (/** @type {Kind} */ kind, /** @type {RTCRtpEncodingParameters[]} */ sendEncodings) =>
      this.connection.addTransceiver(tracks[kind] ?? kind, { direction: "sendonly", streams: [stream], sendEncodings }).sender;
    /** @type {Record<Kind, RTCRtpSender>} */
    this.senders = { audio: add("audio", [{}]), video: add("video", LAYERS) };
    this.screen = this.connection.addTransceiver("video", { direction: "sendonly", streams: [new MediaStream()], sendEncodings: [{ maxBitrate: SCREEN_BPS_MAX }] });
  }

  /** The m-lines that carry a shared screen, once there is an offer. @returns {string[]} */
  get screens() {
    return this.screen.mid === null ? [] : [this.screen.mid];
  }

  /** Share this screen from now on, or none. @param {MediaStreamTrack | null} track */
  async share(track) {
    if (!this.closed && this.screen.sender.track !== track) await this.screen.sender.replaceTrack(track);
  }

  /** @returns {Promise<string>} the offer */
  async offer() {
    await this.connection.setLocalDescription();
    this._due(CONNECT_S);
    return this.connection.localDescription?.sdp ?? "";
  }

  /** @returns {Promise<string>} an offer with new ICE credentials; everything else stays */
  async restart() {
    this.connection.restartIce();
    await this.connection.setLocalDescription();
    return this.closed ? "" : (this.connection.localDescription?.sdp ?? "");
  }

  /** @param {string} sdp */
  async answered(sdp) {
    if (!this.closed) await this.connection.setRemoteDescription({ type: "answer", sdp });
  }

  /** Send only these layers of an m-line: nobody wants the others now. @param {string} mid @param {string[]} rids */
  async limit(mid, rids) {
    const sender = this.connection.getTransceivers().find((each) => each.mid === mid)?.sender;
    if (this.closed || !sender) return;
    const parameters = sender.getParameters();
    for (const encoding of parameters.encodings) if (encoding.rid) encoding.active = rids.includes(encoding.rid);
    await sender.setParameters(parameters).catch((error) => console.info(`layers of ${mid}: ${error}`)); // changed meanwhile
  }

  /** Send these from now on. @param {Record<Kind, MediaStreamTrack | null>} tracks */
  async send(tracks) {
    for (const kind of /** @type {Kind[]} */ (["audio", "video"]))
      if (!this.closed && this.senders[kind].track !== tracks[kind]) await this.senders[kind].replaceTrack(tracks[kind]);
  }
}

export class Receiving extends Link {
  /** @param {() => void} failed */
  constructor(failed) {
    super(failed);
    /** Whose picture, voice and screen: member -> kind -> track. @type {Map<string, Partial<Record<Kind | "screen", MediaStreamTrack>>>} */
    this.tracks = new Map();
    /** The server's id of each track. @type {Map<MediaStreamTrack, string>} */
    this.idents = new Map();
    /** @type {Promise<unknown>} */
    this._queue = Promise.resolve();
  }

  /**
   * Answer an offer in its turn; resolves to the answer, or "" when this connection was closed meanwhile.
   * @param {string} sdp @param {Offered[]} offered @returns {Promise<string>}
   */
  take(sdp, offered) {
    const turn = this._queue.then(async () => {
      if (this.closed) return "";
      await this.connection.setRemoteDescription({ type: "offer", sdp });
      await this.connection.setLocalDescription();
      if (this.closed) return "";
      this._map(offered);
      if (this.state !== "connected") this._due(CONNECT_S);
      return this.connection.localDescription?.sdp ?? "";
    });
    this._queue = turn.catch(() => {});
    return turn;
  }

  /** @param {Offered[]} offered */
  _map(offered) {
    const byMid = new Map(this.connection.getTransceivers().map((each) => [each.mid, each.receiver.track]));
    this.tracks = new Map();
    this.idents = new Map();
    for (const { mid, member, media, screen, track: ident } of offered) {
      const track = byMid.get(mid);
      if (track) this.idents.set(track, ident);
      if (track) this.tracks.set(member, { ...this.tracks.get(member), [screen ? "screen" : media]: track });
    }
  }
}
