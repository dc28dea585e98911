// @ts-check
// Requests to activate a plan that wait for a yes or no, with what the yes would set in motion.

import { html, nothing } from "lit";
import { post } from "../api.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { reasonDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import { levelBadge } from "../parts/small.js";
import { toast } from "../parts/toast.js";
import { planEffects } from "../parts/plan.js";
import { decides } from "../parts/nodes.js";
import { who } from "../session.js";

/** May this person decide on it? The server asks again. @param {Record<string, any>} activation */
export const mayDecide = (activation) => decides("plan.approve", { ...activation, owner: live.row("incident", activation.incident)?.owner }) && (who()?.roles ?? []).includes(activation.plan.approver);

/** @param {Record<string, any>} activation @param {boolean} approve */
export async function decide(activation, approve) {
  const done = await reasonDialog({
    title: () => t(approve ? "plan.approve_title" : "plan.refuse_title", { name: activation.plan.name }),
    text: () => (approve ? planEffects(activation.plan, live.row("incident", activation.incident)) : nothing),
    label: () => t(approve ? "act.approve" : "act.refuse"),
    tone: approve ? "good" : "danger",
    required: !approve,
    send: (reason) => post(`/activations/${activation.id}/decision`, { version: activation.version, approve, reason }),
  });
  if (done) toast(t(approve ? "plan.approved" : "plan.refused"), approve ? "good" : "info");
}

/** @param {Record<string, any>} activation */
export function activationCard(activation) {
  const incident = live.row("incident", activation.incident);
  return html`<article class="panel activation" data-activation=${activation.id}>
    <header><wa-icon name="lightning-charge" class="warn"></wa-icon><h2 class="clip">${t("plan.waiting")}</h2><span class="small muted"><fh-ago .at=${activation.requested_at}></fh-ago></span></header>
    <div class="body stack">
      <strong>${activation.plan.name}</strong>
      ${incident ? html`<div class="row wrap">${levelBadge(incident.level)}<a href=${`#/incident/${incident.id}`}>${incident.title}</a></div>` : nothing}
      ${activation.reason ? html`<div class="prose muted">${activation.reason}</div>` : nothing}
      ${planEffects(activation.plan, incident)}
      ${mayDecide(activation)
        ? html`<div class="row"><button class="good grow" @click=${() => void decide(activation, true)}>${t("act.approve")}</button><button class="danger" @click=${() => void decide(activation, false)}>${t("act.refuse")}</button></div>`
        : html`<div class="small muted">${t("plan.approver", { role: t(`role.${activation.plan.approver}`) })}</div>`}
    </div>
  </article>`;
}

class Activations extends Part {
  static follows = ["activation", "incident"];
  render() {
    const rows = live.rows("activation").filter((row) => row.state === "requested").sort((a, b) => a.requested_at - b.requested_at);
    return rows.length ? html`<section aria-label=${t("plan.waiting")} aria-live="polite">${rows.map(activationCard)}</section>` : nothing;
  }
}
customElements.define("fh-activations", Activations);
