// @ts-check
// The side of the stage: people, the chair's control, hands, roll call, chat, and the record of the meeting.
//
// Holds nothing but which leaf is open and what is being typed. Invariant: everything shown comes from rows.

import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { post } from "../api.js";
import { clockTime } from "../format.js";
import { t } from "../i18n.js";
import { Part } from "../parts/part.js";
import { attempt } from "../parts/toast.js";
import { who } from "../session.js";
import { chairPanel } from "./chairing.js";
import { chatOf, controlOf, nameOf, rollCallOf, rollCallsOf, tell } from "./control.js";
import { memberList } from "./members.js";
import "./record.js";

export const LEAVES = { people: "people-fill", control: "sliders2", hands: "hand-index-thumb", roll: "check2-square", chat: "chat-left-text", record: "journal-text" };
const REPLY_TONE = /** @type {Record<string, string>} */ ({ answered: "good", present: "good", absent: "bad", waiting: "warn" });
const CHAT_MAX = 1000;

export class Side extends Part {
  static follows = ["meeting", "room", "roll_call", "chat", "attendance", "account", "organisation"];
  static properties = { call: { attribute: false }, chairs: { attribute: false }, leaf: {}, read: { state: true } };
  constructor() {
    super();
    /** @type {import("./call.js").Call | null} */
    this.call = null;
    this.chairs = false;
    this.leaf = "people";
    /** How many lines of chat were seen. */
    this.read = 0;
  }

  connectedCallback() {
    super.connectedCallback();
    if (this.call) this.until(this.call.onChange(() => this.requestUpdate()));
  }

  get room() {
    return this.call?.room ?? "";
  }

  /** @param {string} leaf */
  open(leaf) {
    this.dispatchEvent(new CustomEvent("leaf", { detail: leaf }));
  }

  /** What waits for somebody behind each leaf. */
  counts() {
    const control = controlOf(this.room);
    const lines = chatOf(this.room).length;
    if (this.leaf === "chat") this.read = lines;
    return /** @type {Record<string, number>} */ ({
      control: this.chairs ? (control?.waiting.length ?? 0) : 0,
      hands: control?.hands.length ?? 0,
      roll: control?.roll_call ? 1 : 0,
      chat: Math.max(0, lines - this.read),
    });
  }

  render() {
    const { call } = this;
    if (!call) return nothing;
    const counts = this.counts();
    const leaves = Object.entries(LEAVES).filter(([name]) => name !== "control" || this.chairs);
    const body = /** @type {Record<string, () => unknown>} */ ({
      people: () => memberList(call, this.chairs),
      control: () => chairPanel(call),
      hands: () => this.hands(),
      roll: () => this.roll(),
      chat: () => this.chat(),
      record: () => html`<fh-room-record .room=${this.room} .chairs=${this.chairs}></fh-room-record>`,
    });
    const leaf = body[this.leaf] && (this.leaf !== "control" || this.chairs) ? this.leaf : "people";
    return html`<div class="side-tabs" role="tablist" aria-label=${t("meeting.side")}>
        ${leaves.map(([name, icon]) => html`<button role="tab" id=${`leaf-${name}`} aria-selected=${leaf === name} title=${t(`meeting.leaf.${name}`)} aria-label=${t(`meeting.leaf.${name}`)} @click=${() => this.open(name)}>
          <wa-icon name=${icon}></wa-icon><span>${t(`meeting.leaf.${name}`)}</span>${counts[name] ? html`<i class="count">${counts[name]}</i>` : nothing}
        </button>`)}
        <button class="plain icon small" aria-label=${t("act.close")} @click=${() => this.open("")}><wa-icon name="x-lg"></wa-icon></button>
      </div>
      <div class="side-body" role="tabpanel" data-leaf=${leaf}>${body[leaf]()}</div>`;
  }

  /** The queue, in the order in which hands went up; above it who has the floor. */
  hands() {
    const { room, chairs } = this;
    const control = controlOf(room);
    if (!control) return nothing;
    const call = (/** @type {string} */ account, /** @type {string} */ move, only = false) => () => void tell(room, "floor/call", { account, move, only });
    const name = (/** @type {string} */ account) => html`<span class="grow clip">${nameOf(room, account)}</span>`;
    const button = (/** @type {string} */ act, /** @type {string} */ icon, /** @type {string} */ account, /** @type {() => void} */ action, tone = "") => {
      const label = t(`meeting.act.${act}`, { name: nameOf(room, account) });
      return html`<button class="icon small ${tone}" data-act=${act} title=${label} aria-label=${label} @click=${action}><wa-icon name=${icon}></wa-icon></button>`;
    };
    return html`<h3>${t("meeting.on_floor")} <span class="count">${control.floor.length}</span></h3>
      <ul class="member-list" id="floor">${repeat(control.floor, (account) => account, (account) => html`<li data-account=${account}><wa-icon class="good" name="mic-fill"></wa-icon>${name(account)}
        ${chairs ? button("withdraw", "mic-mute", account, call(account, "withdraw"), "danger") : nothing}</li>`)}</ul>
      <h3>${t("meeting.queue")} <span class="count">${control.hands.length}</span></h3>
      <ol class="member-list" id="queue">${repeat(control.hands, (/** @type {any} */ one) => one.account, (/** @type {any} */ one, i) => html`<li data-account=${one.account}><b class="num">${i + 1}</b>${name(one.account)}<span class="muted small num">${clockTime(one.at)}</span>
        ${chairs ? html`${button("call", "mic", one.account, call(one.account, "call"), "good")}${button("call_only", "person-video3", one.account, call(one.account, "call", true))}${button("dismiss", "x-lg", one.account, call(one.account, "dismiss"))}` : nothing}</li>`)}</ol>
      ${control.hands.length ? nothing : html`<p class="muted small pad">${t("meeting.no_hands")}</p>`}
      ${chairs && control.hands.length ? html`<div class="row pad"><button class="small good" id="next-hand" @click=${call(control.hands[0].account, "call", true)}>${t("meeting.next_hand")}</button><button class="small" id="clear-hands" @click=${() => void tell(room, "floor/clear")}>${t("meeting.clear_hands")}</button></div>` : nothing}`;
  }

  roll() {
    const { room, chairs } = this;
    const going = rollCallOf(room);
    const all = rollCallsOf(room);
    return html`${chairs && !going ? html`<div class="row pad"><button class="primary small" id="start-roll" @click=${() => void tell(room, "roll-calls", {})}><wa-icon name="check2-square"></wa-icon>${t("meeting.start_roll")}</button></div>` : nothing}
      ${all.length ? nothing : html`<p class="muted small pad">${t("meeting.no_roll")}</p>`}
      ${repeat(all, (row) => row.id, (row) => this.oneRoll(row))}`;
  }

  /** @param {Record<string, any>} row */
  oneRoll(row) {
    const { room, chairs } = this;
    const open = row.ended_at === null;
    const came = row.called.filter((/** @type {any} */ one) => one.reply === "answered" || one.reply === "present").length;
    const mark = (/** @type {string} */ called, /** @type {boolean} */ present) => () => void attempt(() => post(`/roll-calls/${row.id}/mark`, { called, present }));
    return html`<section class="roll" data-roll=${row.id}>
      <h3>${clockTime(row.started_at)} · ${t("meeting.roll_counts", { came, all: row.called.length })}
        ${open && chairs ? html`<button class="small" id="end-roll" @click=${() => void attempt(() => post(`/roll-calls/${row.id}/end`, {}))}>${t("meeting.end_roll")}</button>` : nothing}</h3>
      <ul class="member-list">${row.called.map((/** @type {any} */ one) => html`<li data-called=${one.id} data-reply=${one.reply}><span class="grow clip">${nameOf(room, one.id)}</span>
        <span class="badge ${REPLY_TONE[one.reply]}">${t(`meeting.reply.${one.reply}`)}</span>
        ${open && chairs && one.reply !== "answered" ? html`<button class="icon small good" aria-label=${t("meeting.mark_present", { name: nameOf(room, one.id) })} title=${t("meeting.mark_present", { name: nameOf(room, one.id) })} @click=${mark(one.id, true)}><wa-icon name="check-lg"></wa-icon></button>
          <button class="icon small" aria-label=${t("meeting.mark_absent", { name: nameOf(room, one.id) })} title=${t("meeting.mark_absent", { name: nameOf(room, one.id) })} @click=${mark(one.id, false)}><wa-icon name="x-lg"></wa-icon></button>` : nothing}</li>`)}</ul>
    </section>`;
  }

  chat() {
    const { room } = this;
    const mine = who()?.account;
    const submit = async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const form = /** @type {HTMLFormElement} */ (event.target);
      const text = String(new FormData(form).get("text")).trim();
      if (text && (await tell(room, "chat", { text }))) form.reset();
    };
    return html`<ul class="chat" aria-live="polite">${repeat(chatOf(room), (line) => line.id, (line) => html`<li class=${line.account === mine ? "mine" : ""}><b class="small">${nameOf(room, line.account)}</b> <span class="muted small num">${clockTime(line.at)}</span><div class="prose">${line.text}</div></li>`)}</ul>
      <form class="row chat-form" @submit=${submit}><input name="text" class="grow" maxlength=${CHAT_MAX} autocomplete="off" aria-label=${t("meeting.chat_text")} placeholder=${t("meeting.chat_text")} /><button class="primary small" type="submit">${t("act.send")}</button></form>`;
  }

  updated() {
    const list = this.querySelector(".chat");
    if (list) list.scrollTop = list.scrollHeight;
  }
}
customElements.define("fh-room-side", Side);
