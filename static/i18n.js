// @ts-check
// The two languages of the screen. Every visible string goes through `t`; the dictionaries stand in `i18n/`.
//
// Invariant: both dictionaries have the same keys (tests/browser/test_screens.py), and a change of language shows at once.

import en from "./i18n/en.js";
import zh from "./i18n/zh.js";

/** @typedef {"zh" | "en"} Language */

const KEY = "fenghuo.language";
/** @type {Record<Language, Record<string, string>>} */
const dictionaries = { zh, en };
/** @type {Set<() => void>} */
const listeners = new Set();
/** @type {Language} */
let current = "zh";

/** @returns {Language} */
export const language = () => current;

/** BCP 47 tag of the language. */
export const locale = () => (current === "zh" ? "zh-CN" : "en-GB");

/**
 * Switch at once. `remember` keeps it on this device.
 * @param {string} wanted @param {boolean} [remember]
 */
export function setLanguage(wanted, remember = true) {
  current = wanted === "en" ? "en" : "zh";
  if (remember) localStorage.setItem(KEY, current);
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
  for (const listener of listeners) listener();
}

/** The language chosen on this device before, if any. @returns {string | null} */
export const remembered = () => localStorage.getItem(KEY);

/** Calls `listener` at every switch, until the returned function is called. @param {() => void} listener */
export function onLanguage(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * The text of `key` in the current language; `{name}` is replaced from `values`. A missing key shows itself.
 * @param {string} key @param {Record<string, unknown>} [values]
 */
export function t(key, values) {
  const text = dictionaries[current][key];
  if (text === undefined) {
    console.warn(`no text for ${key}`);
    return key;
  }
  return values ? text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole)) : text;
}

/** The text of `key`, or `otherwise` where there is none. @param {string} key @param {string} otherwise */
export const tOr = (key, otherwise) => dictionaries[current][key] ?? otherwise;

setLanguage(remembered() ?? (navigator.language.startsWith("zh") ? "zh" : "en"), false);
