// @ts-check
// The rooms of an incident and the notices sent about it.

import { html, nothing } from "lit";
import { post } from "../api.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { formDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import { stateBadge } from "../parts/small.js";
import { host, way } from "../room/elsewhere.js";
import { may } from "../session.js";

/** @param {Record<string, any>} incident */
async function openRoom(incident) {
  const receipt = await formDialog({
    title: () => t("room.open_title"),
    size: "narrow",
    name: "open-room",
    label: () => t("incident.room_open"),
    fields: () => html`<label class="field"><span class="label required">${t("label.title")}</span><input name="title" maxlength="100" required autofocus .value=${t("incident.room_default")} /></label>`,
    send: (data) => post("/rooms", { incident: incident.id, title: String(data.get("title")).trim() }),
  });
  if (receipt?.id) location.hash = `#/room/${receipt.id}`;
}

class Rooms extends Part {
  static follows = ["room", "notice", "node"];
  static properties = { incident: { attribute: false } };
  constructor() {
    super();
    /** @type {Record<string, any>} */
    this.incident = {};
  }

  render() {
    const row = this.incident;
    const rooms = live.rows("room").filter((room) => room.incident === row.id).sort((a, b) => Number(b.open) - Number(a.open) || b.opened_at - a.opened_at);
    const notices = live.rows("notice").filter((notice) => notice.incident === row.id).sort((a, b) => b.created_at - a.created_at);
    return html`<section class="panel">
        <header><h2>${t("incident.rooms")} <span class="count">${rooms.filter((room) => room.open).length}</span></h2>
          ${may("room.open", row) && row.open ? html`<button class="small" id="open-room" @click=${() => void openRoom(row)}><wa-icon name="camera-video"></wa-icon>${t("incident.room_open")}</button>` : nothing}
        </header>
        ${rooms.length ? html`<ul class="plain-list">${rooms.map((room) => html`<li class="row spread">
          <div class="grow"><b>${room.title}</b><div class="small muted">${room.open ? t("incident.room_members", { n: room.members.length }) : t("incident.room_closed")}</div></div>
          ${host(room)} ${room.open ? way(room, t("incident.room_enter")) : nothing}
        </li>`)}</ul>` : nothing}
      </section>
      ${notices.length ? html`<section class="panel"><header><h2>${t("nav.notices")} <span class="count">${notices.length}</span></h2></header>
        <ul class="plain-list">${notices.map((notice) => html`<li>
          <div class="row spread"><span class="clip">${notice.text_zh || notice.text_en}</span>${stateBadge("notice.state", notice.state)}</div>
          <div class="small muted num">${t("incident.notice_counts", { total: notice.counts.total, delivered: notice.counts.delivered, answered: notice.counts.answered, failed: notice.counts.failed + notice.counts.unknown })}</div>
        </li>`)}</ul></section>` : nothing}`;
  }
}
customElements.define("fh-incident-rooms", Rooms);
