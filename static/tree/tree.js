// @ts-check
// The tree of nodes: who stands where, which links stand, how far each lags behind, what waits to be sent; invitations.
//
// Never shows a code twice. Invariant: a neighbour's state is this node's own observation, any other's is what a neighbour told.

import { html, nothing } from "lit";
import { get, post } from "../api.js";
import { ageOf, duration, organisationName } from "../format.js";
import { t, tOr } from "../i18n.js";
import { live } from "../live.js";
import { formDialog, openDialog, reasonDialog } from "../parts/dialog.js";
import { above, here as thisNode, KINDS, LEVELS, nodeIcon, nodeName, revokedHere, skewed } from "../parts/nodes.js";
import { Part, styleSheet } from "../parts/part.js";
import { busy } from "../parts/small.js";
import { attempt, toast } from "../parts/toast.js";
import { may } from "../session.js";
import { field, organisationOptions, text } from "../admin/forms.js";

const LOOK_MS = 5000;
const QUIET_S = 8; // a neighbour is pinged every 5 s

/** Nodes with their depth, the root first, each below its superior. @returns {{row: any, depth: number}[]} */
function ordered() {
  const rows = live.rows("node");
  const known = new Set(rows.map((row) => row.id));
  /** @param {string | null} parent @param {number} depth @returns {{row: any, depth: number}[]} */
  const below = (parent, depth) =>
    depth > 16
      ? []
      : rows
          .filter((row) => (parent === null ? !row.parent || !known.has(row.parent) : row.parent === parent))
          .sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level) || a.name.localeCompare(b.name))
          .flatMap((row) => [{ row, depth }, ...below(row.id, depth + 1)]);
  return below(null, 0);
}

/** @param {number} us */
const seconds = (us) => `${(Math.round(us / 1e5) / 10 || 0).toFixed(1)} s`;

class TreePage extends Part {
  static follows = ["node", "presence", "organisation"];
  static ticks = true;
  static properties = { line: { state: true } };

  constructor() {
    super();
    styleSheet("/static/tree/tree.css");
    /** @type {any} */
    this.line = null;
    this._timer = 0;
  }

  topics() {
    return ["tree"];
  }

  connectedCallback() {
    super.connectedCallback();
    void this.look();
    this._timer = setInterval(() => void this.look(), LOOK_MS);
  }

  disconnectedCallback() {
    clearInterval(this._timer);
    super.disconnectedCallback();
  }

  async look() {
    try {
      this.line = await get("/tree/line");
    } catch {
      // The next look follows; what is shown has its age beside it.
    }
  }

  render() {
    if (!this.line) return busy();
    const edit = may("node.edit");
    return html`<div class="page tree-page">
      <div class="row wrap section-head"><h1>${t("tree.title")}</h1><span class="grow"></span>
        ${edit ? html`<button class="primary" data-act="invite" @click=${() => void invite()}><wa-icon name="plus-lg"></wa-icon>${t("tree.invite")}</button>` : nothing}
        ${edit && !this.line.parent ? html`<button data-act="join" @click=${() => void join()}>${t("tree.join")}</button>` : nothing}</div>
      ${this.superior()}
      <div class="table-scroll"><table class="data tree" role="treegrid">
        <thead><tr><th>${t("tree.node")}</th><th class="roomy">${t("tree.level")}</th><th class="roomy">${t("tree.seat")}</th><th>${t("tree.link")}</th><th class="roomy">${t("tree.contact")}</th><th>${t("tree.lag")}</th><th class="roomy">${t("tree.rtt")}</th><th class="roomy">${t("tree.skew")}</th><th></th></tr></thead>
        <tbody>${ordered().map(({ row, depth }) => this.row(row, depth, edit))}</tbody>
      </table></div>
      <p class="faint small">${t("tree.note")}</p>
    </div>`;
  }

  superior() {
    const { parent, linked, refused } = this.line;
    if (!parent) return html`<p class="note-line ${refused ? "bad" : ""}" id="superior">${t("tree.no_parent")} ${this.why(refused)}</p>`;
    const name = nodeName(parent);
    const state = live.row("presence", parent);
    if (linked) return html`<p class="note-line good" id="superior">${t("tree.linked_to", { name })}</p>`;
    if (revokedHere()) return html`<p class="note-line bad" id="superior">${t("tree.revoked_by", { name })}</p>`;
    if (!state || state.known === false) return html`<p class="note-line" id="superior">${t("tree.dials", { name })} ${this.why(refused)}</p>`;
    return html`<p class="note-line bad" id="superior">${t("tree.cut_from", { name })} ${this.why(state.refused || refused)}</p>`;
  }

  /** Why the superior was not reached or said no, in words; the code is what the operator's handbook lists. @param {string} code */
  why(code) {
    return code ? html`<span id="why">${tOr(`tree.why.${code}`, "")} <code>${code}</code></span>` : nothing;
  }

  /** @param {any} row @param {number} depth @param {boolean} edit */
  row(row, depth, edit) {
    const state = this.state(row.id);
    const here = row.id === this.line.here;
    const neighbour = row.parent === this.line.here || row.id === this.line.parent;
    return html`<tr data-id=${row.id} role="row" aria-level=${depth + 1} class=${here ? "here" : ""}>
      <td><span class="branch indent-${Math.min(depth, 7)}">${depth ? html`<wa-icon name="arrow-return-right" class="faint"></wa-icon> ` : nothing}<wa-icon name=${nodeIcon(row.id)} label=${t(`tree.kind.${row.kind}`)}></wa-icon> <b>${row.name}</b></span></td>
      <td class="roomy">${t(`tree.level.${row.level}`)}</td>
      <td class="roomy">${row.organisation ? organisationName(row.organisation) : "—"}</td>
      <td>${this.badge(row, state, here)}${here || !state || (state.linked && state.known !== false && !this.quiet(state, neighbour)) ? nothing : html`<div class="narrow-only small">${this.contact(state, neighbour)}</div>`}${!here && state && skewed(state) ? html`<div class="narrow-only small bad">${t("tree.skew")} ${seconds(state.skew_us)}</div>` : nothing}</td>
      <td class="roomy">${here || !state ? "—" : this.contact(state, neighbour)}</td>
      <td class="num">${here || !state || state.known === false || row.revoked ? "—" : this.lag(state)}</td>
      <td class="num roomy">${neighbour && state?.linked && state.rtt_us ? `${Math.round(state.rtt_us / 1000)} ms` : "—"}</td>
      <td class="num roomy">${here || !state || state.known === false || !state.linked ? "—" : html`<span class=${skewed(state) ? "bad" : ""}>${seconds(state.skew_us)}</span>`}</td>
      <td class="actions">${edit && above(this.line.here, row.id) && !row.revoked ? html`<button class="small danger" data-act="revoke" @click=${() => void revoke(row)}>${t("tree.revoke")}</button>` : nothing}</td>
    </tr>`;
  }

  /** @param {any} row @param {any} state @param {boolean} here */
  badge(row, state, here) {
    if (row.revoked) return html`<span class="badge bad">${t("tree.revoked")}</span>`;
    if (here) return html`<span class="badge">${t("tree.here")}</span>`;
    if (!state || state.known === false) return html`<span class="badge unknown">${t("tree.unknown")}</span>`;
    const via = state.via ? html` <span class="faint small">${t("tree.via", { name: nodeName(state.via) })}</span>` : nothing;
    return html`<span class="badge ${state.linked ? "good" : "bad"}">${t(state.linked ? "tree.linked" : "tree.cut")}</span>${via}`;
  }

  /** The row of a node, with what only a look at the line says: the newest contact of a neighbour. @param {string} id @returns {any} */
  state(id) {
    const row = live.row("presence", id);
    const seen = this.line.nodes.find((/** @type {any} */ one) => one.id === id);
    return row && seen ? { ...row, contact_at: Math.max(row.contact_at, seen.contact_at), rtt_us: seen.rtt_us ?? row.rtt_us } : row;
  }

  /** Whether a neighbour should have been heard since. @param {any} state @param {boolean} neighbour */
  quiet(state, neighbour) {
    return neighbour && ageOf(state.contact_at) > QUIET_S;
  }

  /** When it was heard last; while its link stands only a silence is worth words. @param {any} state @param {boolean} neighbour */
  contact(state, neighbour) {
    if (!state.contact_at) return "—";
    if (!state.linked || state.known === false) return html`<fh-ago .at=${state.contact_at}></fh-ago>`;
    return this.quiet(state, neighbour) ? html`<span class="warn">${t("tree.quiet", { d: duration(ageOf(state.contact_at)) })}</span>` : html`<span class="muted">${t("tree.in_contact")}</span>`;
  }

  /** What waits; a dash where nobody knows: not linked since the start, or cut off from whoever told. @param {any} state */
  lag(state) {
    if (state.lag_known === false || (state.via && !state.linked && !state.lag_entries)) return "—";
    if (!state.lag_entries && !state.waiting) return html`<span class="good">${t("tree.nothing_waits")}</span>`;
    return html`<span class="warn">${t("tree.waits", { entries: state.lag_entries, d: duration(state.lag_s) })}</span>`;
  }
}
customElements.define("fh-tree-page", TreePage);

/** @param {string} label @param {string} name @param {string[]} codes @param {string} prefix @param {string} [chosen] */
const choice = (label, name, codes, prefix, chosen) => field(label, html`<select name=${name}>${codes.map((code) => html`<option value=${code} ?selected=${code === chosen}>${t(`${prefix}.${code}`)}</option>`)}</select>`);

async function invite() {
  const below = LEVELS[Math.min(LEVELS.indexOf(live.row("node", thisNode())?.level) + 1, LEVELS.length - 1)];
  const made = await formDialog({
    title: () => t("tree.invite"),
    name: "invite",
    label: () => t("tree.invite"),
    fields: () => html`<div class="form">
      ${field(t("label.name"), html`<input name="name" required maxlength="100" autofocus />`, { required: true })}
      ${choice(t("tree.kind"), "kind", KINDS, "tree.kind")}${choice(t("tree.level"), "level", LEVELS, "tree.level", below)}
      ${field(t("tree.seat"), html`<select name="organisation"><option value="">—</option>${organisationOptions(undefined)}</select>`)}</div>`,
    send: (data) => post("/tree/invitations", { name: text(data, "name"), kind: text(data, "kind"), level: text(data, "level"), organisation: text(data, "organisation") || null }),
  });
  if (!made) return;
  if (made.code === null) return toast(t("account.shown_before"), "warn");
  await openDialog({
    title: () => t("tree.code"),
    size: "narrow",
    name: "code",
    body: (dialog) => html`<div class="body stack"><p>${t("tree.code_hint")}</p><output class="secret mono aloud" id="code">${made.code}</output></div>
      <footer><button class="primary" @click=${() => dialog.close(true)}>${t("account.noted")}</button></footer>`,
  }).result;
}

async function join() {
  const sent = await formDialog({
    title: () => t("tree.join"),
    name: "join",
    label: () => t("tree.join"),
    fields: () => html`<div class="form">${field(t("tree.code"), html`<input name="code" required minlength="20" maxlength="60" class="mono" autocomplete="off" autofocus />`, { wide: "", required: true, hint: t("tree.join_hint") })}</div>`,
    send: (data) => post("/tree/join", { code: text(data, "code") }),
  });
  if (sent) toast(t("tree.joining"));
}

/** @param {any} row */
async function revoke(row) {
  await reasonDialog({
    title: () => t("tree.revoke_title", { name: row.name }),
    text: () => t("tree.revoke_text"),
    required: true,
    label: () => t("tree.revoke"),
    tone: "danger",
    send: (/** @type {string} */ reason) => attempt(() => post(`/nodes/${row.id}/revoke`, { version: row.version, reason })),
  });
}
