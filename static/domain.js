// @ts-check
// Codes of the domain as the screen names them, in the order in which people expect them. A mirror, checked against
// `command/` by tests/browser/test_screens.py; the server decides.

export const CATEGORIES = ["natural_disaster", "accident", "public_health", "social_security"];
export const LEVELS = ["I", "II", "III", "IV"];
export const SOURCES = ["phone", "staff", "field", "subordinate", "sensor", "other"];
export const SUB_REPORTS = ["first", "follow_up", "verification", "final"];
export const CHANNELS = ["phone", "writing"];
export const CLOCKS = ["occurrence", "receipt", "stable"];
export const SUPERIORS = ["state", "province", "city", "county"];
export const CASUALTIES = ["dead", "missing", "injured", "trapped", "evacuated", "affected"];
export const MEANS = ["app", "sms", "voice", "duty_leader", "superior"];
export const RULES = ["enter", "exit", "inside", "dwell", "absent", "lost"];
export const RULES_DEFAULT = ["enter", "exit", "lost"];
export const URGENCIES = ["normal", "emergency"];
export const UNIT_KINDS = ["fire", "medical", "police", "rescue", "engineering", "vehicle", "other"];

/** state -> the steps from it. @type {Record<string, string[]>} */
export const STEPS = {
  reported: ["verify", "respond", "dismiss"],
  verified: ["respond", "close"],
  responding: ["stabilise"],
  stable: ["close", "respond"],
  closed: ["reopen"],
  dismissed: ["reopen"],
};

/** The right that a step needs. @param {string} step */
export const rightOfStep = (step) => (step === "close" || step === "reopen" ? "incident.close" : "incident.edit");

/** What an order goes through on its way, as the ticks show it. */
export const ORDER_STEPS = ["issued", "delivered", "read", "accepted", "reported", "done"];

/** The one word for an order's two registers. @param {Record<string, any>} order */
export const orderState = (order) =>
  order.owner === "cancelled" ? "cancelled" : order.progress === "none" ? "issued" : order.progress;

/** What the ladder does by default, for the form. */
export const LADDER_DEFAULT = [
  { after_s: 0, means: "app" },
  { after_s: 0, means: "sms" },
  { after_s: 180, means: "sms" },
  { after_s: 300, means: "duty_leader" },
  { after_s: 900, means: "superior" },
];

/** Seconds after which a location is no longer fresh, and after which it is stale. */
export const AGEING_S = 60;
export const OLD_S = 300;
