// @ts-check
// What a plan will do, in words, before anybody says yes.

import { html, nothing } from "lit";
import { anyName, colon, distance, duration, joined, organisationName, partyName } from "../format.js";
import { language, t } from "../i18n.js";
import { live } from "../live.js";

/** @param {Record<string, any>} recipients */
export function recipientsText(recipients) {
  const parts = [
    ...(recipients.persons ?? []).map(anyName),
    ...(recipients.groups ?? []).map((/** @type {string} */ id) => live.row("group", id)?.name ?? id),
    ...(recipients.units ?? []).map(anyName),
    ...(recipients.on_duty ?? []).map((/** @type {string} */ id) => t("plan.on_duty_in", { name: organisationName(id) })),
    ...(recipients.fence ? [t("plan.in_fence", { name: live.row("fence", recipients.fence)?.name ?? recipients.fence })] : []),
  ];
  return joined(parts) || t("word.none");
}

/** @param {Record<string, any>} plan @param {Record<string, any>} [incident] whose names fill the text */
export function planEffects(plan, incident) {
  const text = language() === "en" ? plan.notice?.text_en : plan.notice?.text_zh;
  const filled = text?.replaceAll("{incident}", incident?.title ?? "{incident}").replaceAll("{place}", incident?.place.address ?? "{place}");
  return html`<ul class="effects">
    ${(plan.orders ?? []).map(
      (/** @type {any} */ order) => html`<li><wa-icon name="flag"></wa-icon><span><b>${partyName(order.assignee)}</b>${colon()}${order.task}
        ${order.ack_within_s ? html`<span class="muted small"> · ${t("plan.ack_within", { d: duration(order.ack_within_s) })}</span>` : nothing}</span></li>`,
    )}
    ${plan.notice ? html`<li><wa-icon name="megaphone"></wa-icon><span>${t("plan.notice", { to: recipientsText(plan.notice.recipients) })}<br /><span class="muted small">${filled}</span></span></li>` : nothing}
    ${plan.room ? html`<li><wa-icon name="camera-video"></wa-icon><span>${t("plan.room", { name: plan.room.title })}</span></li>` : nothing}
    ${plan.fence ? html`<li><wa-icon name="hexagon"></wa-icon><span>${t("plan.fence", { name: plan.fence.name, r: distance(plan.fence.radius_m) })}</span></li>` : nothing}
  </ul>`;
}
