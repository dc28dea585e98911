// @ts-check
// Notices: what was sent to whom and what became of it; what waits for a review, for a person's word, for a held timer.
//
// Decides nothing. Invariant: every count and state shown is a row of the feed, or says that it is being read.

import { html, nothing, svg } from "lit";
import { get, post } from "../api.js";
import { fullTime, organisationName, partyName, personName, shortTime } from "../format.js";
import { t, tOr } from "../i18n.js";
import { live } from "../live.js";
import { sendEdit } from "../parts/conflict.js";
import { confirmDialog, reasonDialog } from "../parts/dialog.js";
import { Part, styleSheet } from "../parts/part.js";
import { busy, empty, exerciseBadge } from "../parts/small.js";
import { attempt } from "../parts/toast.js";
import { dueText } from "../parts/due.js";
import { messages, timers, topics as settling } from "../parts/unsettled.js";
import { may, who } from "../session.js";
import "./recipients.js";
import "./compose.js";
import { composeNotice, KINDS } from "./compose.js";
import { recipientNames } from "./recipients.js";

styleSheet("/static/notices/notices.css");

const STATE_TONE = /** @type {Record<string, string>} */ ({ review: "warn", issued: "good", finished: "good", refused: "bad", cancelled: "" });
const MESSAGE_TONE = /** @type {Record<string, string>} */ ({ delivered: "good", failed: "bad", unknown: "warn", held: "warn" });
const BARS = ["delivered", "sent", "queued", "held", "unknown", "failed", "cancelled"];

/** Messages by state, as one bar with words for those who see no colours. @param {any} counts */
export function deliveryBar(counts) {
  const total = Math.max(1, counts.total);
  const words = BARS.filter((name) => counts[name]).map((name) => `${t(`message.${name}`)} ${counts[name]}`).join(" · ");
  return html`<span class="delivery" role="img" aria-label=${words} title=${words}><svg viewBox=${`0 0 ${total} 1`} preserveAspectRatio="none" aria-hidden="true">
    ${svgBars(counts)}</svg></span>`;
}

/** @param {any} counts */
function svgBars(counts) {
  let at = 0;
  return BARS.filter((name) => counts[name]).map((name) => {
    const x = at;
    at += counts[name];
    return svg`<rect class=${name} x=${x} y="0" width=${counts[name]} height="1"></rect>`;
  });
}

class NoticesPage extends Part {
  static follows = ["notice", "message", "inbound", "gateway", "timer", "person", "incident", "order"];
  static properties = {
    params: { attribute: false }, query: { attribute: false }, tab: { state: true }, chosen: { state: true }, search: { state: true },
    kind: { state: true }, state: { state: true }, file: { state: true },
  };

  constructor() {
    super();
    this.tab = "all";
    this.chosen = "";
    this.search = "";
    this.kind = "";
    this.state = "";
    /** Messages and answers of the chosen notice, as read. @type {any} */
    this.file = null;
    /** @type {any[]} */
    this.older = [];
    /** @type {(() => void) | null} */
    this._release = null;
  }

  topics() {
    return ["notices", "picture", ...settling()];
  }

  connectedCallback() {
    super.connectedCallback();
    this.until(() => this.choose(""));
    if (/** @type {any} */ (this).query?.id) this.choose(/** @type {any} */ (this).query.id);
  }

  /** @param {string} id */
  choose(id) {
    this._release?.();
    this._release = id ? live.subscribe(`notice/${id}`) : null;
    this.chosen = id;
    this.file = null;
    if (id && !live.row("notice", id)) void this.more();
  }

  async more() {
    const last = this.all().at(-1)?.id;
    await attempt(async () => {
      const found = (await get("/notices", { before: last, limit: 100 })).items;
      this.older = [...this.older, ...found];
      this.ended = found.length < 100;
      this.requestUpdate();
    });
  }

  all() {
    const rows = new Map(this.older.map((row) => [row.id, row]));
    for (const row of live.rows("notice")) rows.set(row.id, row);
    return [...rows.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
  }

  /** @param {any} notice */
  canReview(notice) {
    return notice.state === "review" && may("notice.review", { organisation: notice.organisation }) && notice.author !== who()?.account;
  }

  unsettled() {
    return messages();
  }

  render() {
    if (live.refused("notices")) return html`<div class="notices"><p class="error-line">${t("error.rights.denied")}</p></div>`;
    if (!live.ready("notices")) return busy();
    const all = this.all();
    /** @type {[string, number, boolean][]} */
    const tabs = [
      ["all", 0, true],
      ["review", all.filter((row) => this.canReview(row)).length, may("notice.review")],
      ["unsettled", this.unsettled().length, may("notice.settle")],
      ["answers", live.rows("inbound").filter((row) => !row.handled).length, may("notice.settle")],
      ["held", timers().length, may("node.settle")],
    ];
    const blocked = live.rows("gateway").filter((row) => row.blocked);
    return html`<div class="notices ${this.chosen ? "chosen" : ""}">
      <div class="row wrap page-head no-print">
        <div class="tabs" role="tablist" aria-label=${t("nav.notices")}>${tabs.filter(([, , shown]) => shown).map(([name, n]) => html`<button role="tab" data-tab=${name} aria-selected=${this.tab === name} @click=${() => { this.tab = name; this.choose(""); }}>${t(`notices.tab.${name}`)}${n ? html` <i class="count hot">${n}</i>` : nothing}</button>`)}</div>
        <span class="grow"></span>
        ${may("notice.draft") ? html`<button class="primary" id="compose" @click=${() => void composeNotice().then((id) => id && this.choose(id))}><wa-icon name="pencil-square"></wa-icon>${t("notice.compose")}</button>` : nothing}
      </div>
      ${blocked.map((row) => html`<p class="error-line" role="alert"><b>${t("notices.blocked", { name: row.id })}</b> ${tOr(`error.${row.code}`, row.hint || row.code)} · ${shortTime(row.since)}</p>`)}
      ${this.tab === "all" || this.tab === "review" ? this.lists(all) : this.tab === "unsettled" ? this.settleList() : this.tab === "answers" ? this.answerList() : this.heldList()}
    </div>`;
  }

  // -- the list and one notice

  /** @param {any[]} all */
  lists(all) {
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = all.filter(
      (row) =>
        (this.tab !== "review" || row.state === "review") && (!this.kind || row.kind === this.kind) && (!this.state || row.state === this.state) &&
        words.every((word) => `${row.text_zh} ${row.text_en} ${live.row("incident", row.incident)?.title ?? ""}`.toLowerCase().includes(word)),
    );
    const one = live.row("notice", this.chosen) ?? all.find((row) => row.id === this.chosen);
    return html`<div class="two">
      <section class="panel list" aria-label=${t("nav.notices")}>
        ${this.tab === "all" ? html`<div class="body slim row no-print"><input type="search" class="grow" placeholder=${t("word.search")} aria-label=${t("word.search")} .value=${this.search} @input=${(/** @type {any} */ event) => (this.search = event.target.value)} />
          <select class="narrow" aria-label=${t("notice.kind")} @change=${(/** @type {any} */ event) => (this.kind = event.target.value)}><option value="">${t("notice.kind")}</option>${KINDS.map((kind) => html`<option value=${kind}>${t(`notice.kind.${kind}`)}</option>`)}</select>
          <select class="narrow" aria-label=${t("label.state")} @change=${(/** @type {any} */ event) => (this.state = event.target.value)}><option value="">${t("label.state")}</option>${Object.keys(STATE_TONE).map((state) => html`<option value=${state}>${t(`notice.state.${state}`)}</option>`)}</select></div>` : nothing}
        <div class="scroll">${shown.length === 0 ? empty("megaphone", t(this.tab === "review" ? "notices.none_review" : "notices.none")) : shown.map((row) => this.row(row))}
          ${this.tab === "all" && all.length >= 200 && !this.ended ? html`<button class="plain" @click=${() => void this.more()}>${t("notices.more")}</button>` : nothing}</div>
      </section>
      ${one ? this.one(one) : html`<section class="panel detail-none">${empty("envelope-open", t("notices.choose"))}</section>`}
    </div>`;
  }

  /** @param {any} row */
  row(row) {
    const { counts } = row;
    return html`<button class="notice-row" data-notice=${row.id} aria-current=${row.id === this.chosen ? "true" : nothing} @click=${() => this.choose(row.id)}>
      <span class="row"><span class="badge ${row.kind === "alert" || row.urgency === "emergency" ? "bad" : ""}">${t(`notice.kind.${row.kind}`)}</span>${exerciseBadge(row.exercise)}
        <span class="grow"></span><span class="badge ${STATE_TONE[row.state] ?? ""}">${t(`notice.state.${row.state}`)}</span></span>
      <span class="clip">${row.text_zh || row.text_en}</span>
      <span class="row small muted"><span class="num">${shortTime(row.issued_at ?? row.created_at)}</span><span class="grow">${row.expanded ? deliveryBar(counts) : nothing}</span>
        <span class="num">${row.expanded ? t("notice.delivered_of", { n: counts.delivered, all: counts.total }) : ""}${counts.answered ? html` · ${t("notice.answered", { n: counts.answered })}` : nothing}</span></span>
    </button>`;
  }

  /** @param {any} notice */
  one(notice) {
    const { counts } = notice;
    const incident = live.row("incident", notice.incident);
    const cancellable = (notice.state === "review" || notice.state === "issued") && may("notice.draft", { organisation: notice.organisation, owner: notice.author }) && counts.delivered + counts.failed < Math.max(1, counts.total);
    return html`<section class="panel detail" data-detail=${notice.id} aria-label=${t("nav.notices")}>
      <header><button class="plain icon back" aria-label=${t("act.back")} @click=${() => this.choose("")}><wa-icon name="chevron-left"></wa-icon></button>
        <h2>${t(`notice.kind.${notice.kind}`)} <span class="badge ${STATE_TONE[notice.state] ?? ""}">${t(`notice.state.${notice.state}`)}</span> ${exerciseBadge(notice.exercise)}</h2>
        ${this.canReview(notice) ? html`<button class="good" id="pass" @click=${() => this.review(notice, true)}><wa-icon name="check-lg"></wa-icon>${t("notice.pass")}</button><button class="danger" id="refuse" @click=${() => this.review(notice, false)}>${t("notice.refuse")}</button>` : nothing}
        ${cancellable ? html`<button class="danger" @click=${() => this.cancel(notice)}>${t("notice.cancel")}</button>` : nothing}
      </header>
      <div class="body scroll stack">
        ${["zh", "en"].map((language) => (notice[`text_${language}`] ? html`<div class="sms" lang=${language}><span class="label">${t(`language.${language}`)}</span><div class="prose">${notice[`text_${language}`]}</div></div>` : nothing))}
        <dl class="plain-facts">
          <dt>${t("notice.recipients")}</dt><dd>${recipientNames(notice.recipients).join(t("admin.comma")) || "—"}</dd>
          <dt>${t("notice.urgency")}</dt><dd>${t(`urgency.${notice.urgency}`)}</dd>
          <dt>${t("label.organisation")}</dt><dd>${organisationName(notice.organisation)}</dd>
          ${notice.incident ? html`<dt>${t("notice.incident")}</dt><dd><a href=${`#/incident/${notice.incident}`}>${incident?.title ?? notice.incident}</a></dd>` : nothing}
          ${notice.order ? html`<dt>${t("notice.order")}</dt><dd>${live.row("order", notice.order)?.task ?? notice.order}</dd>` : nothing}
          <dt>${t("notice.created")}</dt><dd class="num">${fullTime(notice.created_at)}</dd>
          ${notice.issued_at ? html`<dt>${t("notice.issued")}</dt><dd class="num">${fullTime(notice.issued_at)}</dd>` : nothing}
          ${notice.review_reason ? html`<dt>${t("notice.review_reason")}</dt><dd class="prose">${notice.review_reason}</dd>` : nothing}
        </dl>
        ${notice.state === "review" || notice.state === "refused" ? nothing : this.progress(notice)}
      </div>
    </section>`;
  }

  /** @param {any} notice */
  progress(notice) {
    const { counts } = notice;
    const topic = `notice/${notice.id}`;
    const messages = live.rows("message").filter((row) => row.notice === notice.id).sort((a, b) => (a.id < b.id ? -1 : 1));
    const answers = live.rows("inbound").filter((row) => row.notice === notice.id).sort((a, b) => b.at - a.at);
    return html`<h3>${t("notice.delivery")}</h3>
      ${notice.expanded ? html`${deliveryBar(counts)}<p class="legend small">${BARS.filter((name) => counts[name]).map((name) => html`<span class="key ${name}"><i></i>${t(`message.${name}`)} <b class="num" data-count=${name}>${counts[name]}</b></span>`)}<span class="key"><wa-icon name="reply"></wa-icon>${t("notice.answered_n")} <b class="num">${counts.answered}</b></span></p>` : html`<p class="faint">${t("notice.expanding")}</p>`}
      ${answers.length ? html`<h3>${t("notice.answers")}</h3>${answers.map((row) => this.inbound(row))}` : nothing}
      ${!live.ready(topic) ? busy() : html`<div class="table-scroll"><table class="data"><thead><tr><th>${t("party.person")}</th><th>${t("label.phones")}</th><th>${t("label.state")}</th><th>${t("notice.since")}</th><th></th></tr></thead>
        <tbody>${messages.map((row) => this.message(row))}</tbody></table></div>${messages.length >= 500 ? html`<p class="muted small">${t("notice.first_500")}</p>` : nothing}`}`;
  }

  /** @param {any} row */
  message(row) {
    return html`<tr data-message=${row.id}><td>${personName(row.person)}${row.duplicate ? html` <span class="badge warn">${t("message.duplicate")}</span>` : nothing}</td><td class="num">${row.number}</td>
      <td><span class="badge ${MESSAGE_TONE[row.state] ?? ""}">${t(`message.${row.state}`)}</span>${row.answered ? html` <span class="badge good"><wa-icon name="reply"></wa-icon>${t("message.answered")}</span>` : nothing}${row.code ? html` <span class="small muted">${tOr(`error.${row.code}`, row.code)}</span>` : nothing}</td>
      <td class="num muted" title=${fullTime(row.since)}>${shortTime(row.since)}</td><td class="actions">${this.settleActions(row)}</td></tr>`;
  }

  /** @param {any} row */
  settleActions(row) {
    if (!may("notice.settle")) return nothing;
    const act = (/** @type {string} */ action) => void attempt(() => post(`/messages/${row.id}/settle`, { action }), () => t("done.saved"));
    if (row.state === "unknown" && !row.resent)
      return html`<button class="small" data-act="resend" @click=${() => this.resend(row)}>${t("message.resend")}</button> <button class="small" data-act="delivered" @click=${() => act("delivered")}>${t("message.mark_delivered")}</button> <button class="small" data-act="abandon" @click=${() => act("abandon")}>${t("message.abandon")}</button>`;
    return row.state === "failed" && !row.resent ? html`<button class="small" data-act="resend" @click=${() => this.resend(row)}>${t("message.resend")}</button>` : nothing;
  }

  /** @param {any} row */
  resend(row) {
    void confirmDialog({ title: () => t("message.resend"), text: () => html`<p>${t(row.state === "unknown" ? "message.resend_text" : "message.resend_failed")}</p><p class="muted">${personName(row.person)} · ${row.number}</p>`, label: () => t("message.resend") }).then((yes) => yes && attempt(() => post(`/messages/${row.id}/settle`, { action: "resend" }), () => t("done.sent")));
  }

  /** @param {any} notice @param {boolean} passed */
  review(notice, passed) {
    void reasonDialog({
      title: () => t(passed ? "notice.pass" : "notice.refuse"),
      text: () => html`<div class="sms prose">${notice.text_zh || notice.text_en}</div>`,
      required: !passed,
      tone: passed ? "good" : "danger",
      label: () => t(passed ? "notice.pass" : "notice.refuse"),
      send: async (reason) => (await sendEdit("POST", `/notices/${notice.id}/review`, { id: notice.id, version: notice.version, passed, reason })) ?? true,
    });
  }

  /** @param {any} notice */
  cancel(notice) {
    void reasonDialog({
      title: () => t("notice.cancel"),
      text: () => html`<p>${t("notice.cancel_text")}</p>`,
      tone: "danger",
      label: () => t("notice.cancel"),
      send: async (reason) => (await sendEdit("POST", `/notices/${notice.id}/cancel`, { id: notice.id, version: notice.version, reason })) ?? true,
    });
  }

  // -- what waits for a person

  settleList() {
    const rows = this.unsettled();
    return html`<section class="panel fill"><header><h2>${t("notices.tab.unsettled")}</h2></header><div class="body scroll"><p class="note-line">${t("unsettled.text")}</p>
      ${rows.length === 0 ? empty("check2-circle", t("unsettled.none")) : html`<table class="data"><thead><tr><th>${t("party.person")}</th><th>${t("label.phones")}</th><th>${t("unsettled.what")}</th><th>${t("unsettled.why")}</th><th></th></tr></thead>
        <tbody>${rows.map((row) => html`<tr data-message=${row.id}><td>${personName(row.person)}</td><td class="num">${row.number}</td><td class="prose">${row.text}</td><td><span class="badge warn">${t(`doubt.${row.doubt ?? "no_answer"}`)}</span> <span class="muted num small">${shortTime(row.since)}</span></td><td class="actions">${this.settleActions(row)}</td></tr>`)}</tbody></table>`}</div></section>`;
  }

  answerList() {
    const rows = live.rows("inbound").filter((row) => !row.handled).sort((a, b) => b.at - a.at);
    return html`<section class="panel fill"><header><h2>${t("notices.tab.answers")}</h2></header><div class="body scroll stack"><p class="note-line">${t("answers.text")}</p>
      ${rows.length === 0 ? empty("chat-square-text", t("answers.none")) : rows.map((row) => this.inbound(row))}</div></section>`;
  }

  /** @param {any} row */
  inbound(row) {
    return html`<div class="inbound row" data-inbound=${row.id}><div class="grow"><b>${row.person ? personName(row.person) : row.sender}</b> <span class="muted num small">${row.sender} · ${shortTime(row.at)}</span>
        <span class="badge ${row.meaning === "accepted" ? "good" : row.meaning === "declined" ? "bad" : "warn"}">${t(`meaning.${row.meaning}`)}</span><div class="prose">${row.text}</div></div>
      ${!row.handled && may("notice.settle") ? html`<button class="small" @click=${() => void attempt(() => post(`/inbound/${row.id}/handle`, {}))}>${t("answers.handled")}</button>` : nothing}</div>`;
  }

  heldList() {
    const rows = timers().sort((a, b) => a.due_at - b.due_at);
    const release = (/** @type {any} */ row, /** @type {boolean} */ fire) => void attempt(() => post(`/timers/${encodeURIComponent(row.id)}/release`, { fire }), () => t("done.saved"));
    return html`<section class="panel fill"><header><h2>${t("notices.tab.held")}</h2></header><div class="body scroll"><p class="note-line">${t("held.text")}</p>
      ${rows.length === 0 ? empty("hourglass", t("held.none")) : html`<table class="data"><thead><tr><th>${t("held.what")}</th><th>${t("held.about")}</th><th>${t("held.due")}</th><th></th></tr></thead>
        <tbody>${rows.map((row) => html`<tr data-timer=${row.id}><td>${tOr(`timer.${row.kind}`, row.kind)}</td><td>${this.about(row)}</td><td class="num" title=${fullTime(row.due_at)}>${shortTime(row.due_at)}</td>
          <td class="actions"><button class="small" @click=${() => release(row, true)}>${t("held.fire")}</button> <button class="small danger" @click=${() => release(row, false)}>${t("held.drop")}</button></td></tr>`)}</tbody></table>`}</div></section>`;
  }

  /** @param {any} timer */
  about(timer) {
    const order = live.row("order", timer.about);
    const due = live.row("report_due", timer.about);
    if (due) return html`<a href=${`#/incident/${due.incident}`}>${dueText(due)}</a>`;
    return order ? html`<a href=${`#/incident/${order.incident}`}>${order.task}</a> <span class="muted small">${partyName(order.assignee)}</span>` : timer.about;
  }
}
customElements.define("fh-notices-page", NoticesPage);
