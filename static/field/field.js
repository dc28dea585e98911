// @ts-check
// The page of somebody in the field: their orders, their place, their incidents. For a thumb, and for a bad network.
//
// Decides nothing; every word goes through the outbox. Invariant: what isn't at the server yet is marked as such.

import { html, nothing } from "lit";
import { now } from "../clock.js";
import { orderState } from "../domain.js";
import { duration, coordinates, shortTime } from "../format.js";
import { t, tOr } from "../i18n.js";
import { live } from "../live.js";
import { formDialog, reasonDialog } from "../parts/dialog.js";
import { Part, styleSheet } from "../parts/part.js";
import { busy, empty, exerciseBadge, levelBadge, stateBadge } from "../parts/small.js";
import { attempt, toast } from "../parts/toast.js";
import { isMine, remember } from "./memory.js";
import { outbox } from "./outbox.js";
import { shrink } from "./photo.js";
import { INTERVALS_S, sharing } from "./position.js";
import { lasting } from "./store.js";

styleSheet("/static/field/field.css");

const STEPS = ["delivered", "read", "accepted", "declined", "reported", "done"];
const TEXT_MAX = 4000;
const CLOSED_SHOWN_US = 3600e6;
let begun = false;

/** Start what lives as long as the page, once. */
export function beginField() {
  if (begun) return;
  begun = true;
  remember();
  void outbox.begin();
  void sharing.begin();
}

class FieldPage extends Part {
  static follows = ["order", "incident", "room", "location"];
  static properties = { params: { attribute: false }, query: { attribute: false }, tab: { state: true } };

  constructor() {
    super();
    this.tab = "orders";
    /** Orders whose receipt this page has asked to be sent. @type {Set<string>} */
    this.receipts = new Set();
    /** @type {Set<string> | null} */
    this.known = null;
  }

  topics() {
    return ["picture"];
  }

  connectedCallback() {
    super.connectedCallback();
    beginField();
    const redraw = () => this.requestUpdate();
    this.until(outbox.on(redraw));
    this.until(sharing.listen(redraw));
    const seen = () => this.acknowledge();
    document.addEventListener("visibilitychange", seen);
    this.until(() => document.removeEventListener("visibilitychange", seen));
  }

  updated() {
    this.acknowledge();
  }

  /** Newest first; those that wait for an answer before all others. */
  orders() {
    const waits = (/** @type {any} */ order) => (["issued", "delivered", "read"].includes(orderState(order)) ? 0 : 1);
    return live
      .rows("order")
      .filter((order) => isMine(order) && (order.open || order.owner === "cancelled" || now() - Math.max(order.done_at ?? 0, order.answered_at ?? 0) < CLOSED_SHOWN_US))
      .sort((a, b) => waits(a) - waits(b) || b.issued_at - a.issued_at);
  }

  incidents() {
    const named = new Set(this.orders().map((order) => order.incident));
    return live.rows("incident").filter((row) => row.open && (named.has(row.id) || isMine(row)));
  }

  /** Delivered once it is on this phone, read once it is before somebody's eyes. */
  acknowledge() {
    if (!live.ready("picture")) return;
    const orders = this.orders().filter((order) => order.open);
    const fresh = orders.filter((order) => this.known && !this.known.has(order.id));
    this.known = new Set(orders.map((order) => order.id));
    if (fresh.length) this.call();
    for (const order of orders) {
      const step = document.hidden || this.tab !== "orders" ? "delivered" : "read";
      const reached = STEPS.indexOf(order.progress);
      if (order.owner === "cancelled" || reached >= STEPS.indexOf(step) || this.receipts.has(`${order.id}/${step}`)) continue;
      this.receipts.add(`${order.id}/${step}`);
      void this.progress(order, step, "", true);
    }
  }

  /** A new order: felt and heard, where the browser lets us. */
  call() {
    navigator.vibrate?.([300, 120, 300, 120, 300]);
    toast(t("field.order.new"), "warn");
    if (!document.hidden || !("Notification" in window) || Notification.permission !== "granted") return;
    new Notification(t("field.order.new"), { tag: "fenghuo-order", icon: "/static/beacon.svg" });
  }

  /** @param {any} order @param {string} step @param {string} text @param {boolean} [silent] */
  progress(order, step, text, silent = false) {
    const here = silent ? null : sharing.here();
    const body = { step, ...(text ? { text } : {}), ...(here ? { place: here } : {}) };
    return outbox.add({ kind: step, about: order.id, incident: order.incident, path: `/orders/${order.id}/progress`, body, text, silent });
  }

  render() {
    if (!live.ready("picture") && !live.tables.has("order")) return busy();
    const waiting = this.orders().filter((order) => ["issued", "delivered", "read"].includes(this.state(order))).length;
    /** @type {[string, string, number][]} */
    const tabs = [
      ["orders", "list-check", waiting],
      ["place", sharing.on ? "geo-alt-fill" : "geo-alt", 0],
      ["incidents", "exclamation-diamond", 0],
    ];
    return html`<div class="field-page">
      ${this.unsent()}
      <div class="field-body" role="tabpanel" aria-label=${t(`field.tab.${this.tab}`)}>
        ${this.tab === "orders" ? this.orderList() : this.tab === "place" ? this.place() : this.incidentList()}
      </div>
      <div class="field-tabs" role="tablist">
        ${tabs.map(
          ([name, icon, count]) => html`<button role="tab" data-tab=${name} aria-selected=${this.tab === name} @click=${() => (this.tab = name)}>
            <wa-icon name=${icon}></wa-icon><span>${t(`field.tab.${name}`)}</span>${count ? html`<i class="count hot">${count}</i>` : nothing}
            ${name === "place" && sharing.on ? html`<i class="on-dot" title=${t("field.place.on")}></i>` : nothing}
          </button>`,
        )}
      </div>
    </div>`;
  }

  // -- what isn't at the server

  unsent() {
    const waiting = outbox.waiting().filter((item) => item.state === "waiting" && !item.silent);
    const refused = outbox.waiting().filter((item) => item.state === "refused");
    const foreign = outbox.foreign().length;
    return html`
      ${waiting.length
        ? html`<div class="unsent" role="status" id="unsent"><wa-icon name="cloud-slash"></wa-icon>
            <span class="grow">${t("field.unsent", { n: waiting.length })}</span>
            <button class="small" ?disabled=${outbox.trying} @click=${() => outbox.kick()}>${outbox.trying ? html`<span class="spinner"></span>` : t("field.try_now")}</button></div>`
        : nothing}
      ${refused.map(
        (item) => html`<div class="unsent refused" role="alert"><wa-icon name="exclamation-octagon"></wa-icon>
          <span class="grow"><b>${t("field.refused", { what: t(`field.act.${item.kind}`) })}</b><br />${tOr(`error.${item.code}`, item.hint || item.code || "")}${item.text ? html`<br /><q>${item.text}</q>` : nothing}</span>
          <button class="small" @click=${() => void outbox.discard(item)}>${t("field.discard")}</button></div>`,
      )}
      ${foreign ? html`<div class="unsent"><wa-icon name="person-x"></wa-icon><span class="grow">${t("field.foreign", { n: foreign })}</span></div>` : nothing}
      ${lasting() ? nothing : html`<div class="unsent refused"><wa-icon name="exclamation-triangle"></wa-icon><span class="grow">${t("field.not_lasting")}</span></div>`}`;
  }

  // -- orders

  /** The state with what was tapped here and isn't answered yet. @param {any} order */
  state(order) {
    const state = orderState(order);
    if (state === "cancelled") return state;
    const tapped = outbox.of(order.id).filter((item) => item.state !== "refused" && STEPS.includes(item.kind)).at(-1);
    return tapped && STEPS.indexOf(tapped.kind) > STEPS.indexOf(state) ? tapped.kind : state;
  }

  orderList() {
    const orders = this.orders();
    return orders.length ? orders.map((order) => this.order(order)) : empty("check2-circle", t("field.no_orders"));
  }

  /** @param {any} order */
  order(order) {
    const incident = live.row("incident", order.incident);
    const state = this.state(order);
    const answered = !["issued", "delivered", "read"].includes(state);
    const closed = ["done", "declined", "cancelled"].includes(state) || !order.open;
    return html`<article class="order-card ${order.urgency} ${answered ? "" : "new"} ${closed ? "closed" : ""}" data-order=${order.id} data-state=${state}>
      <header>
        ${incident ? levelBadge(incident.level) : nothing} ${exerciseBadge(order.exercise)}
        ${order.urgency === "emergency" ? html`<span class="badge bad"><wa-icon name="lightning-fill"></wa-icon>${t("urgency.emergency")}</span>` : nothing}
        <span class="grow"></span>${stateBadge("order.state", state)}
      </header>
      <p class="task prose">${order.task}</p>
      <p class="muted">${incident?.title ?? order.incident}${incident?.place.address ? html` · ${incident.place.address}` : nothing}</p>
      <p class="times muted small">
        <span>${t("field.issued_at", { at: shortTime(order.issued_at) })}</span>
        ${closed ? nothing : answered ? html`<fh-countdown .due=${order.due_at} label=${t("field.due")}></fh-countdown>` : html`<fh-countdown .due=${order.ack_by} label=${t("field.answer_by")}></fh-countdown>`}
      </p>
      ${order.last_report ? html`<p class="last prose"><wa-icon name="chat-left-text"></wa-icon> ${order.last_report}</p>` : nothing}
      ${outbox.of(order.id).filter((item) => !item.silent && item.state !== "refused").map((item) => this.pending(item))}
      ${closed ? nothing : answered ? this.work(order) : this.answer(order)}
    </article>`;
  }

  /** @param {import("./outbox.js").Action} item */
  pending(item) {
    const sent = item.state === "sent";
    return html`<p class="pending ${sent ? "good" : "warn"}" data-pending=${item.kind}><wa-icon name=${sent ? "check2" : "cloud-arrow-up"}></wa-icon>
      ${t(`field.act.${item.kind}`)}${item.text ? html`: ${item.text}` : nothing} · <b>${t(sent ? "field.sent" : "field.not_sent")}</b></p>`;
  }

  /** @param {any} order */
  answer(order) {
    return html`<div class="big-buttons">
      <button class="primary" data-act="accept" @click=${() => void attempt(() => this.progress(order, "accepted", ""))}><wa-icon name="check-lg"></wa-icon>${t("field.accept")}</button>
      <button class="danger" data-act="decline" @click=${() => this.decline(order)}><wa-icon name="x-lg"></wa-icon>${t("field.decline")}</button>
    </div>`;
  }

  /** @param {any} order */
  decline(order) {
    void reasonDialog({
      title: () => t("field.decline_title"),
      text: () => html`<p class="prose">${order.task}</p>`,
      required: true,
      tone: "danger",
      label: () => t("field.decline"),
      send: (reason) => this.progress(order, "declined", reason).then(() => true),
    });
  }

  /** @param {any} order */
  work(order) {
    return html`<div class="big-buttons three">
      <button data-act="report" @click=${() => this.words(order, "reported")}><wa-icon name="chat-left-text"></wa-icon>${t("field.report")}</button>
      ${this.camera(order.incident, order.id)}
      <button class="good" data-act="done" @click=${() => this.words(order, "done")}><wa-icon name="check2-all"></wa-icon>${t("field.done")}</button>
    </div>`;
  }

  /** @param {any} order @param {"reported" | "done"} step */
  words(order, step) {
    void formDialog({
      title: () => t(step === "done" ? "field.done_title" : "field.report_title"),
      name: step,
      size: "narrow",
      tone: step === "done" ? "good" : "primary",
      label: () => t(step === "done" ? "field.done" : "field.report"),
      fields: () => html`<div class="stack"><p class="muted prose">${order.task}</p>
        <label class="field"><span class="label ${step === "done" ? "" : "required"}">${t("field.report_text")}</span>
          <textarea name="text" rows="5" maxlength=${TEXT_MAX} ?required=${step !== "done"} autofocus></textarea></label></div>`,
      send: (data) => this.progress(order, step, String(data.get("text")).trim()).then(() => true),
    });
  }

  /** @param {string} incident @param {string} about */
  camera(incident, about) {
    return html`<label class="button camera" tabindex="0" @keydown=${(/** @type {KeyboardEvent} */ event) => (event.key === "Enter" || event.key === " ") && /** @type {HTMLElement} */ (event.currentTarget).click()}>
      <wa-icon name="camera"></wa-icon>${t("field.photo")}
      <input class="visually-hidden" type="file" accept="image/*" capture="environment" tabindex="-1" @change=${(/** @type {any} */ event) => this.photo(event.target, incident, about)} />
    </label>`;
  }

  /** @param {HTMLInputElement} input @param {string} incident @param {string} about */
  async photo(input, incident, about) {
    const chosen = input.files?.[0];
    input.value = "";
    if (!chosen) return;
    const file = await shrink(chosen);
    const address = URL.createObjectURL(file);
    await formDialog({
      title: () => t("field.photo_title"),
      name: "photo",
      size: "narrow",
      fields: () => html`<div class="stack"><img class="shot" src=${address} alt=${t("field.photo")} />
        <label class="field"><span class="label">${t("field.photo_text")}</span><textarea name="text" rows="2" maxlength=${TEXT_MAX}></textarea></label></div>`,
      send: (data) => this.note(incident, about, String(data.get("text")).trim(), file),
    });
    URL.revokeObjectURL(address);
  }

  /** @param {string} incident @param {string} about @param {string} text @param {Blob} [file] */
  async note(incident, about, text, file) {
    await outbox.add({ kind: file ? "photo" : "note", about, incident, path: `/incidents/${incident}/notes`, body: { text }, text, file });
    return true;
  }

  // -- place

  place() {
    const { last } = sharing;
    const age = last ? Math.max(0, (now() - last.at) / 1e6) : 0;
    return html`<section class="place-card">
      <button class="share ${sharing.on ? "on" : ""}" id="share" role="switch" aria-checked=${sharing.on} @click=${() => (sharing.on ? sharing.stop() : sharing.start())}>
        <wa-icon name=${sharing.on ? "broadcast-pin" : "geo-alt"}></wa-icon>
        <b>${t(sharing.on ? "field.place.on" : "field.place.off")}</b><span class="muted">${t(sharing.on ? "field.place.tap_off" : "field.place.tap_on")}</span>
      </button>
      ${sharing.problem ? html`<p class="error-line" role="alert">${t(sharing.problem)}</p>` : nothing}
      ${sharing.refused ? html`<p class="error-line" role="alert">${t("field.place.refused", { why: sharing.refused })}</p>` : nothing}
      <dl class="facts">
        <dt>${t("field.place.last_fix")}</dt><dd id="last-fix">${last ? html`${coordinates(last)}<br /><span class=${age > 120 ? "warn" : "muted"}>${t("time.ago", { d: duration(age) })}</span>` : t("field.place.none_yet")}</dd>
        <dt>${t("field.place.accuracy")}</dt><dd>${last?.accuracy_m ? html`± ${Math.round(last.accuracy_m)} m` : "—"}</dd>
        <dt>${t("field.place.sent")}</dt><dd id="last-sent">${sharing.sentAt ? html`<fh-ago .at=${sharing.sentAt}></fh-ago>` : t("field.place.never")}</dd>
        <dt>${t("field.place.waiting")}</dt><dd class=${sharing.waiting ? "warn" : ""} id="fixes-waiting">${sharing.waiting}</dd>
      </dl>
      <fieldset><legend>${t("field.place.interval")}</legend>
        <div class="seg wide">${INTERVALS_S.map((s) => html`<button aria-pressed=${sharing.interval === s} @click=${() => sharing.every(s)}>${t("time.s", { s })}</button>`)}</div>
      </fieldset>
      <p class="muted small">${t("field.place.note")}</p>
    </section>`;
  }

  // -- incidents

  incidentList() {
    const incidents = this.incidents();
    return incidents.length ? incidents.map((incident) => this.incident(incident)) : empty("shield-check", t("field.no_incidents"));
  }

  /** @param {any} incident */
  incident(incident) {
    const { place, casualties } = incident;
    const rooms = live.rows("room").filter((room) => room.incident === incident.id && room.open);
    const counts = Object.entries(casualties ?? {}).filter(([, n]) => Number(n) > 0);
    return html`<article class="order-card" data-incident=${incident.id}>
      <header>${levelBadge(incident.level)} ${exerciseBadge(incident.exercise)}<span class="grow"></span>${stateBadge("state", incident.state)}</header>
      <p class="task">${incident.title}</p>
      ${incident.description ? html`<p class="prose">${incident.description}</p>` : nothing}
      <p class="muted">${place.address || coordinates(place)} · <a href=${`geo:${place.lat},${place.lon}`}>${t("field.open_map")}</a></p>
      ${counts.length ? html`<p>${counts.map(([name, n]) => html`<span class="badge">${t(`casualties.${name}`)} ${n}</span> `)}</p>` : nothing}
      <p class="muted small">${t("field.updated_at", { at: shortTime(incident.updated_at ?? incident.reported_at) })}</p>
      ${outbox.of(incident.id).filter((item) => item.state !== "refused").map((item) => this.pending(item))}
      ${rooms.map((room) => html`<a class="button join" href=${`#/room/${room.id}`}><wa-icon name="camera-video"></wa-icon>${t("field.join", { room: room.title })} (${room.members.length})</a>`)}
      <div class="big-buttons">
        <button data-act="note" @click=${() => this.write(incident)}><wa-icon name="pencil-square"></wa-icon>${t("field.note")}</button>
        ${this.camera(incident.id, incident.id)}
      </div>
    </article>`;
  }

  /** @param {any} incident */
  write(incident) {
    void formDialog({
      title: () => t("field.note_title"),
      name: "note",
      size: "narrow",
      fields: () => html`<label class="field"><span class="label required">${t("field.note_text")}</span><textarea name="text" rows="5" maxlength=${TEXT_MAX} required autofocus></textarea></label>`,
      send: (data) => this.note(incident.id, incident.id, String(data.get("text")).trim()),
    });
  }
}
customElements.define("fh-field-page", FieldPage);
