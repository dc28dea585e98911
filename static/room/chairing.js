// @ts-check
// The chair's leaf: the door, the microphones, the layout, the round of sites, and who was put outside.

import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { post } from "../api.js";
import { organisationName } from "../format.js";
import { t } from "../i18n.js";
import { confirmDialog } from "../parts/dialog.js";
import { attempt } from "../parts/toast.js";
import { INTERVALS_S, LAYOUTS, TILES, controlOf, nameOf, set, stand, tell } from "./control.js";

/** @param {string} id @param {string} label @param {boolean} on @param {(on: boolean) => void} change */
const tick = (id, label, on, change) =>
  html`<label class="check"><input type="checkbox" id=${id} .checked=${on} @change=${(/** @type {any} */ event) => change(event.target.checked)} /> ${label}</label>`;

/** End it for everybody, after a question. @param {string} room */
export async function closeRoom(room) {
  const sure = await confirmDialog({
    title: () => t("room.close"),
    text: () => html`<p>${t("room.close_text")}</p>`,
    label: () => t("room.close"),
    tone: "danger",
  });
  if (sure) await attempt(() => post(`/rooms/${room}/close`, {}));
}

/** Who stands before the door, with what the chair may answer. @param {string} room */
function doorList(room) {
  const waiting = controlOf(room)?.waiting ?? [];
  if (!waiting.length) return nothing;
  return html`<ul class="member-list" id="door">${repeat(waiting, (/** @type {any} */ one) => one.account, (/** @type {any} */ one) => html`<li data-account=${one.account}>
    <span class="grow"><span class="clip">${one.name || nameOf(room, one.account)}</span>${one.organisation ? html`<span class="clip small muted">${organisationName(one.organisation)}</span>` : nothing}</span>
    <button class="small good" data-act="admit" @click=${() => void stand(room, one.account, "admit")}>${t("meeting.admit")}</button>
    <button class="small" data-act="refuse" @click=${() => void stand(room, one.account, "refuse")}>${t("meeting.refuse")}</button></li>`)}</ul>`;
}


/** @param {import("./call.js").Call} call */
export function chairPanel(call) {
  const { room } = call;
  const control = controlOf(room);
  if (!control) return nothing;
  const value = (/** @type {Event} */ event) => /** @type {HTMLSelectElement} */ (event.target).value;
  const start = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    void tell(room, "poll", { interval_s: Number(form.get("interval")), audience: form.get("audience") });
  };
  return html`<div class="chair-panel">
    <section><h3>${t("meeting.door")} ${control.waiting.length ? html`<span class="count">${control.waiting.length}</span>` : nothing}</h3>
      ${doorList(room)}
      ${tick("waiting-room", t("meeting.waiting_room"), control.waiting_room, (on) => void set(room, { waiting_room: on }))}
      ${tick("locked", t("meeting.locked"), control.locked, (on) => void set(room, { locked: on }))}
      ${control.barred.length ? html`<ul class="member-list">${control.barred.map((/** @type {string} */ account) => html`<li data-account=${account}><span class="grow clip muted">${nameOf(room, account)}</span><button class="small" data-act="readmit" @click=${() => void stand(room, account, "readmit")}>${t("meeting.readmit")}</button></li>`)}</ul>` : nothing}
    </section>
    <section><h3>${t("meeting.microphones")}</h3>
      ${tick("chair-mics", t("meeting.chair_mics"), control.microphones === "chair", (on) => void set(room, { microphones: on ? "chair" : "free" }))}
      <div class="row"><button class="small" id="mute-all" @click=${() => void tell(room, "mute-all", { on: true })}><wa-icon name="mic-mute"></wa-icon>${t("meeting.mute_all")}</button>
        <button class="small" id="unmute-all" @click=${() => void tell(room, "mute-all", { on: false })}>${t("meeting.unmute_all")}</button></div>
    </section>
    <section><h3>${t("meeting.layout")}</h3>
      <div class="row"><select id="layout-all" class="grow" aria-label=${t("meeting.layout")} @change=${(/** @type {Event} */ event) => void set(room, { layout: value(event) })}>
          ${LAYOUTS.map((name) => html`<option value=${name} .selected=${control.layout === name}>${t(`meeting.layout.${name}`)}</option>`)}
        </select>
        ${control.layout === "one_plus_n" ? html`<select id="layout-tiles" aria-label=${t("meeting.layout_tiles")} @change=${(/** @type {Event} */ event) => void set(room, { layout_tiles: Number(value(event)) })}>
          ${TILES.map((n) => html`<option value=${n} .selected=${control.layout_tiles === n}>1+${n}</option>`)}</select>` : nothing}</div>
      ${control.broadcast ? html`<p class="row spread"><span class="clip">${t("meeting.now_broadcast", { name: nameOf(room, control.broadcast) })}</span><button class="small" id="end-broadcast" @click=${() => void set(room, { broadcast: null })}>${t("meeting.end")}</button></p>` : nothing}
      ${control.spotlight.length ? html`<p class="row spread"><span class="clip">${t("meeting.now_spotlight", { names: control.spotlight.map((/** @type {string} */ account) => nameOf(room, account)).join("、") })}</span><button class="small" @click=${() => void set(room, { spotlight: [] })}>${t("meeting.end")}</button></p>` : nothing}
    </section>
    <section><h3>${t("meeting.poll")}</h3>
      ${control.poll
        ? html`<p class="row spread"><span class="clip" id="polled">${control.poll.current ? t("meeting.now_polled", { name: nameOf(room, control.poll.current), s: control.poll.interval_s }) : t("meeting.poll_nobody")}</span>
            <button class="small" id="stop-poll" @click=${() => void tell(room, "poll/stop")}>${t("meeting.end")}</button></p>`
        : html`<form class="row wrap" @submit=${start}>
            <select name="interval" aria-label=${t("meeting.interval")}>${INTERVALS_S.map((s) => html`<option value=${s} .selected=${s === 15}>${t("meeting.seconds", { s })}</option>`)}</select>
            <select name="audience" aria-label=${t("meeting.audience")}>${["all", "chair"].map((name) => html`<option value=${name}>${t(`meeting.audience.${name}`)}</option>`)}</select>
            <button class="small" type="submit" id="start-poll">${t("meeting.start")}</button></form>`}
    </section>
    <section><button class="danger small" id="close-all" @click=${() => void closeRoom(room)}>${t("meeting.end_for_all")}</button></section>
  </div>`;
}
