// @ts-check
// Administration: one section at a time, only those that the session's rights open.
//
// Decides nothing. Invariant: a section without a right is neither shown nor loaded.

import { html, nothing } from "lit";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { Part, styleSheet } from "../parts/part.js";
import { busy, empty } from "../parts/small.js";
import { may, onSession } from "../session.js";

styleSheet("/static/admin/admin.css");

/** @type {{name: string, icon: string, tag: string, rights: string[], load: () => Promise<unknown>}[]} */
export const SECTIONS = [
  { name: "accounts", icon: "person-badge", tag: "fh-admin-accounts", rights: ["account.read"], load: () => import("./accounts.js") },
  { name: "organisations", icon: "diagram-3", tag: "fh-admin-organisations", rights: ["registry.edit"], load: () => import("./organisations.js") },
  { name: "units", icon: "truck", tag: "fh-admin-units", rights: ["unit.edit"], load: () => import("./units.js") },
  { name: "persons", icon: "people", tag: "fh-admin-persons", rights: ["person.edit", "roster.edit"], load: () => import("./persons.js") },
  { name: "groups", icon: "collection", tag: "fh-admin-groups", rights: ["group.edit"], load: () => import("./groups.js") },
  { name: "roster", icon: "calendar-week", tag: "fh-admin-roster", rights: ["roster.edit"], load: () => import("./roster.js") },
  { name: "plans", icon: "journal-check", tag: "fh-admin-plans", rights: ["plan.edit"], load: () => import("./plans.js") },
  { name: "reports", icon: "alarm", tag: "fh-admin-reports", rights: ["report_rule.edit"], load: () => import("./reports.js") },
  { name: "templates", icon: "chat-square-quote", tag: "fh-admin-templates", rights: ["template.edit"], load: () => import("./templates.js") },
  { name: "import", icon: "file-earmark-spreadsheet", tag: "fh-admin-import", rights: ["import.persons"], load: () => import("./import.js") },
  { name: "audit", icon: "shield-check", tag: "fh-admin-audit", rights: ["audit.read"], load: () => import("./audit.js") },
];

class AdminPage extends Part {
  static properties = { params: { attribute: false }, query: { attribute: false }, shown: { state: true } };

  constructor() {
    super();
    /** @type {Record<string, string>} */
    this.params = {};
    this.shown = "";
    /** @type {HTMLElement | null} */
    this.section = null;
  }

  topics() {
    return ["admin"];
  }

  connectedCallback() {
    super.connectedCallback();
    this.until(onSession(() => this.requestUpdate()));
    this.until(live.follow(["organisation"], () => this.requestUpdate()));
  }

  open() {
    return SECTIONS.filter((section) => section.rights.some((right) => may(right)));
  }

  updated() {
    const sections = this.open();
    const wanted = sections.find((section) => section.name === this.params.section) ?? sections[0];
    if (wanted && wanted.name !== this.shown) void this.show(wanted);
    const place = this.querySelector(".admin-body");
    if (place && this.section && this.section.parentElement !== place) place.replaceChildren(this.section);
  }

  /** @param {(typeof SECTIONS)[number]} section */
  async show(section) {
    this.shown = section.name;
    this.section = null;
    await section.load();
    if (this.shown !== section.name) return;
    this.section = document.createElement(section.tag);
    this.requestUpdate();
  }

  render() {
    const sections = this.open();
    if (!sections.length) return empty("lock", t("error.rights.denied"));
    return html`<div class="admin">
      <nav class="admin-nav no-print" aria-label=${t("nav.admin")}>${sections.map((section) => html`<a href=${`#/admin/${section.name}`} aria-current=${section.name === this.shown ? "page" : nothing}><wa-icon name=${section.icon}></wa-icon><span>${t(`admin.${section.name}`)}</span></a>`)}</nav>
      ${live.ready("admin") ? html`<div class="admin-body" data-section=${this.shown}></div>` : busy()}
    </div>`;
  }
}
customElements.define("fh-admin-page", AdminPage);
