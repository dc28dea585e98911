// @ts-check
// Cameras and microphones: which there are, which were chosen on this device, and what is wrong when one does not open.
//
// Never shows anything. Invariant: a kind that could not be opened has a problem with a text (`room.problem.*`), and the
// other kind is tried all the same.

/** @typedef {"audio" | "video"} Kind */
/** @typedef {"" | "insecure" | "denied" | "absent" | "busy" | "unknown"} Problem */

/** @type {Kind[]} */
export const KINDS = ["audio", "video"];
export const NONE = "none";
const KEY = "fenghuo.room.devices";
const HEIGHT = 720; // sent as layers (links.js): who shows a small tile gets a small one, and what nobody wants is not made
const FRAMES_PER_S = 25;

/** What was chosen: "" (the browser's default), "none", or a device's id. @returns {Record<Kind, string>} */
export function remembered() {
  try {
    return { audio: "", video: "", ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return { audio: "", video: "" };
  }
}

/** @param {Record<Kind, string>} chosen */
export const remember = (chosen) => localStorage.setItem(KEY, JSON.stringify(chosen));

/** Why a device did not open (W3C Media Capture, "getUserMedia"). @param {unknown} error @returns {Problem} */
export function problemOf(error) {
  const name = /** @type {any} */ (error)?.name;
  if (name === "NotAllowedError" || name === "SecurityError") return "denied";
  if (name === "NotFoundError" || name === "OverconstrainedError") return "absent";
  if (name === "NotReadableError" || name === "AbortError") return "busy";
  return "unknown";
}

/** The devices by kind; names are empty until one was allowed. @returns {Promise<Record<Kind, MediaDeviceInfo[]>>} */
export async function lists() {
  const all = navigator.mediaDevices ? await navigator.mediaDevices.enumerateDevices() : [];
  const known = all.filter((device) => device.deviceId);
  return {
    audio: known.filter((device) => device.kind === "audioinput"),
    video: known.filter((device) => device.kind === "videoinput"),
  };
}

/** @param {Kind} kind @param {string} id @returns {MediaTrackConstraints} */
function constraints(kind, id) {
  const device = id ? { deviceId: { exact: id } } : {};
  if (kind === "audio") return { ...device, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  return { ...device, width: { ideal: (HEIGHT * 16) / 9 }, height: { ideal: HEIGHT }, frameRate: { ideal: FRAMES_PER_S, max: 30 } };
}

/** One kind; a remembered device that has gone gives way to the default. @param {Kind} kind @param {string} id */
async function openOne(kind, id) {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ [kind]: constraints(kind, id) });
    return stream.getTracks()[0];
  } catch (error) {
    if (!id || problemOf(error) !== "absent") throw error;
    return openOne(kind, "");
  }
}

/**
 * Open what is wanted: both in one question to the person, else one by one, so that one broken device costs only itself.
 * @param {Partial<Record<Kind, string>>} wanted ids; a kind that is missing or "none" is not opened
 * @returns {Promise<{tracks: Partial<Record<Kind, MediaStreamTrack>>, problems: Partial<Record<Kind, Problem>>}>}
 */
export async function open(wanted) {
  const kinds = KINDS.filter((kind) => wanted[kind] !== undefined && wanted[kind] !== NONE);
  /** @type {Partial<Record<Kind, MediaStreamTrack>>} */
  const tracks = {};
  /** @type {Partial<Record<Kind, Problem>>} */
  const problems = {};
  if (!navigator.mediaDevices) return { tracks, problems: Object.fromEntries(kinds.map((kind) => [kind, "insecure"])) };
  if (kinds.length === 2) {
    try {
      const both = { audio: constraints("audio", wanted.audio ?? ""), video: constraints("video", wanted.video ?? "") };
      const stream = await navigator.mediaDevices.getUserMedia(both);
      for (const track of stream.getTracks()) tracks[/** @type {Kind} */ (track.kind)] = track;
      return { tracks, problems };
    } catch {
      // which of the two is to blame?
    }
  }
  for (const kind of kinds) {
    try {
      tracks[kind] = await openOne(kind, wanted[kind] ?? "");
    } catch (error) {
      problems[kind] = problemOf(error);
    }
  }
  return { tracks, problems };
}
