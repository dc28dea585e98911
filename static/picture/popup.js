// @ts-check
// What a click on the map tells: about an incident, a unit, a fence.

import { html, nothing } from "lit";
import { post } from "../api.js";
import { colon, joined, organisationName, personName, unitName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { confirmDialog } from "../parts/dialog.js";
import { exerciseBadge, levelBadge, stateBadge } from "../parts/small.js";
import { attempt } from "../parts/toast.js";
import { may } from "../session.js";
import { editFence, reshapeFence } from "./fence.js";

/** @param {string} table @param {string} id @param {() => void} close */
export function popup(table, id, close) {
  const row = live.row(table, id);
  if (!row) return nothing;
  if (table === "incident") return incidentPopup(row);
  return table === "unit" ? unitPopup(row) : fencePopup(row, close);
}

/** @param {Record<string, any>} row */
const incidentPopup = (row) => html`<div class="stack">
  <h3>${row.title}</h3>
  <div class="row wrap">${levelBadge(row.level)}${stateBadge("state", row.state)}${exerciseBadge(row.exercise)}</div>
  <div class="small muted">${row.place.address}</div>
  <a class="button small" href=${`#/incident/${row.id}`}>${t("act.open")}</a>
</div>`;

/** @param {Record<string, any>} row */
function unitPopup(row) {
  const seen = live.row("location", row.id);
  return html`<div class="stack">
    <h3>${row.name}</h3>
    <div class="row wrap">${stateBadge("unit.status", row.status)}<span class="muted small">${t(`unit.kind.${row.kind}`)} · ${organisationName(row.organisation)}</span></div>
    ${row.capability ? html`<div class="small">${row.capability}</div>` : nothing}
    <div class="small">${seen ? html`${t("map.seen")} <fh-ago location .at=${seen.at}></fh-ago>${seen.speed_mps ? html` · ${(seen.speed_mps * 3.6).toFixed(0)} km/h` : nothing}` : html`<span class="muted">${t("map.never_seen")}</span>`}</div>
    ${row.members.length ? html`<div class="small muted">${joined(row.members.map(personName))}</div>` : nothing}
    ${row.orders.map((/** @type {string} */ id) => html`<div class="small"><wa-icon name="flag"></wa-icon> ${live.row("order", id)?.task ?? id}</div>`)}
  </div>`;
}

/** @param {Record<string, any>} row @param {() => void} close */
function fencePopup(row, close) {
  const incident = live.row("incident", row.incident);
  const remove = async () => {
    close();
    const sure = await confirmDialog({ title: () => t("fence.remove", { name: row.name }), text: () => t("fence.remove_text"), label: () => t("act.remove"), tone: "danger" });
    if (sure) await attempt(() => post(`/fences/${row.id}/remove`, { version: row.version }));
  };
  const map = /** @type {any} */ (document.querySelector("fh-map"));
  return html`<div class="stack">
    <h3>${row.name}</h3>
    <div class="small muted">${row.rules.map((/** @type {string} */ rule) => t(`rules.${rule}`)).join(" · ")} · ${organisationName(row.organisation)}</div>
    ${incident ? html`<a class="small" href=${`#/incident/${incident.id}`}>${incident.title}</a>` : html`<span class="small muted">${t("fence.standing")}</span>`}
    <div class="small">${t("fence.inside")}${colon()}${row.inside.length ? joined(row.inside.map(unitName)) : t("word.none")}</div>
    ${may("fence.edit", row)
      ? html`<div class="row wrap">
          <button class="small" @click=${() => { close(); void editFence(map, row); }}>${t("act.edit")}</button>
          <button class="small" @click=${() => { close(); void reshapeFence(map, row); }}>${t("fence.reshape")}</button>
          <button class="small danger" @click=${() => void remove()}>${t("act.remove")}</button>
        </div>`
      : nothing}
  </div>`;
}
