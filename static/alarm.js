// @ts-check
// Alarms on this screen: a sound, a desktop notification and a counter in the title, until somebody acknowledges.
//
// The alarm itself is a row of the server; this only makes it heard. Invariant: an alarm that may be acknowledged here
// goes on sounding until its row says so, or this screen was silenced, which lasts SILENCE_S and is shown.

import { eachSecond } from "./clock.js";
import { post } from "./api.js";
import { onLanguage, t } from "./i18n.js";
import { live } from "./live.js";
import { dueText } from "./parts/due.js";
import { owned } from "./parts/nodes.js";
import { may } from "./session.js";

export const SILENCE_S = 120;
const EVERY_S = 4;

/** @type {AudioContext | null} */
let audio = null;
let silentUntil = 0;
let beat = 0;
/** @type {Set<string>} */
const notified = new Set();
let first = true;
/** @type {Set<() => void>} */
const listeners = new Set();

/** Alarms that nobody has acknowledged, newest first. */
export const open = () =>
  live
    .rows("alarm")
    .filter((alarm) => alarm.acknowledged_at === null)
    .sort((a, b) => b.raised_at - a.raised_at);

/** Whether it is this node's to acknowledge: an incident's owner does. @param {Record<string, any>} alarm */
export const ours = (alarm) => may("alarm.acknowledge") && owned(live.row("incident", alarm.incident));

/** What an alarm says. @param {Record<string, any>} alarm */
export function words(alarm) {
  const incident = live.row("incident", alarm.incident);
  const order = live.row("order", alarm.order);
  const title = incident?.title ?? alarm.incident;
  const due = live.row("report_due", alarm.report);
  return t(`alarm.${alarm.kind}`, { title, task: order?.task ?? (due ? dueText(due) : "") });
}

/** Whether the sound can be heard: browsers wait for a click first. */
export const audible = () => audio?.state === "running";

export const silenced = () => Date.now() < silentUntil;

/** @param {() => void} listener */
export function onAlarm(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function silence() {
  silentUntil = Date.now() + SILENCE_S * 1000;
  tell();
}

/** Must be called from a click or a key. */
export async function enableSound() {
  audio ??= new AudioContext();
  await audio.resume();
  tell();
}

/** Must be called from a click. */
export async function enableNotifications() {
  if ("Notification" in window && Notification.permission === "default") await Notification.requestPermission();
  tell();
}

export const notifications = () => ("Notification" in window ? Notification.permission : "denied");

/** @param {Record<string, any>} alarm */
export const acknowledge = (alarm) => post(`/alarms/${alarm.id}/acknowledge`, {});

/** Start watching; once. */
export function watchAlarms() {
  live.follow(["alarm", "incident", "order", "report_due"], changed);
  onLanguage(title);
  eachSecond(() => {
    if (beat++ % EVERY_S === 0) sound();
  });
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, () => audio?.state !== "running" && void enableSound(), { once: true });
}

function tell() {
  for (const listener of listeners) listener();
}

function changed() {
  title();
  const alarms = open();
  for (const alarm of alarms) {
    if (notified.has(alarm.id)) continue;
    notified.add(alarm.id);
    if (first || !may("alarm.acknowledge")) continue;
    notify(alarm);
    sound(alarm); // another node's too, once: its superiors hear of it
  }
  if (live.ready("picture")) first = false;
  tell();
}

function title() {
  const n = open().filter(ours).length;
  document.title = n > 0 ? `(${n}) ${t("alarm.title")} · ${t("app.name")}` : t("app.name");
}

/** @param {Record<string, any>} alarm */
function notify(alarm) {
  if (!("Notification" in window) || Notification.permission !== "granted") return;
  const shown = new Notification(t("alarm.title"), { body: words(alarm), tag: alarm.id, requireInteraction: true, icon: "/static/beacon.svg" });
  shown.onclick = () => {
    window.focus();
    location.hash = `#/incident/${alarm.incident}`;
    shown.close();
  };
}

/** Three rising tones for a new incident, two low ones for an order without an answer. */
function sound(alarm = open().find(ours)) {
  if (!alarm || !audio || audio.state !== "running" || silenced()) return;
  const tones = alarm.kind === "incident.new" ? [660, 880, 1100] : [520, 390];
  tones.forEach((frequency, i) => tone(/** @type {AudioContext} */ (audio), frequency, i * 0.2));
}

/** @param {AudioContext} context @param {number} frequency @param {number} after_s */
function tone(context, frequency, after_s) {
  const at = context.currentTime + after_s;
  const oscillator = new OscillatorNode(context, { frequency, type: "triangle" });
  const gain = new GainNode(context, { gain: 0 });
  gain.gain.linearRampToValueAtTime(0.25, at + 0.02);
  gain.gain.setValueAtTime(0.25, at + 0.13);
  gain.gain.linearRampToValueAtTime(0, at + 0.18);
  oscillator.connect(gain).connect(context.destination);
  oscillator.start(at);
  oscillator.stop(at + 0.2);
}
