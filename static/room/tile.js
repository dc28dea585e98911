// @ts-check
// One member on the screen: picture or initials, name, organisation, what it sends, whether it speaks, how good its link is.

import { html, nothing } from "lit";
import { organisationName } from "../format.js";
import { t } from "../i18n.js";

/** Up to two letters, or the last two characters of a Chinese name. @param {string} name */
export function initials(name) {
  if (/[\u3400-\u9fff]/.test(name)) return name.slice(-2);
  const words = name.split(/[\s\-_.]+/).filter(Boolean);
  return (words.length > 1 ? words[0][0] + words[words.length - 1][0] : name.slice(0, 2)).toUpperCase();
}

/** Whether this member's voice reaches nobody. @param {import("./call.js").Member} member */
export const silent = (member) => member.muted || !member.audio;

/** @param {number} grade @param {string} way */
const bars = (grade, way) =>
  html`<span class="link-grade g${grade}" role="img" title=${way ? `${t(`room.grade.${grade}`)} · ${way}` : t(`room.grade.${grade}`)} aria-label=${t(`room.grade.${grade}`)}><i></i><i></i><i></i></span>`;

/** @param {import("./call.js").Call} call @param {import("./call.js").Member} member */
export function marks(call, member) {
  return html`<span class="marks">
    ${member.role === "chair" ? html`<span class="badge good">${t("room.chair")}</span>` : nothing}
    ${member.role === "viewer" ? html`<wa-icon name="eye" label=${t("room.viewer")} title=${t("room.viewer")}></wa-icon>` : nothing}
    ${member.role !== "viewer" && silent(member)
      ? html`<wa-icon class=${member.muted ? "bad" : "warn"} name="mic-mute-fill" label=${t(member.muted ? "room.muted_by_chair" : "room.mic_off")} title=${t(member.muted ? "room.muted_by_chair" : "room.mic_off")}></wa-icon>`
      : nothing}
    ${call.dark.has(member.id) ? html`<wa-icon class="bad" name="camera-video-off-fill" label=${t("room.dark_by_chair")} title=${t("room.dark_by_chair")}></wa-icon>` : nothing}
    ${bars(call.grades.get(member.id) ?? 0, call.way(member.id))}
  </span>`;
}

/**
 * @param {import("./call.js").Call} call @param {import("./call.js").Member} member
 * @param {{pinned: boolean, pin: () => void, large?: boolean}} options
 */
export function tile(call, member, { pinned, pin, large = false }) {
  const own = member.id === call.me;
  const picture = call.picture(member);
  const speaking = call.speaker === member.id && !silent(member);
  const name = own ? t("room.me", { name: member.name }) : member.name;
  return html`<article class="tile ${speaking ? "speaking" : ""} ${large ? "large" : ""}" data-member=${member.id} aria-label=${`${name}${speaking ? `，${t("room.speaking")}` : ""}`}>
    ${picture
      ? html`<video class=${own ? "mirror" : ""} .srcObject=${picture} .muted=${true} autoplay playsinline></video>`
      : html`<div class="initials" aria-hidden="true"><span>${initials(member.name)}</span></div>`}
    <button class="pin plain icon small" aria-pressed=${pinned} aria-label=${t("room.pin", { name: member.name })} title=${t("room.pin", { name: member.name })} @click=${pin}>
      <wa-icon name=${pinned ? "pin-angle-fill" : "pin-angle"}></wa-icon>
    </button>
    <footer>
      <span class="grow"><b class="clip">${name}</b>${member.organisation ? html`<span class="clip small">${organisationName(member.organisation)}</span>` : nothing}</span>
      ${marks(call, member)}
    </footer>
  </article>`;
}
