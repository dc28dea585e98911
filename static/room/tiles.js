// @ts-check
// What this screen really shows: the height of each picture, told to the server so that it sends no more than that, and how
// often a picture froze.
//
// Never touches media. Invariant: it tells only what has changed, rounded, and at most every TELL_MS.

const TELL_MS = 400;
const STEP_PX = 16;
const FREEZES_MS = 5000;
/** A page that is not looked at keeps the lowest layer, so that it comes back with a picture. */
const UNSEEN_PX = 1;

/** Device pixels of the tiles on the page, by the track's id. @param {Map<MediaStreamTrack, string>} idents */
export function heights(idents) {
  /** @type {Record<string, number>} */
  const shown = {};
  for (const video of document.querySelectorAll("video")) {
    const track = /** @type {MediaStream | null} */ (video.srcObject)?.getVideoTracks?.()[0];
    const ident = track && idents.get(track);
    if (!ident) continue;
    const box = video.getBoundingClientRect();
    const seen = box.height > 0 && box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
    if (!seen) continue;
    const pixels = document.hidden ? UNSEEN_PX : Math.ceil((box.height * devicePixelRatio) / STEP_PX) * STEP_PX;
    shown[ident] = Math.min(8192, Math.max(shown[ident] ?? 0, pixels));
  }
  return shown;
}

/** Tell `signal` until the returned function is called.
 * @param {import("./signal.js").Signal} signal @param {() => import("./links.js").Receiving | null} receiving
 * @param {(times: number) => void} froze hears of each that was told */
export function watchTiles(signal, receiving, froze) {
  let told = "";
  /** @type {unknown} */
  let link = null;
  let freezes = 0;
  const look = () => {
    const now = receiving();
    if (!now) return;
    if (now !== link) [told, link, freezes] = ["", now, 0];
    const tiles = heights(now.idents);
    const text = JSON.stringify(tiles);
    if (text !== told && signal.send({ type: "view", tiles })) told = text;
  };
  const count = async () => {
    const now = receiving();
    if (!now || now !== link || now.closed) return;
    let sum = 0;
    for (const row of (await now.connection.getStats()).values()) if (row.type === "inbound-rtp") sum += row.freezeCount ?? 0;
    if (now === link && sum > freezes && signal.send({ type: "seen", freezes: Math.min(1000, sum - freezes) })) {
      froze(sum - freezes);
      freezes = sum;
    }
  };
  const timers = [setInterval(look, TELL_MS), setInterval(() => void count(), FREEZES_MS)];
  return () => timers.forEach(clearInterval);
}
