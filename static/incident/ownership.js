// @ts-check
// Whose incident it is: the owner and the terms before, the nodes that take part, transfers (提级, hand down), seizure,
// requests to the owner, and what was decided too late.
//
// Holds no rule of the domain: the server refuses. Invariant: who decides is said by name, also when it is another node.

import { html, nothing } from "lit";
import { get, post } from "../api.js";
import { colon, fullTime, shortTime } from "../format.js";
import { t, tOr } from "../i18n.js";
import { live } from "../live.js";
import { confirmDialog, formDialog, reasonDialog } from "../parts/dialog.js";
import { above, direction, here, LEVELS, nodeChip, nodeIcon, nodeName, owned, standing, superior } from "../parts/nodes.js";
import { Part } from "../parts/part.js";
import { attempt, toast } from "../parts/toast.js";
import { may } from "../session.js";
import { words } from "./words.js";

const ASKS = ["support", "order", "level", "plan", "notice", "step", "other"];
const DIRECTIONS = ["raise", "hand_down", "aside"];
const PENDING = ["offered", "requested", "agreed"];
const CLAIMS = ["ownership.transferred", "ownership.seized"];

/** Nodes one could name, nearest level first. */
const others = () =>
  live.rows("node").filter((row) => row.id !== here() && !row.revoked).sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level) || a.name.localeCompare(b.name));

/** @param {Record<string, any>} row */
const nodeOption = (row) => `${row.name} · ${t(`tree.level.${row.level}`)} · ${t(`tree.${standing(row.id)}`)}`;

/** @param {Record<string, any>} incident */
async function offer(incident) {
  const groups = DIRECTIONS.map((way) => ({ way, rows: others().filter((row) => direction(here(), row.id) === way) })).filter(({ rows }) => rows.length);
  const done = await formDialog({
    title: () => t("own.offer"),
    name: "offer",
    label: () => t("own.offer_send"),
    fields: () => html`<div class="form">
      <label class="field"><span class="label required">${t("own.to")}</span><select name="to" required autofocus>
        ${groups.map(({ way, rows }) => html`<optgroup label=${t(`own.way.${way}`)}>${rows.map((row) => html`<option value=${row.id} ?selected=${row.id === superior()}>${nodeOption(row)}</option>`)}</optgroup>`)}</select></label>
      <label class="field"><span class="label required">${t("word.reason")}</span><textarea name="reason" maxlength="4000" required></textarea></label>
      <p class="note-line">${t("own.offer_text")}</p></div>`,
    send: (data) => post(`/incidents/${incident.id}/offer`, { version: incident.version, to: data.get("to"), reason: String(data.get("reason")).trim() }),
  });
  if (done) toast(t("own.offered"), "good");
}

/** @param {Record<string, any>} incident */
async function requestIt(incident) {
  const done = await reasonDialog({
    title: () => t("own.request"), required: true, label: () => t("own.request_send"),
    text: () => html`<p>${t("own.request_text", { owner: nodeName(incident.owner), here: nodeName(here()) })}</p>`,
    send: (reason) => post(`/incidents/${incident.id}/request`, { reason }),
  });
  if (done) toast(t("own.requested"), "good");
}

/** @param {Record<string, any>} incident */
async function seize(incident) {
  const cut = standing(incident.owner) !== "linked";
  const done = await reasonDialog({
    title: () => t("own.seize_title", { owner: nodeName(incident.owner) }), required: true, tone: "danger", label: () => t("own.seize"),
    text: () => html`<p>${t("own.seize_text", { owner: nodeName(incident.owner), here: nodeName(here()) })}</p>${cut ? html`<p class="note-line warn">${t("own.seize_cut", { owner: nodeName(incident.owner) })}</p>` : nothing}`,
    send: (reason) => post(`/incidents/${incident.id}/seize`, { version: incident.version, reason }),
  });
  if (done) toast(t("own.seized"), "good");
}

/** @param {Record<string, any>} incident */
async function ask(incident) {
  const done = await formDialog({
    title: () => t("own.ask_title", { owner: nodeName(incident.owner) }),
    name: "ask",
    fields: () => html`<div class="form">
      <label class="field"><span class="label required">${t("own.what")}</span><select name="what" required>${ASKS.map((code) => html`<option value=${code}>${t(`own.what.${code}`)}</option>`)}</select></label>
      <label class="field"><span class="label required">${t("own.ask_words")}</span><textarea name="text" maxlength="4000" required autofocus></textarea></label></div>`,
    send: (data) => post(`/incidents/${incident.id}/asks`, { what: data.get("what"), text: String(data.get("text")).trim() }),
  });
  if (done) toast(t("done.sent"), "good");
}

/** @param {Record<string, any>} incident @param {string[]} taking */
async function invite(incident, taking) {
  const rows = others().filter((row) => !taking.includes(row.id));
  const done = await formDialog({
    title: () => t("own.invite"),
    size: "narrow",
    name: "share",
    label: () => t("own.invite_send"),
    fields: () => html`<div class="stack">${rows.length ? rows.map((row) => html`<label class="check"><input type="checkbox" name="nodes" value=${row.id} />${nodeOption(row)}</label>`) : html`<p>${t("own.invite_none")}</p>`}
      <p class="note-line">${t("own.invite_text")}</p></div>`,
    send: async (data) => (data.getAll("nodes").length ? post(`/incidents/${incident.id}/invite`, { nodes: data.getAll("nodes") }) : null),
  });
  if (done && done !== true) toast(t("done.saved"), "good");
}

/** @param {Record<string, any>} transfer @param {boolean} agree */
async function answerTransfer(transfer, agree) {
  const [from, to] = [nodeName(transfer.owner), nodeName(transfer.to)];
  const send = (/** @type {string} */ reason) => post(`/transfers/${transfer.id}/answer`, { version: transfer.version, agree, reason });
  const done = await reasonDialog({
    title: () => t(agree ? "own.agree" : "own.decline"), required: !agree, tone: agree ? "good" : "danger", label: () => t(agree ? "own.agree" : "own.decline"),
    text: () => html`<p>${t(agree ? "own.agree_text" : "own.decline_text", { from, to })}</p>`, send,
  });
  if (done) toast(t("done.sent"), "good");
}

/** @param {Record<string, any>} row @param {boolean} granted */
const answerAsk = (row, granted) =>
  reasonDialog({
    title: () => t(granted ? "own.grant" : "own.refuse"), required: !granted, tone: granted ? "good" : "danger", label: () => t(granted ? "own.grant" : "own.refuse"),
    text: () => html`<p class="prose">${row.text}</p>${granted ? html`<p class="note-line">${t("own.grant_text")}</p>` : nothing}`,
    send: (reason) => post(`/asks/${row.id}/answer`, { granted, reason }),
  });

/** A late order is made one's own. @param {Record<string, any>} order */
export const adopt = async (order) => {
  const sure = await confirmDialog({ title: () => t("own.adopt"), text: () => html`<p>${t("own.adopt_text", { from: nodeName(order.origin) })}</p><p class="prose muted">${order.task}</p>`, label: () => t("own.adopt"), tone: "good" });
  if (sure) await attempt(() => post(`/orders/${order.id}/adopt`, { version: order.version }), () => t("own.adopted"));
};

/** A late order is called off. @param {Record<string, any>} order */
export const recall = (order) =>
  reasonDialog({
    title: () => t("own.recall"), tone: "danger", label: () => t("own.recall"),
    text: () => html`<p>${t("own.recall_text")}</p><p class="prose muted">${order.task}</p>`,
    send: (reason) => post(`/orders/${order.id}/recall`, { version: order.version, reason }),
  });

class Ownership extends Part {
  static follows = ["node", "presence", "transfer", "term", "late", "ask", "timeline", "order", "organisation"];
  static properties = { incident: { attribute: false }, taking: { state: true } };
  constructor() {
    super();
    /** @type {Record<string, any>} */
    this.incident = {};
    /** The nodes that take part, as read. @type {string[]} */
    this.taking = [];
    this._asked = "";
  }

  /** @param {string} table @returns {any[]} */
  rows(table) {
    return live.rows(table).filter((row) => row.incident === this.incident.id);
  }

  /** Asked again when something happened that may widen the circle. */
  updated() {
    const widening = live.rows("timeline").filter((item) => item.subject === `incident/${this.incident.id}` && /^(ownership\.|incident\.(invited|level_set|reported)|order\.issued)/.test(item.kind)).length;
    const key = `${this.incident.id} ${this.incident.owner} ${widening} ${live.rows("node").length}`;
    if (key === this._asked || !this.incident.id) return;
    this._asked = key;
    get(`/incidents/${this.incident.id}/nodes`).then((found) => (this.taking = found.nodes), () => {}); // the next change asks again
  }

  render() {
    const row = this.incident;
    const mine = owned(row);
    const alone = live.rows("node").length < 2;
    if (alone && !this.rows("term").length) return nothing;
    return html`<section class="panel ownership" data-owner=${row.owner}>
      <header><h2>${t("own.title")}</h2><span class="badge ${mine ? "good" : "warn"}" id="owner-here">${t(mine ? "own.mine" : "own.theirs")}</span></header>
      <div class="body stack">
        <div class="owner-line"><wa-icon name=${nodeIcon(row.owner)}></wa-icon><b>${nodeName(row.owner)}</b>${mine ? nothing : this.link(row.owner)}</div>
        ${mine ? nothing : html`<p class="small muted">${t("own.theirs_text", { owner: nodeName(row.owner) })}</p>`}
        ${row.contested ? html`<p class="error-line" id="contested"><wa-icon name="exclamation-diamond"></wa-icon> ${t("own.contested")}</p>` : nothing}
        ${this.transfers()} ${this.asks()} ${this.lates()}
        <div><div class="label">${t("own.nodes")}</div><div class="row wrap chips" id="participants">${[...this.taking].sort((a, b) => (above(a, b) ? -1 : above(b, a) ? 1 : 0)).map(nodeChip)}</div></div>
        ${this.terms()} ${this.actions(mine)}
      </div>
    </section>`;
  }

  /** @param {string} id */
  link(id) {
    const state = standing(id);
    const tone = { linked: "good", cut: "bad", revoked: "bad" }[/** @type {string} */ (state)] ?? "";
    return html`<span class="badge ${tone}">${t(`tree.${state}`)}</span>`;
  }

  /** @param {boolean} mine */
  actions(mine) {
    const row = this.incident;
    if (!row.open) return nothing;
    const pass = may("incident.transfer", row);
    const busy = this.rows("transfer").some((one) => PENDING.includes(one.state) && one.claim === row.claim && one.to === here());
    return html`<div class="row wrap no-print own-actions">
      ${mine && pass ? html`<button class="small" id="offer" @click=${() => void offer(row)}><wa-icon name="arrow-left-right"></wa-icon>${t("own.offer")}</button>` : nothing}
      ${!mine && may("incident.note", row) ? html`<button class="small" id="ask" @click=${() => void ask(row)}><wa-icon name="person-raised-hand"></wa-icon>${t("own.ask")}</button>` : nothing}
      ${!mine && pass && !busy ? html`<button class="small" id="request" @click=${() => void requestIt(row)}><wa-icon name="arrow-down-left"></wa-icon>${t("own.request")}</button>` : nothing}
      ${mine && pass && others().some((one) => !this.taking.includes(one.id)) ? html`<button class="small" id="share" @click=${() => void invite(row, this.taking)}><wa-icon name="people"></wa-icon>${t("own.invite")}</button>` : nothing}
      ${!mine && may("incident.seize", row) && above(here(), row.owner) ? html`<button class="small danger" id="seize" @click=${() => void seize(row)}><wa-icon name="shield-exclamation"></wa-icon>${t("own.seize")}</button>` : nothing}
    </div>`;
  }

  transfers() {
    const rows = this.rows("transfer").filter((one) => (PENDING.includes(one.state) && one.claim === this.incident.claim) || one.state === "declined").sort((a, b) => b.asked_at - a.asked_at);
    return rows.map((one) => {
      const asked = one.state === "offered" ? one.to : one.state === "requested" ? one.owner : "";
      const answer = asked === here() && may("incident.transfer", this.incident);
      return html`<div class="own-item ${asked === here() ? "urgent" : ""}" data-transfer=${one.id}>
        <div><b>${t(`own.transfer.${one.state === "declined" ? "declined" : one.state}`, { from: nodeName(one.owner), to: nodeName(one.to) })}</b> <span class="badge">${t(`own.way.${one.direction}`)}</span></div>
        ${one.reason ? html`<div class="prose small">${one.reason}</div>` : nothing}${one.answer ? html`<div class="prose small muted">${t("own.answer")}${colon()}${one.answer}</div>` : nothing}
        <div class="row wrap spread small muted"><time title=${fullTime(one.asked_at)}>${shortTime(one.asked_at)}</time>
          ${answer ? html`<span class="row"><button class="small good" data-act="agree" @click=${() => void answerTransfer(one, true)}>${t("own.agree")}</button><button class="small danger" data-act="decline" @click=${() => void answerTransfer(one, false)}>${t("own.decline")}</button></span>` : asked ? html`<span>${t("own.waits", { node: nodeName(asked) })}</span>` : nothing}</div>
      </div>`;
    });
  }

  asks() {
    const rows = this.rows("ask").sort((a, b) => Number(b.open) - Number(a.open) || b.asked_at - a.asked_at);
    if (!rows.length) return nothing;
    const answer = owned(this.incident) && may("incident.edit", this.incident);
    return rows.slice(0, 5).map((one) => html`<div class="own-item ${one.open && answer ? "urgent" : ""}" data-ask=${one.id}>
      <div class="row spread"><b>${t("own.asks", { node: nodeName(one.node), what: tOr(`own.what.${one.what}`, one.what) })}</b>${one.open ? html`<span class="badge warn">${t("own.ask_open")}</span>` : html`<span class="badge ${one.granted ? "good" : "bad"}">${t(one.granted ? "own.granted" : "own.refused")}</span>`}</div>
      <div class="prose small">${one.text}</div>${one.answer ? html`<div class="prose small muted">${t("own.answer")}${colon()}${one.answer}</div>` : nothing}
      ${one.open && answer ? html`<div class="row wrap"><button class="small good" data-act="grant" @click=${() => void answerAsk(one, true)}>${t("own.grant")}</button><button class="small danger" data-act="refuse" @click=${() => void answerAsk(one, false)}>${t("own.refuse")}</button></div>` : nothing}
    </div>`);
  }

  /** What has no effect: decided under a claim that lost or had ended, or by a revoked node. */
  lates() {
    const rows = this.rows("late").filter((one) => !CLAIMS.includes(one.kind)).sort((a, b) => b.at - a.at);
    if (!rows.length) return nothing;
    const items = new Map(live.rows("timeline").map((item) => [item.id, item]));
    return html`<details class="own-late"><summary class="warn"><wa-icon name="hourglass-bottom"></wa-icon> ${t("own.late", { n: rows.length })}</summary>
      <p class="small muted">${t("own.late_text")}</p>
      <ul class="plain-list">${rows.map((one) => html`<li><div class="row wrap spread small"><b>${items.has(one.id) ? words(items.get(one.id)).title : tOr(`own.kind.${one.kind}`, one.kind)}</b><span class="badge warn">${t(`own.verdict.${one.verdict}`)}</span></div>
        <div class="small muted">${nodeName(one.origin)} · <time title=${fullTime(one.at)}>${shortTime(one.at)}</time></div></li>`)}</ul></details>`;
  }

  terms() {
    const rows = this.rows("term").sort((a, b) => a.at - b.at);
    const first = live.rows("timeline").find((item) => item.subject === `incident/${this.incident.id}` && item.kind === "incident.reported");
    if (!rows.length) return nothing;
    const begun = first ? html`<li><div><b>${nodeName(first.origin)}</b> · ${t("own.term.reported")}</div><div class="small muted"><time title=${fullTime(first.at)}>${shortTime(first.at)}</time></div></li>` : nothing;
    return html`<details class="own-terms" open><summary>${t("own.terms", { n: rows.length + 1 })}</summary><ol class="plain-list">${begun}${rows.map((one) => html`<li data-term=${one.id} class=${one.standing ? "" : "lost"}>
      <div class="row wrap spread"><span><b>${nodeName(one.owner)}</b> · ${one.kind === "ownership.seized" ? t("own.term.seized") : t("own.term.transferred", { from: nodeName(one.issuer) })}${one.direction ? html` <span class="badge">${t(`own.way.${one.direction}`)}</span>` : nothing}</span>
        ${one.id === this.incident.claim ? html`<span class="badge good">${t("own.now")}</span>` : one.standing ? nothing : html`<span class="badge bad">${t("own.lost")}</span>`}</div>
      ${one.reason ? html`<div class="prose small">${one.reason}</div>` : nothing}<div class="small muted"><time title=${fullTime(one.at)}>${shortTime(one.at)}</time></div></li>`)}</ol></details>`;
  }
}
customElements.define("fh-incident-ownership", Ownership);

