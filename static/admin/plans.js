// @ts-check
// Plans: what an emergency of this kind sets in motion. The list, and the editor of one.
//
// Decides nothing. Invariant: a save names the version it replaces; a stale one shows both.

import { html, nothing } from "lit";
import { CATEGORIES, LADDER_DEFAULT, LEVELS, MEANS, RULES, URGENCIES } from "../domain.js";
import { organisationName, partyName, personName, unitName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { formDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import { empty, levelBadge } from "../parts/small.js";
import { may, who } from "../session.js";
import "../notices/recipients.js";
import { isNobody, NOBODY } from "../notices/recipients.js";
import { addButton, editButton, field, head, organisationOptions, retiredBadge, retiredBox, retiredSwitch, saveWhole, text } from "./forms.js";

const APPROVERS = ["leader", "duty_officer"];
const ORDERS_MAX = 50;
const LADDER_MAX = 10;

class Plans extends Part {
  static follows = ["plan", "unit", "person", "organisation", "group"];
  static properties = { retired: { state: true } };
  constructor() {
    super();
    this.retired = false;
  }

  render() {
    const rows = live.rows("plan").filter((row) => this.retired || !row.retired);
    return html`${head("plans", html`${retiredSwitch(/** @type {any} */ (this))}${may("plan.edit") ? addButton(() => editPlan(null)) : nothing}`)}
      ${rows.length === 0 ? empty("journal", t("word.nothing")) : html`<div class="cards">${rows.map((row) => this.card(row))}</div>`}`;
  }

  /** @param {any} row */
  card(row) {
    return html`<article class="panel" data-plan=${row.id}><header><h2>${row.name} ${retiredBadge(row)}</h2><span class="muted small">${t("word.version", { n: row.version })}</span>${may("plan.edit", { organisation: row.organisation }) ? editButton(() => editPlan(row)) : nothing}</header>
      <div class="body stack small"><div class="row wrap">${row.levels.map(levelBadge)} ${row.categories.map((/** @type {string} */ name) => html`<span class="badge">${t(`category.${name}`)}</span>`)}</div>
        <div>${organisationName(row.organisation)} · ${t("planedit.approver")}: ${t(`role.${row.approver}`)}</div>
        <ol class="plan-orders">${row.orders.map((/** @type {any} */ order) => html`<li><b>${partyName(order.assignee)}</b> ${order.task}</li>`)}</ol>
        <div class="row wrap muted">${row.room ? html`<span><wa-icon name="camera-video"></wa-icon> ${row.room.title}</span>` : nothing}${row.fence ? html`<span><wa-icon name="bounding-box"></wa-icon> ${row.fence.name} · ${row.fence.radius_m} m</span>` : nothing}${row.notice ? html`<span><wa-icon name="megaphone"></wa-icon> ${t("planedit.notice")}</span>` : nothing}</div></div></article>`;
  }
}
customElements.define("fh-admin-plans", Plans);

/** @param {any} order */
const withDefaults = (order) => ({ assignee: order?.assignee ?? { kind: "unit", id: "" }, task: order?.task ?? "", urgency: order?.urgency ?? "emergency", ack_within_s: order ? order.ack_within_s : 600, due_in_s: order?.due_in_s ?? null, ladder: order?.ladder ?? null });

/** @param {any} row */
export function editPlan(row) {
  const draft = {
    orders: (row?.orders ?? []).map(withDefaults),
    notice: row?.notice ? { ...row.notice } : null,
    room: row?.room ? { ...row.room } : null,
    fence: row?.fence ? { ...row.fence } : null,
  };
  return formDialog({
    title: () => row?.name ?? t("admin.add.plans"),
    size: "wide",
    name: "plan",
    label: () => t("act.save"),
    fields: (dialog) => planFields(row, draft, dialog.redraw),
    send: async (data) => {
      const values = {
        name: text(data, "name"), organisation: text(data, "organisation"), approver: text(data, "approver"), categories: data.getAll("categories").map(String), levels: data.getAll("levels").map(String),
        orders: draft.orders, notice: draft.notice, room: draft.room, fence: draft.fence, retired: data.has("retired"),
      };
      const body = row ? { id: row.id, version: row.version, ...values } : values;
      return (await saveWhole("POST", "/plans", body, true)) ?? true;
    },
  });
}

/** @param {any} row @param {any} draft @param {() => void} redraw */
function planFields(row, draft, redraw) {
  const boxes = (/** @type {string} */ name, /** @type {string[]} */ codes, /** @type {(code: string) => string} */ words) => html`<fieldset class="half"><legend>${t(`label.${name === "levels" ? "level" : "category"}`)}</legend><div class="checks">${codes.map((code) => html`<label class="check"><input type="checkbox" name=${name} value=${code} ?checked=${(row?.[name] ?? []).includes(code)} />${words(code)}</label>`)}</div></fieldset>`;
  return html`<div class="form">
    ${field(t("label.name"), html`<input name="name" required maxlength="100" .value=${row?.name ?? ""} autofocus />`, { wide: "third", required: true })}
    ${field(t("label.organisation"), html`<select name="organisation" required>${organisationOptions(row?.organisation ?? who()?.organisation?.id, "plan.edit")}</select>`, { wide: "third", required: true })}
    ${field(t("planedit.approver"), html`<select name="approver">${APPROVERS.map((role) => html`<option value=${role} ?selected=${role === (row?.approver ?? "leader")}>${t(`role.${role}`)}</option>`)}</select>`, { wide: "third" })}
    ${boxes("categories", CATEGORIES, (code) => t(`category.${code}`))}${boxes("levels", LEVELS, (code) => `${code} ${t(`level.${code}`)}`)}
    <fieldset><legend>${t("planedit.orders")} · ${draft.orders.length}</legend><div class="stack">
      ${draft.orders.map((/** @type {any} */ order, /** @type {number} */ n) => orderFields(order, n, draft, redraw))}
      <div><button type="button" data-act="add-order" ?disabled=${draft.orders.length >= ORDERS_MAX} @click=${() => { draft.orders.push(withDefaults(null)); redraw(); }}><wa-icon name="plus-lg"></wa-icon>${t("planedit.add_order")}</button></div></div></fieldset>
    ${part("room", draft, redraw, () => ({ title: t("planedit.room_default") }), () => field(t("planedit.room_title"), input(draft.room, "title", { required: true, maxlength: 100 }), { wide: "" }))}
    ${part("fence", draft, redraw, () => ({ name: t("planedit.fence_default"), radius_m: 1000, rules: ["enter", "exit", "inside"] }), () => fenceFields(draft.fence, redraw))}
    ${part("notice", draft, redraw, () => ({ text_zh: "", text_en: "", recipients: { ...NOBODY }, urgency: "emergency" }), () => noticeFields(draft.notice, redraw))}
    ${retiredBox(row)}</div>`;
}

/** A part of the plan that may be left out. @param {"room" | "fence" | "notice"} name @param {any} draft @param {() => void} redraw @param {() => any} fresh @param {() => unknown} body */
const part = (name, draft, redraw, fresh, body) => html`<fieldset class=${name === "notice" ? "" : "half"}><legend><label class="check"><input type="checkbox" data-part=${name} .checked=${draft[name] !== null} @change=${(/** @type {any} */ event) => { draft[name] = event.target.checked ? fresh() : null; redraw(); }} />${t(`planedit.${name}`)}</label></legend>${draft[name] ? html`<div class="form">${body()}</div>` : html`<p class="faint small">${t("planedit.left_out")}</p>`}</fieldset>`;

/** An input bound to a field of an object. @param {any} thing @param {string} name @param {{required?: boolean, maxlength?: number, type?: string, min?: number, max?: number, scale?: number}} [options] */
const input = (thing, name, { required = false, maxlength = 200, type = "text", min, max, scale = 1 } = {}) =>
  html`<input type=${type} ?required=${required} maxlength=${maxlength} min=${min ?? nothing} max=${max ?? nothing} step="any" .value=${thing[name] === null || thing[name] === undefined ? "" : String(type === "number" ? thing[name] / scale : thing[name])}
    @input=${(/** @type {any} */ event) => (thing[name] = type === "number" ? (event.target.value === "" ? null : Math.round(Number(event.target.value) * scale)) : event.target.value)} />`;

/** @param {any} order @param {number} n @param {any} draft @param {() => void} redraw */
function orderFields(order, n, draft, redraw) {
  const candidates = {
    unit: () => live.rows("unit").filter((row) => !row.retired).map((row) => ({ id: row.id, name: unitName(row.id) })),
    person: () => live.rows("person").filter((row) => !row.retired).map((row) => ({ id: row.id, name: `${personName(row.id)} · ${organisationName(row.organisation)}` })),
    organisation: () => live.rows("organisation").filter((row) => !row.retired).map((row) => ({ id: row.id, name: organisationName(row.id) })),
  };
  const found = candidates[/** @type {"unit" | "person" | "organisation"} */ (order.assignee.kind)]();
  const move = (/** @type {number} */ by) => {
    const [taken] = draft.orders.splice(n, 1);
    draft.orders.splice(n + by, 0, taken);
    redraw();
  };
  return html`<div class="plan-order" data-order=${n}><div class="row spread"><b>${n + 1}</b><span class="grow"></span>
      <button type="button" class="plain icon small" aria-label=${t("planedit.up")} ?disabled=${n === 0} @click=${() => move(-1)}><wa-icon name="arrow-up"></wa-icon></button><button type="button" class="plain icon small" aria-label=${t("planedit.down")} ?disabled=${n === draft.orders.length - 1} @click=${() => move(1)}><wa-icon name="arrow-down"></wa-icon></button>
      <button type="button" class="plain icon small" aria-label=${t("act.remove")} @click=${() => { draft.orders.splice(n, 1); redraw(); }}><wa-icon name="trash"></wa-icon></button></div>
    <div class="form">
      ${field(t("planedit.to_kind"), html`<select data-field="kind" @change=${(/** @type {any} */ event) => { order.assignee = { kind: event.target.value, id: "" }; redraw(); }}>${["unit", "person", "organisation"].map((kind) => html`<option value=${kind} ?selected=${kind === order.assignee.kind}>${t(`party.${kind}`)}</option>`)}</select>`, { wide: "quarter" })}
      ${field(t("planedit.to"), html`<select data-field="assignee" required @change=${(/** @type {any} */ event) => (order.assignee = { ...order.assignee, id: event.target.value })}><option value=""></option>${found.map((one) => html`<option value=${one.id} ?selected=${one.id === order.assignee.id}>${one.name}</option>`)}</select>`, { required: true })}
      ${field(t("notice.urgency"), html`<select @change=${(/** @type {any} */ event) => (order.urgency = event.target.value)}>${URGENCIES.map((code) => html`<option value=${code} ?selected=${code === order.urgency}>${t(`urgency.${code}`)}</option>`)}</select>`, { wide: "quarter" })}
      ${field(t("label.task"), html`<textarea data-field="task" rows="2" required maxlength="4000" .value=${order.task} @input=${(/** @type {any} */ event) => (order.task = event.target.value)}></textarea>`, { required: true })}
      ${field(t("planedit.ack"), input(order, "ack_within_s", { type: "number", min: 0, max: 43200, scale: 60 }), { wide: "quarter" })}${field(t("planedit.due"), input(order, "due_in_s", { type: "number", min: 0, max: 43200, scale: 60 }), { wide: "quarter" })}
      ${ladderFields(order, redraw)}</div></div>`;
}

/** @param {any} order @param {() => void} redraw */
function ladderFields(order, redraw) {
  const rungs = order.ladder;
  return html`<details class="ladder" ?open=${rungs !== null}><summary>${t("planedit.ladder")}: ${(rungs ?? LADDER_DEFAULT).map((/** @type {any} */ rung) => `${t(`means.${rung.means}`)} ${rung.after_s / 60}′`).join(" → ")}${rungs === null ? html` <span class="faint">(${t("planedit.ladder_default")})</span>` : nothing}</summary>
    ${rungs === null ? html`<button type="button" class="small" @click=${() => { order.ladder = LADDER_DEFAULT.map((rung) => ({ ...rung })); redraw(); }}>${t("act.edit")}</button>` : html`<div class="stack">
      ${rungs.map((/** @type {any} */ rung, /** @type {number} */ n) => html`<div class="row"><span class="muted small">${t("planedit.after")}</span><div class="minutes">${input(rung, "after_s", { type: "number", min: 0, max: 43200, scale: 60, required: true })}</div><span class="muted small">${t("planedit.minutes")}</span>
        <select aria-label=${t("planedit.means")} @change=${(/** @type {any} */ event) => { rung.means = event.target.value; redraw(); }}>${MEANS.map((means) => html`<option value=${means} ?selected=${means === rung.means}>${t(`means.${means}`)}</option>`)}</select>
        <button type="button" class="plain icon small" aria-label=${t("act.remove")} @click=${() => { rungs.splice(n, 1); redraw(); }}><wa-icon name="trash"></wa-icon></button></div>`)}
      <div class="row"><button type="button" class="small" ?disabled=${rungs.length >= LADDER_MAX} @click=${() => { rungs.push({ after_s: (rungs.at(-1)?.after_s ?? 0) + 300, means: "sms" }); redraw(); }}>${t("act.add")}</button><button type="button" class="small plain" @click=${() => { order.ladder = null; redraw(); }}>${t("planedit.ladder_reset")}</button></div></div>`}</details>`;
}

/** @param {any} fence @param {() => void} redraw */
const fenceFields = (fence, redraw) => html`${field(t("label.name"), input(fence, "name", { required: true, maxlength: 100 }))}${field(t("planedit.radius"), input(fence, "radius_m", { type: "number", min: 10, max: 100000, required: true }))}
  <div class="checks">${RULES.filter((rule) => rule !== "absent").map((rule) => html`<label class="check"><input type="checkbox" .checked=${fence.rules.includes(rule)} @change=${(/** @type {any} */ event) => { fence.rules = event.target.checked ? [...fence.rules, rule] : fence.rules.filter((/** @type {string} */ one) => one !== rule); redraw(); }} />${t(`rules.${rule}`)}</label>`)}</div>`;

/** @param {any} notice @param {() => void} redraw */
const noticeFields = (notice, redraw) => html`${field(t("notice.text_zh"), html`<textarea rows="2" required maxlength="4000" .value=${notice.text_zh} @input=${(/** @type {any} */ event) => (notice.text_zh = event.target.value)}></textarea>`, { required: true, hint: t("planedit.notice_hint") })}
  ${field(t("notice.text_en"), html`<textarea rows="2" required maxlength="4000" .value=${notice.text_en} @input=${(/** @type {any} */ event) => (notice.text_en = event.target.value)}></textarea>`, { required: true })}
  <div><span class="label ${isNobody(notice.recipients) ? "required" : ""}">${t("notice.recipients")}</span><fh-recipients .value=${notice.recipients} @change=${(/** @type {CustomEvent} */ event) => { notice.recipients = event.detail; redraw(); }}></fh-recipients></div>`;
