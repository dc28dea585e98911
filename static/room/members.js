// @ts-check
// The list of who is in, and what the chair may do about each.

import { html, nothing } from "lit";
import { post } from "../api.js";
import { organisationName } from "../format.js";
import { t } from "../i18n.js";
import { confirmDialog } from "../parts/dialog.js";
import { attempt } from "../parts/toast.js";
import { controlOf, placeOf, set, stand, tell } from "./control.js";
import { marks } from "./tile.js";

const RANK = { chair: 0, speaker: 1, viewer: 2 };

/** @param {import("./call.js").Call} call @returns {import("./call.js").Member[]} */
export const ordered = (call) =>
  [...call.members.values()].sort((a, b) => RANK[a.role] - RANK[b.role] || a.joined_at - b.joined_at || (a.id < b.id ? -1 : 1));

/** @param {import("./call.js").Call} call @param {string} member @param {object} body */
export const act = (call, member, body) => attempt(() => post(`/rooms/${call.room}/members/${member}/act`, body));

/** @param {import("./call.js").Call} call @param {import("./call.js").Member} member */
async function remove(call, member) {
  const sure = await confirmDialog({
    title: () => t("room.remove_title"),
    text: () => html`<p>${t("room.remove_text", { name: member.name })}</p>`,
    label: () => t("room.remove"),
    tone: "danger",
  });
  if (sure) await act(call, member.id, { act: "remove" });
}

/** @param {import("./call.js").Call} call @param {import("./call.js").Member} member */
function actions(call, member) {
  const dark = call.dark.has(member.id);
  const button = (/** @type {string} */ name, /** @type {string} */ icon, /** @type {() => void} */ action, tone = "") => {
    const label = t(`room.act.${name}`, { name: member.name });
    return html`<button class="icon small ${tone}" data-act=${name} title=${label} aria-label=${label} @click=${action}><wa-icon name=${icon}></wa-icon></button>`;
  };
  const { room } = call;
  const control = controlOf(room);
  const stop = (/** @type {string} */ kind, /** @type {boolean} */ on) => () => void act(call, member.id, { act: on ? "mute" : "unmute", kind });
  const floor = (/** @type {string} */ move) => () => void tell(room, "floor/call", { account: member.account, move });
  const lit = control?.spotlight.includes(member.account);
  const spotlight = () => void set(room, { spotlight: lit ? control?.spotlight.filter((/** @type {string} */ one) => one !== member.account) : [...(control?.spotlight ?? []), member.account] });
  const broadcast = control?.broadcast === member.account;
  const second = control?.cochairs.includes(member.account);
  const mode = control?.microphones === "chair";
  const speaks = placeOf(control, member.account) === "speaking";
  return html`${mode
      ? speaks ? button("withdraw", "mic-fill", floor("withdraw"), "good") : button("call", "mic-mute-fill", floor("call"), "danger")
      : member.muted ? button("unmute", "mic-mute-fill", stop("audio", false), "danger") : button("mute", "mic", stop("audio", true))}
    ${dark ? button("show", "camera-video-off-fill", stop("video", false), "danger") : button("hide", "camera-video", stop("video", true))}
    ${member.screen ? button("stop_screen", "display", stop("screen", true), "danger") : nothing}
    ${button(broadcast ? "end_broadcast" : "broadcast", "broadcast", () => void set(room, { broadcast: broadcast ? null : member.account }), broadcast ? "good" : "")}
    ${button(lit ? "end_spotlight" : "spotlight", "stars", spotlight, lit ? "good" : "")}
    ${member.role === "chair" ? nothing : button(second ? "no_cochair" : "cochair", "person-plus", () => void stand(room, member.account, second ? "no_cochair" : "cochair"), second ? "good" : "")}
    ${button("remove", "person-x", () => void remove(call, member), "danger")}`;
}

/** @param {import("./call.js").Call} call @param {boolean} chairs whether this screen may act as the chair */
export const memberList = (call, chairs) => html`<ul class="member-list">
  ${ordered(call).map(
    (member) => html`<li data-member=${member.id}>
      <span class="grow"><span class="clip">${member.id === call.me ? t("room.me", { name: member.name }) : member.name}</span>
        ${member.organisation ? html`<span class="clip small muted">${organisationName(member.organisation)}</span>` : nothing}
        ${(member.id === call.me ? call.ways() : [call.way(member.id)]).filter(Boolean).map((line) => html`<span class="small muted num" data-way>${line}</span>`)}</span>
      ${controlOf(call.room)?.cochairs.includes(member.account) ? html`<span class="badge">${t("meeting.cochair")}</span>` : nothing}
      ${placeOf(controlOf(call.room), member.account) === "queued" ? html`<wa-icon class="warn" name="hand-index-thumb" label=${t("meeting.hand_up")}></wa-icon>` : nothing}
      ${marks(call, member)}
      ${chairs && member.id !== call.me ? html`<span class="row member-acts">${actions(call, member)}</span>` : nothing}
    </li>`,
  )}
</ul>`;
