// @ts-check
// The orders of an incident: give, follow, amend, cancel; and answer those that bind this person.

import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { post } from "../api.js";
import { now } from "../clock.js";
import { LADDER_DEFAULT, MEANS, orderState, URGENCIES } from "../domain.js";
import { fromInput, inputTime, organisationName, personName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { sendEdit } from "../parts/conflict.js";
import { formDialog, reasonDialog } from "../parts/dialog.js";
import { decides, heldAbove, here, nodeName, owned, superior } from "../parts/nodes.js";
import { Part } from "../parts/part.js";
import { empty } from "../parts/small.js";
import { attempt, toast } from "../parts/toast.js";
import { byUrgency, orderCard, unanswered } from "../picture/orders.js";
import { may } from "../session.js";
import { adopt, recall } from "./ownership.js";

const ACK_MINUTES = 10;
const RUNGS_MAX = 10;
const KINDS = ["unit", "person", "organisation"];

/** Who could get it, grouped by organisation. @param {string} kind @param {string} chosen */
function assignees(kind, chosen) {
  if (kind === "organisation")
    return live.rows("organisation").filter((row) => !row.retired).map((row) => html`<option value=${row.id} ?selected=${row.id === chosen}>${organisationName(row.id)}</option>`);
  /** @type {Map<string, any[]>} */
  const groups = new Map();
  for (const row of live.rows(kind)) if (!row.retired && !row.off_duty) groups.set(row.organisation, [...(groups.get(row.organisation) ?? []), row]);
  const extra = (/** @type {any} */ row) => (kind === "unit" ? ` · ${t(`unit.status.${row.status}`)}${row.orders.length ? ` (${row.orders.length})` : ""}` : row.title ? ` · ${row.title}` : "");
  return [...groups].map(([organisation, rows]) => html`<optgroup label=${organisationName(organisation)}>${rows.map((row) => html`<option value=${row.id} ?selected=${row.id === chosen}>${kind === "person" ? personName(row.id) : row.name}${extra(row)}</option>`)}</optgroup>`);
}

/** @param {{after_s: number, means: string}[]} ladder @param {() => void} redraw */
const ladderFields = (ladder, redraw) => html`<details class="ladder"><summary>${t("order.ladder", { n: ladder.length })}</summary>
  <p class="small muted">${t("order.ladder_text")}</p>
  ${ladder.map((rung, i) => html`<div class="row">
    <label class="row small nowrap">${t("order.rung_after")}<input type="number" min="0" max="43200" .value=${String(Math.round(rung.after_s / 60))} @change=${(/** @type {any} */ event) => (rung.after_s = Number(event.target.value) * 60)} />${t("order.minutes")}</label>
    <select aria-label=${t("order.means")} @change=${(/** @type {any} */ event) => (rung.means = event.target.value)}>${MEANS.map((means) => html`<option value=${means} ?selected=${means === rung.means}>${t(`means.${means}`)}</option>`)}</select>
    <button type="button" class="plain icon small" aria-label=${t("act.remove")} @click=${() => { ladder.splice(i, 1); redraw(); }}><wa-icon name="x-lg"></wa-icon></button>
  </div>`)}
  ${ladder.length < RUNGS_MAX ? html`<button type="button" class="small" @click=${() => { ladder.push({ after_s: (ladder.at(-1)?.after_s ?? 0) + 300, means: "sms" }); redraw(); }}>${t("order.rung_add")}</button>` : nothing}
</details>`;

/** @param {Record<string, any>} incident @param {{kind: string, id: string}} [to] */
export async function giveOrder(incident, to) {
  let kind = to?.kind ?? "unit";
  const ladder = LADDER_DEFAULT.map((rung) => ({ ...rung }));
  const done = await formDialog({
    title: () => t("order.new"),
    name: "order",
    label: () => t("order.issue"),
    fields: (dialog) => html`<div class="form">
      <div class="field"><span class="label">${t("order.assignee")}</span>
        <div class="row"><div class="seg" role="group" aria-label=${t("order.assignee")}>${KINDS.map((one) => html`<button type="button" aria-pressed=${kind === one} @click=${() => { kind = one; dialog.redraw(); }}>${t(`party.${one}`)}</button>`)}</div>
          <select name="assignee" class="grow" required aria-label=${t("order.assignee")}><option value="">${t("report.choose")}</option>${assignees(kind, to?.id ?? "")}</select></div></div>
      <label class="field"><span class="label required">${t("label.task")}</span><textarea name="task" maxlength="4000" required autofocus></textarea></label>
      <label class="field third"><span class="label">${t("order.urgency")}</span><select name="urgency">${URGENCIES.map((code) => html`<option value=${code} ?selected=${code === "emergency"}>${t(`urgency.${code}`)}</option>`)}</select></label>
      <label class="field third"><span class="label">${t("order.ack_minutes")}</span><input name="ack" type="number" min="1" max="43200" value=${ACK_MINUTES} /></label>
      <label class="field third"><span class="label">${t("order.due_minutes")}</span><input name="due" type="number" min="1" max="43200" placeholder=${t("word.optional")} /></label>
      ${ladderFields(ladder, dialog.redraw)}
      ${incident.exercise ? html`<p class="note-line">${t("word.exercise_hint")}</p>` : nothing}
    </div>`,
    send: (data) => {
      const seconds = (/** @type {string} */ name) => (data.get(name) ? Number(data.get(name)) * 60 : null);
      return post("/orders", {
        incident: incident.id, assignee: { kind, id: data.get("assignee") }, task: String(data.get("task")).trim(), urgency: data.get("urgency"),
        ack_within_s: seconds("ack"), due_in_s: seconds("due"), ladder: [...ladder].sort((a, b) => a.after_s - b.after_s),
      });
    },
  });
  if (done) toast(t("order.issued"), "good");
}

/** @param {Record<string, any>} order */
async function amend(order) {
  const due = order.due_at === null ? "" : inputTime(order.due_at);
  const done = await formDialog({
    title: () => t("order.amend"),
    name: "amend-order",
    fields: () => html`<div class="form">
      <label class="field"><span class="label required">${t("label.task")}</span><textarea name="task" maxlength="4000" required .value=${order.task}></textarea></label>
      <label class="field half"><span class="label">${t("label.due_at")}</span><input name="due" type="datetime-local" min=${inputTime(now())} .value=${due} /></label>
    </div>`,
    send: async (data) => {
      /** @type {Record<string, any>} */
      const changes = {};
      if (data.get("task") !== order.task) changes.task = String(data.get("task")).trim();
      if (data.get("due") !== due) changes.due_at = fromInput(String(data.get("due")));
      return Object.keys(changes).length ? sendEdit("PATCH", `/orders/${order.id}`, { version: order.version, ...changes }) : true;
    },
  });
  if (done && done !== true) toast(t("done.saved"), "good");
}

/** @param {Record<string, any>} order */
const cancel = (order) =>
  reasonDialog({
    title: () => t("order.cancel"), text: () => html`<p class="prose">${order.task}</p>`, label: () => t("order.cancel"), tone: "danger",
    send: (reason) => sendEdit("POST", `/orders/${order.id}/cancel`, { version: order.version, reason }),
  });

/** @param {Record<string, any>} order @param {string} step */
async function progress(order, step) {
  const send = (/** @type {string} */ text) => post(`/orders/${order.id}/progress`, { step, text });
  if (step === "accepted") return void attempt(() => send(""));
  await reasonDialog({
    title: () => t(`order.do.${step}`), text: () => html`<p class="prose muted">${order.task}</p>`, label: () => t(`order.do.${step}`),
    tone: step === "declined" ? "danger" : "primary", required: step !== "done", send,
  });
}

/** What the next rung of the ladder will do, and when. @param {Record<string, any>} order */
function nextRung(order) {
  const rung = order.ladder[order.rung];
  if (!rung || !unanswered(order)) return nothing;
  return html`<div class="small muted"><wa-icon name="ladder"></wa-icon> ${t("order.next_rung", { means: t(`means.${rung.means}`) })} <fh-countdown .due=${order.issued_at + rung.after_s * 1e6}></fh-countdown></div>`;
}

/** An order that was given without being the owner, and that nobody has adopted or recalled. @param {Record<string, any>} order */
const lateStanding = (order) => order.standing === "late" && order.owner === "issued";

const FAR = ["delivered", "read", "accepted", "reported", "done"];

/** The way of an order from node to node: durable, held by the superior, delivered, read, answered. @param {Record<string, any>} order */
function path(order) {
  const from = order.origin || here();
  if (!order.node || order.node === from) return nothing;
  const held = from === here() ? heldAbove(live.row("timeline", order.entry)) : null;
  const at = FAR.indexOf(order.progress);
  /** @type {[string, boolean][]} */
  const steps = [
    [t("order.path.durable", { node: nodeName(from) }), true],
    ...(held === null ? [] : [/** @type {[string, boolean]} */ ([t("order.path.held", { node: nodeName(superior()) }), held])]),
    [t("order.path.delivered", { node: nodeName(order.node) }), at >= 0 || order.progress === "declined" || order.node === here()],
    [t("order.path.read"), at >= 1 || order.progress === "declined"],
    order.progress === "declined" ? [t("order.path.declined"), true] : [t("order.path.accepted"), at >= 2],
  ];
  return html`<ol class="way small" aria-label=${t("order.path")}>${steps.map(([words, done]) => html`<li class=${done ? "yes" : ""}><span aria-hidden="true">${done ? "✓" : "○"}</span> ${words}</li>`)}</ol>`;
}

class Orders extends Part {
  static follows = ["order", "unit", "person", "organisation", "tick", "timeline", "node"];
  static properties = { incident: { attribute: false }, all: { state: true } };
  constructor() {
    super();
    /** @type {Record<string, any>} */
    this.incident = {};
    this.all = false;
  }

  render() {
    const orders = live.rows("order").filter((order) => order.incident === this.incident.id);
    const open = orders.filter((order) => order.open && !lateStanding(order)).sort(byUrgency);
    const ended = orders.filter((order) => !order.open && !lateStanding(order)).sort((a, b) => b.issued_at - a.issued_at);
    return html`<section class="panel">
      <header><h2>${t("picture.orders")} <span class="count">${open.length}</span></h2>
        ${decides("order.issue", this.incident) && this.incident.open ? html`<button class="primary small" id="give-order" @click=${() => void giveOrder(this.incident)}><wa-icon name="plus-lg"></wa-icon>${t("order.new")}</button>` : nothing}
      </header>
      <ul class="cards flat">${open.length ? repeat(open, (order) => order.id, (order) => orderCard(order, html`${this.marks(order)}${path(order)}${nextRung(order)}${this.actions(order)}`)) : empty("flag", t("picture.no_orders"))}
        ${ended.length ? html`<li><button class="small plain" aria-expanded=${this.all} @click=${() => (this.all = !this.all)}>${t("order.ended", { n: ended.length })}</button></li>` : nothing}
        ${this.all ? repeat(ended, (order) => order.id, (order) => orderCard(order, html`${this.marks(order)}${path(order)}`)) : nothing}
      </ul>
    </section>`;
  }

  /** @param {Record<string, any>} order */
  marks(order) {
    return html`${["adopted", "recalled"].includes(order.standing) ? html`<div><span class="badge ${order.standing === "adopted" ? "good" : "bad"}">${t(`order.${order.standing}`)}</span></div>` : nothing}
      ${order.conflict ? html`<div class="error-line small" data-conflict=${order.id}><b>${t("order.conflict")}</b> ${t("order.conflict_text")}</div>` : nothing}`;
  }

  /** @param {Record<string, any>} order */
  actions(order) {
    const mine = may("order.progress", { parties: order.parties });
    const edit = owned(this.incident) && may("order.edit", { organisation: order.organisation, parties: order.parties });
    const steps = !mine ? [] : unanswered(order) ? ["accepted", "declined"] : ["accepted", "reported"].includes(orderState(order)) ? ["reported", "done"] : [];
    if (!steps.length && !edit) return nothing;
    return html`<div class="row wrap no-print">
      ${steps.map((step) => html`<button class="small ${step === "accepted" || step === "done" ? "good" : step === "declined" ? "danger" : ""}" @click=${() => void progress(order, step)}>${t(`order.do.${step}`)}</button>`)}
      ${edit ? html`<button class="small plain" @click=${() => void amend(order)}>${t("order.amend")}</button><button class="small plain" @click=${() => void cancel(order)}>${t("order.cancel")}</button>` : nothing}
    </div>`;
  }
}
customElements.define("fh-incident-orders", Orders);

/** Orders that were given too late: above all others while somebody is at work on one and nobody has decided. */
class LateOrders extends Part {
  static follows = ["order", "incident", "unit", "person", "organisation", "tick", "timeline", "node"];
  static properties = { incident: { attribute: false } };
  constructor() {
    super();
    /** @type {Record<string, any>} */
    this.incident = {};
  }

  render() {
    const late = live.rows("order").filter((order) => order.incident === this.incident.id && lateStanding(order)).sort(byUrgency);
    if (!late.length) return nothing;
    return html`<section class="panel"><header><h2>${t("order.late_orders")} <span class="count ${late.some((order) => order.decide_by !== null) ? "hot" : ""}">${late.length}</span></h2></header>
      <ul class="cards flat">${repeat(late, (order) => order.id, (order) => orderCard(order, html`${this.lateness(order)}${path(order)}`))}</ul></section>`;
  }

  /** An order that lost its owner: what it counts for, and who decides until when. @param {Record<string, any>} order */
  lateness(order) {
    const waiting = order.decide_by !== null;
    if (!waiting) return html`<div class="small warn"><wa-icon name="hourglass-bottom"></wa-icon> ${t("order.late_standing")}</div>`;
    const mine = owned(this.incident) && may("order.edit", { organisation: order.organisation, parties: order.parties });
    return html`<div class="own-item urgent" data-late=${order.id}>
      <div class="small"><b>${mine || owned(this.incident) ? t("order.late_accepted") : t("order.late_elsewhere", { owner: nodeName(this.incident.owner) })}</b></div>
      <div class="row wrap spread small"><fh-countdown .due=${order.decide_by} .label=${t("order.decide_by")}></fh-countdown>
        ${mine ? html`<span class="row"><button class="small good" data-act="adopt" @click=${() => void adopt(order)}>${t("own.adopt")}</button><button class="small danger" data-act="recall" @click=${() => void recall(order)}>${t("own.recall")}</button></span>` : nothing}</div></div>`;
  }
}
customElements.define("fh-late-orders", LateOrders);
