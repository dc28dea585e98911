// @ts-check
// Plans that fit the incident, what each would do, and the requests to activate one.

import { html, nothing } from "lit";
import { post } from "../api.js";
import { organisationName, shortTime } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { formDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import { planEffects } from "../parts/plan.js";
import { stateBadge } from "../parts/small.js";
import { toast } from "../parts/toast.js";
import { activationCard } from "../picture/activations.js";
import { decides } from "../parts/nodes.js";

/** A plan with no category or level fits all. @param {Record<string, any>} plan @param {Record<string, any>} incident */
const fits = (plan, incident) =>
  (plan.categories.length === 0 || plan.categories.includes(incident.category)) && (plan.levels.length === 0 || plan.levels.includes(incident.level));

/** @param {Record<string, any>} incident @param {Record<string, any>} plan */
async function request(incident, plan) {
  const done = await formDialog({
    title: () => t("plan.request_title", { name: plan.name }),
    name: "activate",
    label: () => t("plan.request"),
    fields: () => html`<div class="stack">
      <p class="note-line">${t("plan.preview", { role: t(`role.${plan.approver}`), n: plan.version })}</p>
      ${planEffects(plan, incident)} ${incident.exercise ? html`<p class="note-line">${t("word.exercise_hint")}</p>` : nothing}
      <label class="field"><span class="label">${t("word.reason")}</span><textarea name="reason" maxlength="4000"></textarea></label>
    </div>`,
    send: (data) => post("/activations", { incident: incident.id, plan: plan.id, version: plan.version, reason: String(data.get("reason")).trim() }),
  });
  if (done) toast(t("plan.requested"), "good");
}

/** @param {Record<string, any>} incident */
async function choose(incident) {
  const busyPlans = new Set(live.rows("activation").filter((row) => row.incident === incident.id && row.state !== "refused").map((row) => row.plan.id));
  const plans = live.rows("plan").filter((plan) => !plan.retired && !busyPlans.has(plan.id)).sort((a, b) => Number(fits(b, incident)) - Number(fits(a, incident)));
  /** @type {string} */
  let chosen = plans[0]?.id ?? "";
  const done = await formDialog({
    title: () => t("plan.choose"),
    size: "wide",
    name: "choose-plan",
    label: () => t("act.next"),
    fields: (dialog) => html`<div class="plan-choice">
      ${plans.length === 0 ? html`<p class="muted">${t("plan.no_plans")}</p>` : nothing}
      ${plans.map((plan) => html`<label class="panel plan-option ${chosen === plan.id ? "chosen" : ""}">
        <span class="row"><input type="radio" name="plan" value=${plan.id} required .checked=${chosen === plan.id} @change=${() => { chosen = plan.id; dialog.redraw(); }} /><b class="grow">${plan.name}</b>
          <span class="badge ${fits(plan, incident) ? "good" : ""}">${t(fits(plan, incident) ? "plan.fits" : "plan.unfit")}</span></span>
        <span class="small muted">${organisationName(plan.organisation)} · ${plan.categories.map((/** @type {string} */ code) => t(`category.${code}`)).join(" / ") || t("word.all")} · ${plan.levels.join(" ") || t("word.all")} · ${t("word.version", { n: plan.version })}</span>
        ${chosen === plan.id ? planEffects(plan, incident) : nothing}
      </label>`)}
    </div>`,
    send: async () => (chosen ? plans.find((plan) => plan.id === chosen) : null),
  });
  if (done && done !== true) await request(incident, done);
}

class Plans extends Part {
  static follows = ["plan", "activation", "unit", "person", "organisation", "group"];
  static properties = { incident: { attribute: false } };
  constructor() {
    super();
    /** @type {Record<string, any>} */
    this.incident = {};
  }
  render() {
    const row = this.incident;
    const activations = live.rows("activation").filter((one) => one.incident === row.id);
    const waiting = activations.filter((one) => one.state === "requested");
    const decided = activations.filter((one) => one.state !== "requested");
    return html`${waiting.map(activationCard)}
      <section class="panel">
        <header><h2>${t("incident.plans")} <span class="count">${decided.filter((one) => one.state === "approved").length}</span></h2>
          ${decides("plan.activate", row) && row.open ? html`<button class="small" id="activate" @click=${() => void choose(row)}><wa-icon name="lightning-charge"></wa-icon>${t("plan.activate")}</button>` : nothing}
        </header>
        ${decided.length ? html`<ul class="plain-list">${decided.map((one) => html`<li><div class="row spread"><b>${one.plan.name}</b>${stateBadge("activation", one.state)}</div>
          <div class="small muted">${t("word.version", { n: one.plan.version })} · ${shortTime(one.decided_at)}${one.decision_reason ? ` · ${one.decision_reason}` : ""}</div></li>`)}</ul>` : nothing}
      </section>`;
  }
}
customElements.define("fh-incident-plans", Plans);
