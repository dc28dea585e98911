// @ts-check
// Time as the server sees it. Never trusts this device's clock for an age or a deadline.
//
// Invariant: `now()` is microseconds UTC on the server's clock, as well as the last frame of the feed could tell.

let offset = 0; // microseconds, server minus here
/** @type {Set<() => void>} */
const everySecond = new Set();

/** What the server just said its time was, in microseconds. @param {number} serverNow */
export function heard(serverNow) {
  offset = serverNow - Date.now() * 1000;
}

/** Microseconds UTC by the server's clock. */
export const now = () => Date.now() * 1000 + offset;

/** How far this device's clock is off, in seconds. */
export const offBy = () => offset / 1e6;

/** Calls `tick` about once a second until the returned function is called. @param {() => void} tick */
export function eachSecond(tick) {
  everySecond.add(tick);
  return () => everySecond.delete(tick);
}

setInterval(() => {
  for (const tick of everySecond) tick();
}, 1000);
