// @ts-check
// Accounts: who may sign in as what; passwords, second factors, tokens and sessions of others.
//
// Never shows a secret twice. Invariant: a one-time password or token is on the screen only in the dialog that made it.

import { html, nothing } from "lit";
import { get, post, send } from "../api.js";
import { anyName, fullTime, organisationName, personName, shortTime } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { sendEdit } from "../parts/conflict.js";
import { confirmDialog, formDialog, openDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import { busy, empty } from "../parts/small.js";
import "../parts/table.js";
import { attempt, toast } from "../parts/toast.js";
import { may, who } from "../session.js";
import "./choose.js";
import { people } from "./choose.js";
import { addButton, field, head, organisationOptions, text } from "./forms.js";

const ROLES = ["duty_officer", "leader", "resource_officer", "field_member", "meeting_chair", "notice_reviewer", "viewer", "service", "system_admin", "security_admin", "audit_admin"];

class Accounts extends Part {
  static follows = ["account", "organisation", "person", "unit"];

  render() {
    const edit = may("account.edit");
    /** @type {import("../parts/table.js").Column[]} */
    const columns = [
      { key: "name", title: () => t("signin.name"), cell: (row) => html`<b>${row.name}</b>${row.person ? html`<div class="muted small">${personName(row.person)}</div>` : nothing}`, text: (row) => `${row.name} ${personName(row.person)}` },
      { key: "roles", title: () => t("label.roles"), cell: (row) => row.roles.map((/** @type {string} */ role) => html`<span class="badge">${t(`role.${role}`)}</span> `), text: (row) => row.roles.map((/** @type {string} */ role) => t(`role.${role}`)).join(" ") },
      { key: "organisation", title: () => t("label.organisation"), text: (row) => organisationName(row.organisation) },
      { key: "state", title: () => t("label.state"), cell: (row) => this.state(row), text: (row) => (row.locked ? 1 : 0) },
      { key: "actions", title: () => "", class: "actions", cell: (row) => html`<button class="small" data-act="open" @click=${() => void openAccount(row.id)}>${t("act.open")}</button>`, text: () => "" },
    ];
    return html`${head("accounts", edit ? addButton(() => void createAccount(), t("account.create")) : nothing)}
      <fh-table .columns=${columns} .rows=${live.rows("account").sort((a, b) => a.name.localeCompare(b.name))}></fh-table>`;
  }

  /** @param {any} row */
  state(row) {
    return html`${row.locked ? html`<span class="badge bad"><wa-icon name="lock-fill"></wa-icon>${t("account.locked")}</span>` : nothing}
      ${row.must_change_password ? html`<span class="badge warn">${t("account.must_change")}</span>` : nothing}
      ${row.totp ? html`<span class="badge good">${t("act.totp")}</span>` : nothing}`;
  }
}
customElements.define("fh-admin-accounts", Accounts);

/** A secret in its only showing. @param {string} title @param {string} note @param {string | null} secret */
function showSecret(title, note, secret) {
  if (secret === null) return toast(t("account.shown_before"), "warn");
  const copy = () => void attempt(() => navigator.clipboard.writeText(secret), () => t("account.copied"));
  return openDialog({
    title: () => title,
    size: "narrow",
    name: "secret",
    body: (dialog) => html`<div class="body stack"><p>${note}</p><output class="secret mono" id="secret">${secret}</output><p class="note-line small">${t("account.once")}</p></div>
      <footer>${navigator.clipboard ? html`<button @click=${copy}><wa-icon name="clipboard"></wa-icon>${t("act.copy")}</button>` : nothing}<button class="primary" @click=${() => dialog.close(true)}>${t("account.noted")}</button></footer>`,
  }).result;
}

/** @param {string[]} chosen */
const roleBoxes = (chosen) => html`<fieldset><legend>${t("label.roles")}</legend><div class="checks">${ROLES.map((role) => html`<label class="check"><input type="checkbox" name="roles" value=${role} ?checked=${chosen.includes(role)} />${t(`role.${role}`)}</label>`)}</div><p class="faint small">${t("account.separate")}</p></fieldset>`;

/** @param {any} row @param {{person: string[], unit: string}} draft @param {() => void} redraw */
const bindings = (row, draft, redraw) => html`
  ${field(t("label.organisation"), html`<select name="organisation" required>${organisationOptions(row?.organisation)}</select>`, { required: true })}
  ${field(t("account.language"), html`<select name="language"><option value="zh" ?selected=${row?.language !== "en"}>中文</option><option value="en" ?selected=${row?.language === "en"}>English</option></select>`)}
  ${field(t("party.unit"), html`<select name="unit"><option value="">${t("word.none")}</option>${live.rows("unit").filter((unit) => !unit.retired || unit.id === row?.unit).map((unit) => html`<option value=${unit.id} ?selected=${unit.id === row?.unit}>${unit.name}</option>`)}</select>`, { wide: "" })}
  <fieldset><legend>${t("account.person")}</legend><fh-choose single label=${t("account.person")} .options=${people()} .value=${draft.person} @change=${(/** @type {CustomEvent} */ event) => { draft.person = event.detail; redraw(); }}></fh-choose></fieldset>`;

/** @param {FormData} data @param {{person: string[]}} draft */
const values = (data, draft) => ({ roles: data.getAll("roles").map(String), organisation: text(data, "organisation"), language: text(data, "language"), unit: text(data, "unit") || null, person: draft.person[0] ?? null });

async function createAccount() {
  const draft = { person: /** @type {string[]} */ ([]), unit: "" };
  let name = "";
  const issued = await formDialog({
    title: () => t("account.create"),
    name: "account",
    fields: (dialog) => html`<div class="form">
      ${field(t("signin.name"), html`<input name="name" required minlength="2" maxlength="64" pattern="[a-z0-9][a-z0-9._\\-]*" autocapitalize="none" spellcheck="false" autocomplete="off" autofocus />`, { wide: "", required: true, hint: t("account.name_hint") })}
      ${roleBoxes([])}${bindings(null, draft, dialog.redraw)}</div>`,
    label: () => t("account.create"),
    send: (data) => post("/accounts", { name: (name = text(data, "name")), ...values(data, draft) }),
  });
  if (issued) await showSecret(t("account.password_of", { name }), t("account.first"), issued.secret);
}

/** @param {any} row */
async function editAccount(row) {
  const draft = { person: row.person ? [row.person] : [], unit: row.unit ?? "" };
  await formDialog({
    title: () => row.name,
    name: "account",
    label: () => t("act.save"),
    fields: (dialog) => html`<div class="form">${roleBoxes(row.roles)}${bindings(row, draft, dialog.redraw)}</div>`,
    send: async (data) => {
      const wanted = values(data, draft);
      const changed = Object.fromEntries(Object.entries(wanted).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(row[key])));
      if (!Object.keys(changed).length) return true;
      return (await sendEdit("PATCH", `/accounts/${row.id}`, { id: row.id, version: row.version, ...changed })) ?? true;
    },
  });
}

/** One account with everything that can be done about it. @param {string} id */
async function openAccount(id) {
  /** @type {any} */
  let file = null;
  /** @type {any[] | null} */
  let sessions = null;
  const row = () => live.row("account", id) ?? { id, name: id, roles: [], version: 0 };
  const fill = () => attempt(async () => {
    file = await get(`/accounts/${id}`);
    sessions = may("session.revoke") ? (await get("/sessions", { account: id })).items : [];
    dialog.redraw();
  });
  const act = (/** @type {() => Promise<any>} */ action) => void attempt(action, () => t("done.saved")).then(fill);
  const dialog = openDialog({
    title: () => row().name,
    size: "wide",
    name: "account-file",
    body: () => html`<div class="body stack">${file === null ? busy() : accountBody(row(), file, sessions, { act, fill })}</div>`,
  });
  const end = live.follow(["account"], () => dialog.redraw());
  void dialog.result.then(end);
  await fill();
}

/** @param {any} row @param {any} file @param {any[] | null} sessions @param {{act: (action: () => Promise<any>) => void, fill: () => Promise<any>}} on */
function accountBody(row, file, sessions, { act, fill }) {
  const edit = may("account.edit");
  const own = row.id === who()?.account;
  const sure = async (/** @type {string} */ key, /** @type {() => Promise<any>} */ action) => {
    if (await confirmDialog({ title: () => row.name, text: () => html`<p>${t(key)}</p>`, tone: "danger", label: () => t("act.confirm") })) await attempt(action);
    await fill();
  };
  const reset = async () => {
    const issued = await post(`/accounts/${row.id}/password`, {});
    await showSecret(t("account.password_of", { name: row.name }), t("account.reset_done"), issued.secret);
  };
  const lock = () => sendEdit("PATCH", `/accounts/${row.id}`, { id: row.id, version: row.version, locked: !row.locked });
  return html`<dl class="plain-facts">
      <dt>${t("label.roles")}</dt><dd>${row.roles.map((/** @type {string} */ role) => t(`role.${role}`)).join(t("admin.comma"))}</dd>
      <dt>${t("label.organisation")}</dt><dd>${organisationName(row.organisation)}</dd>
      <dt>${t("account.person")}</dt><dd>${personName(row.person)}</dd><dt>${t("party.unit")}</dt><dd>${anyName(row.unit)}</dd>
      <dt>${t("act.totp")}</dt><dd>${t(row.totp ? "word.yes" : "word.no")}</dd>
      <dt>${t("account.failures")}</dt><dd>${file.failures}${file.locked_until ? html` · <span class="bad">${t("account.locked_until", { at: fullTime(file.locked_until) })}</span>` : nothing}</dd>
    </dl>
    ${edit ? html`<div class="row wrap">
      <button @click=${() => void editAccount(row).then(fill)}><wa-icon name="pencil"></wa-icon>${t("act.edit")}</button>
      <button data-act="reset" @click=${() => void sure("account.reset_text", reset)}><wa-icon name="key"></wa-icon>${t("account.reset")}</button>
      ${row.totp ? html`<button @click=${() => void sure("account.totp_text", () => send("DELETE", `/accounts/${row.id}/totp`, {}))}><wa-icon name="shield-slash"></wa-icon>${t("account.totp_reset")}</button>` : nothing}
      ${file.locked_until ? html`<button class="good" @click=${() => act(() => post(`/accounts/${row.id}/unlock`, {}))}>${t("account.unlock")}</button>` : nothing}
      ${row.roles.length === 1 && row.roles[0] === "service" ? html`<button @click=${() => void newToken(row).then(fill)}><wa-icon name="plug"></wa-icon>${t("account.token")}</button>` : nothing}
      ${own ? nothing : html`<button class=${row.locked ? "good" : "danger"} data-act="lock" @click=${() => (row.locked ? act(lock) : void sure("account.lock_text", lock))}><wa-icon name=${row.locked ? "unlock" : "lock"}></wa-icon>${t(row.locked ? "account.open_lock" : "account.lock")}</button>`}
    </div>` : nothing}
    <h3>${t("account.sessions")}</h3>
    ${sessions === null ? busy() : sessions.length === 0 ? empty("pc-display", t("word.nothing")) : html`<div class="table-scroll"><table class="data"><thead><tr><th>${t("session.from")}</th><th>${t("session.since")}</th><th>${t("session.until")}</th><th></th></tr></thead><tbody>
      ${sessions.map((item) => html`<tr><td>${item.label || item.address}<div class="muted small">${item.token ? t("session.token") : item.agent}</div></td><td class="num" title=${fullTime(item.opened_at)}>${shortTime(item.opened_at)}</td><td class="num" title=${fullTime(item.expires_at)}>${shortTime(item.expires_at)}</td>
        <td class="actions">${item.current ? html`<span class="badge good">${t("session.current")}</span>` : html`<button class="small danger" @click=${() => act(() => send("DELETE", `/sessions/${item.id}`))}>${t("session.end")}</button>`}</td></tr>`)}</tbody></table></div>`}`;
}

/** @param {any} row */
async function newToken(row) {
  const issued = await formDialog({
    title: () => t("account.token"),
    name: "token",
    size: "narrow",
    label: () => t("account.token"),
    fields: () => html`<div class="stack">${field(t("account.token_label"), html`<input name="label" required maxlength="100" autofocus />`, { required: true })}${field(t("account.token_days"), html`<input name="days" type="number" min="1" max="1100" value="365" required />`, { required: true })}</div>`,
    send: (data) => post(`/accounts/${row.id}/tokens`, { label: text(data, "label"), days: Number(data.get("days")) }),
  });
  if (issued) await showSecret(t("account.token"), t("account.token_done"), issued.secret);
}
