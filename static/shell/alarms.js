// @ts-check
// The strip of alarms under the top bar: what, since when, and the button that ends them.

import { html, nothing } from "lit";
import { acknowledge, audible, enableNotifications, enableSound, notifications, onAlarm, open, ours, silence, silenced, words } from "../alarm.js";
import { t } from "../i18n.js";
import { awaited, nodeName, owned } from "../parts/nodes.js";
import { Part } from "../parts/part.js";
import { levelBadge } from "../parts/small.js";
import { attempt } from "../parts/toast.js";
import { live } from "../live.js";
import { may } from "../session.js";

const SHOWN = 6;

class Alarms extends Part {
  static follows = ["alarm", "incident", "order", "report_due", "node", "transfer", "ask"];
  connectedCallback() {
    super.connectedCallback();
    this.until(onAlarm(() => this.requestUpdate()));
  }
  render() {
    const alarms = open();
    const asked = awaited();
    if (!alarms.length && !asked.length) return nothing;
    const mine = may("alarm.acknowledge");
    return html`<section class="alarms" aria-label=${t("alarm.title")} aria-live="assertive">
      <span class="bell"><wa-icon name="bell-fill"></wa-icon>${t("alarm.title")} <span class="count hot">${alarms.length + asked.length}</span></span>
      ${mine ? this.sound() : nothing} ${asked.map((one) => this.awaits(one))} ${alarms.slice(0, SHOWN).map((alarm) => this.one(alarm))}
      ${alarms.length > SHOWN ? html`<span class="muted">+${alarms.length - SHOWN}</span>` : nothing}
    </section>`;
  }
  /** Somebody waits for this node's answer. @param {ReturnType<typeof awaited>[number]} one */
  awaits(one) {
    const incident = live.row("incident", one.incident);
    const text = t(`own.awaits.${one.kind}`, { title: incident?.title ?? one.incident });
    return html`<div class="alarm" data-awaits=${one.id}>${incident ? levelBadge(incident.level) : nothing}<wa-icon name="person-raised-hand" class="warn"></wa-icon><a href=${`#/incident/${one.incident}`} title=${text}>${text}</a><span class="muted small"><fh-ago .at=${one.at}></fh-ago></span></div>`;
  }
  sound() {
    const ask = notifications() === "default";
    return html`${!audible()
        ? html`<button class="small" @click=${() => void enableSound()}><wa-icon name="volume-mute"></wa-icon>${t("alarm.enable_sound")}</button>`
        : html`<button class="small icon" title=${t("alarm.silence")} aria-label=${t("alarm.silence")} aria-pressed=${silenced()} @click=${silence}><wa-icon name=${silenced() ? "volume-mute" : "volume-up"}></wa-icon></button>`}
      ${ask ? html`<button class="small icon" title=${t("alarm.enable_desktop")} aria-label=${t("alarm.enable_desktop")} @click=${() => void enableNotifications()}><wa-icon name="window-stack"></wa-icon></button>` : nothing}`;
  }
  /** @param {Record<string, any>} alarm */
  one(alarm) {
    const incident = live.row("incident", alarm.incident);
    return html`<div class="alarm" data-alarm=${alarm.id}>
      ${incident ? levelBadge(incident.level) : nothing}
      <a href=${`#/incident/${alarm.incident}`} title=${words(alarm)}>${words(alarm)}</a>
      <span class="muted small"><fh-ago .at=${alarm.raised_at}></fh-ago></span>
      ${ours(alarm) ? html`<button class="small danger" @click=${() => void attempt(() => acknowledge(alarm))}>${t("act.acknowledge")}</button>` : incident && !owned(incident) ? html`<span class="badge">${t("alarm.waits_for", { node: nodeName(incident.owner) })}</span>` : nothing}
    </div>`;
  }
}
customElements.define("fh-alarms", Alarms);
