// @ts-check
// Who is on duty now, by organisation; leaders marked.

import { html, nothing } from "lit";
import { now } from "../clock.js";
import { organisationName, personName, shortTime } from "../format.js";
import { t, tOr } from "../i18n.js";
import { live } from "../live.js";
import { Part } from "../parts/part.js";
import { who } from "../session.js";

const TIERS = ["province", "city", "county", "department"];
const EVERY_S = 30;

class Duty extends Part {
  static follows = ["shift", "person", "organisation"];
  static ticks = true;

  /** Not every second: shifts change rarely. */
  shouldUpdate() {
    const key = `${Math.floor(Date.now() / 1000 / EVERY_S)}`;
    const due = key !== this._key || this._dirty !== false;
    this._key = key;
    this._dirty = false;
    return due;
  }

  connectedCallback() {
    super.connectedCallback();
    this.until(live.follow(["shift", "person", "organisation"], () => (this._dirty = true)));
    this._dirty = true;
  }

  render() {
    const at = now();
    /** @type {Map<string, Record<string, any>[]>} */
    const groups = new Map();
    for (const shift of live.rows("shift"))
      if (shift.starts_at <= at && at < shift.ends_at) groups.set(shift.organisation, [...(groups.get(shift.organisation) ?? []), shift]);
    const own = who()?.organisation?.id;
    const order = (/** @type {string} */ id) => (id === own ? -1 : TIERS.indexOf(live.row("organisation", id)?.tier ?? "department"));
    const ids = [...groups.keys()].sort((a, b) => order(a) - order(b) || organisationName(a).localeCompare(organisationName(b)));
    return html`<div class="duty">
      <h2><wa-icon name="person-badge"></wa-icon> ${t("duty.title")}</h2>
      ${ids.length === 0 ? html`<span class="warn">${t("duty.nobody")}</span>` : nothing}
      <ul>${ids.map((id) => html`<li class=${id === own ? "own" : ""}>
        <b>${organisationName(id)}</b>
        ${groups.get(id)?.sort((a, b) => Number(b.leader) - Number(a.leader)).map(
          (shift) => html`<span class="nowrap" title=${t("duty.until", { at: shortTime(shift.ends_at) })}><span class="muted">${tOr(`post.${shift.post}`, shift.post)}</span> ${personName(shift.person)}${shift.leader ? html` <wa-icon name="star-fill" class="warn" label=${t("duty.leader")}></wa-icon>` : nothing}</span>`,
        )}
      </li>`)}</ul>
    </div>`;
  }
}
customElements.define("fh-duty", Duty);
