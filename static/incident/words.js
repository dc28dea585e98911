// @ts-check
// Each kind of entry in words. Pure but for names; a kind without words here shows its raw body.

import { html } from "lit";
import { colon, distance, joined, partyName, personName, shortTime, unitName } from "../format.js";
import { language, t, tOr } from "../i18n.js";
import { live } from "../live.js";
import { shown } from "../parts/conflict.js";
import { dueText, recipientName } from "../parts/due.js";
import { nodeName } from "../parts/nodes.js";
import { recipientsText } from "../parts/plan.js";

/** @typedef {{title: unknown, text?: unknown, tone?: "bad" | "good" | "warn" | ""}} Words */

const ICONS = /** @type {Record<string, string>} */ ({
  incident: "info-circle", alarm: "bell", order: "flag", plan: "lightning-charge", room: "camera-video", fence: "hexagon", notice: "megaphone",
  "incident.reported": "exclamation-octagon", "incident.noted": "chat-left-text", "incident.sub_report": "file-earmark-text", "incident.level_set": "arrow-down-up",
  "order.overdue": "alarm-fill", "order.late": "alarm-fill", ownership: "diagram-3", "incident.asked": "person-raised-hand", "incident.invited": "people",
  "order.adopted": "check2-circle", "order.recalled": "x-circle", "order.undecided": "hourglass-bottom",
  report: "file-earmark-text", "report.soon": "clock-history", "report.overdue": "alarm-fill",
});

/** @param {string} kind */
export const iconOf = (kind) => ICONS[kind] ?? ICONS[kind.split(".")[0]] ?? "dot";

/** The task of an order that an entry names. @param {any} body */
const task = (body) => live.row("order", body.order)?.task ?? "";
/** @param {any} body */
const assignee = (body) => partyName(live.row("order", body.order)?.assignee);
/** @param {any} body */
const fenceName = (body) => live.row("fence", body.fence)?.name ?? body.fence;
/** @param {any} body */
const roomName = (body) => live.row("room", body.room)?.title ?? body.room;

/** @type {Record<string, (body: any, secret: any, item: any) => Words>} */
const WORDS = {
  "incident.reported": (body, secret) => ({ title: t("say.reported", { title: secret.title ?? "", level: `${body.level} ${t(`level.${body.level}`)}` }), text: secret.description, tone: "bad" }),
  "incident.edited": (body, secret) => ({ title: t("say.edited"), text: editedText({ ...body, ...secret }) }),
  "incident.stepped": (body, secret) => ({ title: t("say.stepped", { step: t(`step.${body.step}`), state: t(`state.${body.to}`) }), text: secret.reason, tone: "good" }),
  "incident.level_set": (body, secret) => ({ title: t(body.level < body.from ? "say.raised" : "say.lowered", { from: levelText(body.from), to: levelText(body.level) }), text: secret.reason, tone: "warn" }),
  "incident.sub_report": (body, secret) => ({ title: t("say.sub_report", { kind: t(`sub_report.${body.kind}`), n: body.number }), text: [secret.text, body.casualties ? shown("casualties", body.casualties) : ""].filter(Boolean).join("\n") }),
  "incident.noted": (_body, secret) => ({ title: t("say.noted"), text: secret.text }),
  "alarm.acknowledged": (body) => ({ title: t(String(body.alarm).startsWith("order-") ? "say.acknowledged_order" : "say.acknowledged") }),
  "order.issued": (body, secret) => ({ title: t("say.order_issued", { to: partyName(body.assignee) }), text: secret.task, tone: "warn" }),
  "order.amended": (body, secret) => ({ title: t("say.order_amended", { to: assignee(body) }), text: [secret.task, body.due_at ? `${t("label.due_at")}${colon()}${shown("due_at", body.due_at)}` : ""].filter(Boolean).join("\n") }),
  "order.cancelled": (body, secret) => ({ title: t("say.order_cancelled", { to: assignee(body), task: task(body) }), text: secret.reason }),
  "order.progressed": (body, secret) => ({ title: t("say.order_progressed", { to: assignee(body), state: t(`order.state.${body.step}`), task: task(body) }), text: secret.text, tone: body.step === "declined" ? "bad" : body.step === "accepted" || body.step === "done" ? "good" : "" }),
  "order.overdue": (body) => ({ title: t("say.order_overdue", { to: assignee(body) }), text: task(body), tone: "bad" }),
  "order.late": (body) => ({ title: t("say.order_late", { to: assignee(body) }), text: task(body), tone: "bad" }),
  "order.adopted": (body) => ({ title: t("say.order_adopted", { to: assignee(body) }), text: task(body), tone: "good" }),
  "order.recalled": (body, secret) => ({ title: t("say.order_recalled", { to: assignee(body) }), text: secret.reason ?? task(body), tone: "warn" }),
  "order.undecided": (body) => ({ title: t("say.order_undecided", { to: assignee(body) }), text: task(body), tone: "bad" }),
  "order.rung": (body) => ({ title: t("say.order_rung", { to: assignee(body), means: tOr(`means.${body.means}`, body.means), n: body.rung + 1 }) }),
  "report.due": (body) => ({ title: t("say.report_due", { report: t(`sub_report.${body.report}`), channel: t(`channel.${body.channel}`), to: recipientName(body), at: shortTime(body.due_at) }), tone: "warn" }),
  "report.soon": (body) => ({ title: t("say.report_soon", { what: dueOf(body) }), tone: "warn" }),
  "report.overdue": (body) => ({ title: t("say.report_overdue", { what: dueOf(body) }), tone: "bad" }),
  "ownership.offered": (body, secret) => ({ title: t("say.own_offered", { to: nodeName(body.to), way: way(body) }), text: secret.reason, tone: "warn" }),
  "ownership.requested": (body, secret) => ({ title: t("say.own_requested", { to: nodeName(body.to), way: way(body) }), text: secret.reason, tone: "warn" }),
  "ownership.agreed": (_body, secret) => ({ title: t("say.own_agreed"), text: secret.reason, tone: "good" }),
  "ownership.declined": (_body, secret) => ({ title: t("say.own_declined"), text: secret.reason, tone: "bad" }),
  "ownership.transferred": (body, secret) => ({ title: t("say.own_transferred", { to: nodeName(body.to), way: way(body) }), text: secret.reason, tone: "good" }),
  "ownership.seized": (_body, secret, item) => ({ title: t("say.own_seized", { node: nodeName(item.origin) }), text: secret.reason, tone: "bad" }),
  "incident.invited": (body) => ({ title: t("say.invited", { nodes: joined(body.nodes.map(nodeName)) }) }),
  "incident.asked": (body, secret) => ({ title: t("say.asked", { what: tOr(`own.what.${body.what}`, body.what) }), text: secret.text, tone: "warn" }),
  "incident.ask_answered": (body, secret) => ({ title: t(body.granted ? "say.ask_granted" : "say.ask_refused"), text: secret.reason, tone: body.granted ? "good" : "bad" }),
  "plan.requested": (_body, secret) => ({ title: t("say.plan_requested", { name: secret.plan?.name ?? "" }), text: secret.reason, tone: "warn" }),
  "plan.approved": (body, secret) => ({ title: t("say.plan_approved", { name: planName(body), n: body.orders?.length ?? 0 }), text: secret.reason, tone: "good" }),
  "plan.refused": (body, secret) => ({ title: t("say.plan_refused", { name: planName(body) }), text: secret.reason, tone: "bad" }),
  "room.opened": (_body, secret) => ({ title: t("say.room_opened", { name: secret.title ?? "" }) }),
  "meeting.opened": (body) => ({ title: t("say.room_opened", { name: roomName(body) }) }),
  "room.closed": (body) => ({ title: t("say.room_closed", { name: roomName(body) }) }),
  "room.joined": (body, secret) => ({ title: t("say.room_joined", { who: secret.name ?? body.member.account, name: roomName(body) }) }),
  "room.left": (body, secret) => ({ title: t("say.room_left", { who: secret.name ?? body.member.account, name: roomName(body) }) }),
  "room.changed": (body, secret) => ({ title: t("say.room_changed", { who: secret.name ?? body.member.account, audio: t(body.member.audio ? "word.yes" : "word.no"), video: t(body.member.video ? "word.yes" : "word.no") }) }),
  "room.chair_acted": (body) => ({ title: t(`say.chair_${body.act}`, { kind: body.kind }) }),
  "fence.drawn": (body, secret) => ({ title: t("say.fence_drawn", { name: secret.name ?? "" }), text: body.rules.map((/** @type {string} */ rule) => t(`rules.${rule}`)).join(" · ") + (body.geometry.type === "Circle" ? ` · ${t("shape.Circle")} ${distance(body.geometry.radius_m)}` : "") }),
  "fence.edited": (body) => ({ title: t("say.fence_edited", { name: fenceName(body) }) }),
  "fence.removed": (body) => ({ title: t("say.fence_removed", { name: fenceName(body) }) }),
  "fence.crossed": (body) => ({ title: t(body.crossed ? "say.fence_through" : `say.fence_${body.event}`, { unit: unitName(body.unit), name: fenceName(body) }), text: `${shown("fixed_at", body.at)}`, tone: body.event === "lost" ? "bad" : body.event === "enter" ? "warn" : "" }),
  "notice.drafted": (body, secret) => ({ title: t("say.notice_drafted", { to: recipientsText(body.recipients) }), text: noticeText(secret) }),
  "notice.issued": (body, secret) => ({ title: t("say.notice_issued", { to: recipientsText(body.recipients) }), text: noticeText(secret) }),
  "notice.reviewed": (body, secret) => ({ title: t(body.passed ? "say.notice_passed" : "say.notice_refused"), text: secret.reason }),
  "notice.cancelled": () => ({ title: t("say.notice_cancelled") }),
  "message.answered": (body, secret) => ({ title: t("say.message_answered", { who: personName(String(body.person).replace("person/", "")), text: secret.text ?? "" }), tone: body.meaning === "declined" ? "bad" : body.meaning === "accepted" ? "good" : "warn" }),
  "timer.fired": (body) => ({ title: t("say.timer_fired", { kind: body.kind }) }),
  "timer.dropped": () => ({ title: t("say.timer_dropped") }),
  "notice.progressed": (body) => ({ title: t("incident.notice_counts", { total: body.counts.total, delivered: body.counts.delivered, answered: body.counts.answered, failed: body.counts.failed }) }),
};

/** @param {any} body */
const dueOf = (body) => {
  const due = live.row("report_due", body.due);
  return due ? dueText(due) : body.due;
};

/** Which way a transfer goes. @param {any} body */
const way = (body) => tOr(`own.way.${body.direction}`, body.direction ?? "");

/** @param {string} level */
const levelText = (level) => `${level} ${t(`level.${level}`)}`;

/** @param {any} secret */
const noticeText = (secret) => (language() === "en" ? secret.text_en || secret.text_zh : secret.text_zh || secret.text_en);

/** @param {any} body */
const planName = (body) => live.row("activation", body.activation)?.plan.name ?? "";

/** "Title: …" for every changed field, one a line. @param {Record<string, any>} changes */
function editedText(changes) {
  const { lon, lat, address, area_notes: _notes, ...rest } = changes;
  if (lon !== undefined) rest.place = { lon, lat, address };
  return Object.entries(rest).map(([name, value]) => `${tOr(`label.${name}`, name)}${colon()}${shown(name, value)}`).join("\n");
}

/** @param {any} item @returns {Words} */
export function words(item) {
  const say = WORDS[item.kind];
  const secret = item.private ?? {};
  if (!say) return { title: html`<code>${item.kind}</code>`, text: html`<code>${JSON.stringify({ ...item.body, ...secret }, null, 1)}</code>` };
  try {
    return say(item.body, secret, item);
  } catch {
    return { title: html`<code>${item.kind}</code>`, text: html`<code>${JSON.stringify(item.body)}</code>` }; // a body newer than these words
  }
}

/** The kinds that have words, for the tests. */
export const KINDS = Object.keys(WORDS);

