// @ts-check
// What waits for a person's word after a cut or a restore: messages whose fate nobody knows, and timers that were held.
//
// Decides nothing. Invariant: what the page lists is what the navigation counts.

import { now } from "../clock.js";
import { live } from "../live.js";
import { may } from "../session.js";

const UNKNOWN_GRACE_US = 30e6; // an emergency's own second try comes first

/** The topics that a screen follows to know. */
export const topics = () => [...(may("notice.settle") ? ["unsettled"] : []), ...(may("node.settle") ? ["held"] : [])];

/** Messages of unknown fate. */
export const messages = () =>
  live.rows("message").filter((row) => row.state === "unknown" && !row.resent && (row.urgency !== "emergency" || row.doubt === "restore" || now() - row.since > UNKNOWN_GRACE_US));

/** Timers that a restore held. */
export const timers = () => live.rows("timer").filter((row) => row.held);

/** How many of both this person can settle. */
export const waiting = () => (may("notice.settle") ? messages().length : 0) + (may("node.settle") ? timers().length : 0);
