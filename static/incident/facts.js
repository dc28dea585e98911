// @ts-check
// The left column: the map about it, what is known, who told us, its fences, and the nearest units.

import { html, nothing } from "lit";
import { post } from "../api.js";
import { CASUALTIES } from "../domain.js";
import { colon, coordinates, unitName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import "../map/map.js";
import { sendEdit } from "../parts/conflict.js";
import { confirmDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import { attempt } from "../parts/toast.js";
import { drawFence, editFence } from "../picture/fence.js";
import "../picture/nearest.js";
import { popup } from "../picture/popup.js";
import { decides } from "../parts/nodes.js";
import { may } from "../session.js";
import { giveOrder } from "./orders.js";

class Facts extends Part {
  static follows = ["fence", "unit"];
  static properties = { incident: { attribute: false }, near: { state: true } };
  constructor() {
    super();
    /** @type {Record<string, any>} */
    this.incident = {};
    this.near = false;
  }

  get map() {
    return /** @type {import("../map/map.js").FenghuoMap | null} */ (this.querySelector("fh-map"));
  }

  /** @param {any} area */
  setArea(area) {
    const row = this.incident;
    return attempt(() => sendEdit("PATCH", `/incidents/${row.id}`, { version: row.version, area }), () => t("done.saved"));
  }

  /** @param {"Polygon" | "Circle"} kind */
  async drawArea(kind) {
    const shape = await this.map?.draw(kind);
    if (shape) await this.setArea(shape);
  }

  async reshape() {
    const shape = await this.map?.draw("Polygon", this.incident.area);
    if (shape) await this.setArea(shape);
  }

  async removeArea() {
    const sure = await confirmDialog({ title: () => t("incident.area_remove"), text: () => t("incident.area_remove_text"), label: () => t("act.remove"), tone: "danger" });
    if (sure) await this.setArea(null);
  }

  render() {
    const row = this.incident;
    const edit = decides("incident.edit", row) && row.open;
    return html`<section class="panel">
        <div class="incident-map"><fh-map .only=${row.id} .chosen=${row.id} .popup=${popup}></fh-map></div>
        <div class="row wrap map-tools no-print">
          ${edit
            ? html`<span class="label">${t("label.area")}</span>
                <button class="small" @click=${() => void this.drawArea("Polygon")}><wa-icon name="pentagon"></wa-icon>${t("shape.Polygon")}</button>
                <button class="small" @click=${() => void this.drawArea("Circle")}><wa-icon name="circle"></wa-icon>${t("shape.Circle")}</button>
                ${row.area ? html`<button class="small" @click=${() => void this.reshape()}>${t("fence.reshape")}</button><button class="small plain" @click=${() => void this.removeArea()}>${t("act.remove")}</button>` : nothing}`
            : nothing}
        </div>
      </section>
      ${this.known(row)} ${this.fences(row)} ${this.nearest(row)}`;
  }

  /** @param {Record<string, any>} row */
  known(row) {
    const counts = CASUALTIES.filter((name) => row.casualties[name] > 0);
    return html`<section class="panel">
      <header><h2>${t("incident.facts")}</h2></header>
      <div class="body stack">
        ${counts.length
          ? html`<ul class="counts">${counts.map((name) => html`<li class=${["dead", "missing", "trapped"].includes(name) ? "grave" : ""}><b class="num">${row.casualties[name]}</b><span>${t(`casualties.${name}`)}</span></li>`)}</ul>`
          : html`<p class="muted small">${t("incident.no_casualties")}</p>`}
        ${row.description ? html`<p class="prose">${row.description}</p>` : nothing}
        <dl class="pairs">
          <dt>${t("label.place")}</dt><dd>${row.place.address || "—"}<div class="small muted num">${coordinates(row.place)}</div></dd>
          <dt>${t("label.source")}</dt><dd>${t(`source.${row.source.kind}`)}${row.source.name ? ` · ${row.source.name}` : ""}${row.source.phone ? html` · <a href=${`tel:${row.source.phone}`}>${row.source.phone}</a>` : nothing}</dd>
          <dt>${t("label.updated_at")}</dt><dd><fh-ago .at=${row.updated_at}></fh-ago></dd>
        </dl>
      </div>
    </section>`;
  }

  /** @param {Record<string, any>} row */
  fences(row) {
    const fences = live.rows("fence").filter((fence) => fence.active && fence.incident === row.id);
    const remove = async (/** @type {Record<string, any>} */ fence) => {
      const sure = await confirmDialog({ title: () => t("fence.remove", { name: fence.name }), text: () => t("fence.remove_text"), label: () => t("act.remove"), tone: "danger" });
      if (sure) await attempt(() => post(`/fences/${fence.id}/remove`, { version: fence.version }));
    };
    const edit = may("fence.edit", row) && row.open;
    return html`<section class="panel">
      <header><h2>${t("incident.fences")} <span class="count">${fences.length}</span></h2>
        ${edit ? html`<button class="small" @click=${() => void drawFence(this.map, { kind: "Polygon", incident: row.id })}><wa-icon name="pentagon"></wa-icon>${t("shape.Polygon")}</button>
          <button class="small" @click=${() => void drawFence(this.map, { circle: row.place, incident: row.id })}><wa-icon name="circle"></wa-icon>${t("shape.Circle")}</button>` : nothing}
      </header>
      ${fences.length
        ? html`<ul class="plain-list">${fences.map((fence) => html`<li class="row spread">
            <div class="grow"><b>${fence.name}</b> <span class="small muted">${fence.rules.map((/** @type {string} */ rule) => t(`rules.${rule}`)).join(" · ")}</span>
              <div class="small ${fence.inside.length ? "warn" : "muted"}">${t("fence.inside")}${colon()}${fence.inside.length ? fence.inside.map(unitName).join(" / ") : t("word.none")}</div></div>
            ${edit ? html`<button class="small plain icon" title=${t("act.edit")} aria-label=${t("act.edit")} @click=${() => void editFence(this.map, fence)}><wa-icon name="pencil"></wa-icon></button>
              <button class="small plain icon" title=${t("act.remove")} aria-label=${t("act.remove")} @click=${() => void remove(fence)}><wa-icon name="trash"></wa-icon></button>` : nothing}
          </li>`)}</ul>`
        : nothing}
    </section>`;
  }

  /** @param {Record<string, any>} row */
  nearest(row) {
    return html`<section class="panel no-print">
      <header><h2>${t("nearest.title")}</h2><button class="small" aria-expanded=${this.near} @click=${() => (this.near = !this.near)}>${t(this.near ? "incident.hide" : "incident.show")}</button></header>
      ${this.near ? html`<div class="body"><fh-nearest .place=${row.place} .pick=${decides("order.issue", row) && row.open ? (/** @type {string} */ id) => void giveOrder(row, { kind: "unit", id }) : null}></fh-nearest></div>` : nothing}
    </section>`;
  }
}
customElements.define("fh-incident-facts", Facts);
