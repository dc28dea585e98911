// @ts-check
// One's own account: password, second factor, sessions.

import { html, nothing } from "lit";
import { ApiError, get, post, send, textOf } from "../api.js";
import { fullTime, shortTime } from "../format.js";
import { t } from "../i18n.js";
import { formDialog, openDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import { busy, empty } from "../parts/small.js";
import { attempt, toast } from "../parts/toast.js";
import { become, who } from "../session.js";

export const PASSWORD_MIN = 10;

export const passwordFields = () => html`
  <label class="field"><span class="label">${t("signin.old")}</span><input name="old" type="password" autocomplete="current-password" required /></label>
  <label class="field"><span class="label">${t("signin.new", { n: PASSWORD_MIN })}</span><input name="new" type="password" autocomplete="new-password" minlength=${PASSWORD_MIN} maxlength="200" required /></label>
  <label class="field"><span class="label">${t("signin.again")}</span><input name="again" type="password" autocomplete="new-password" required /></label>`;

/** @param {FormData} data */
export async function sendPassword(data) {
  if (data.get("new") !== data.get("again")) throw new ApiError(422, "password.differ", t("error.password.differ"));
  become(await post("/session/password", { old: String(data.get("old")), new: String(data.get("new")) }));
}

export async function changePassword() {
  const done = await formDialog({
    title: () => t("act.password"),
    size: "narrow",
    name: "password",
    fields: () => html`<div class="stack">${passwordFields()}<p class="muted small">${t("signin.others_end")}</p></div>`,
    send: sendPassword,
  });
  if (done) toast(t("done.password"), "good");
}

/** The second factor: a QR code, its secret as text, and the code that confirms it. Fires `done`. */
export class TotpForm extends Part {
  static properties = { secret: { state: true }, error: { state: true } };
  constructor() {
    super();
    /** @type {{secret: string, uri: string, svg: string} | null} */
    this.secret = null;
    this.error = "";
  }
  connectedCallback() {
    super.connectedCallback();
    if (!who()?.totp) void this.start();
  }
  /** @param {string} [password] */
  async start(password) {
    try {
      this.secret = await post("/session/totp", password ? { password } : {});
      this.error = "";
    } catch (error) {
      this.error = textOf(error);
    }
  }
  render() {
    const problem = this.error ? html`<p class="error-line" role="alert">${this.error}</p>` : nothing;
    if (!this.secret && who()?.totp)
      return html`<form class="stack" @submit=${this.prove}>
        <p>${t("totp.replace")}</p>
        <label class="field"><span class="label">${t("signin.password")}</span><input name="password" type="password" autocomplete="current-password" required /></label>
        ${problem}<button class="primary">${t("act.next")}</button>
      </form>`;
    if (!this.secret) return html`${problem || busy()}`;
    return html`<form class="stack" @submit=${this.confirm}>
      <p class="small">${t("totp.scan")}</p>
      <div class="qr"><img width="200" height="200" alt=${t("totp.qr")} src=${`data:image/svg+xml,${encodeURIComponent(this.secret.svg)}`} /></div>
      <p class="small muted">${t("totp.typed")} <code>${this.secret.secret.match(/.{1,4}/g)?.join(" ")}</code></p>
      <label class="field"><span class="label">${t("signin.code")}</span><input name="code" inputmode="numeric" autocomplete="one-time-code" required /></label>
      ${problem}<button class="primary">${t("act.confirm")}</button>
    </form>`;
  }
  prove = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    void this.start(String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("password")));
  };
  confirm = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const code = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("code")).trim();
    try {
      become(await post("/session/totp/confirm", { code }));
      toast(t("done.totp"), "good");
      this.dispatchEvent(new CustomEvent("done"));
    } catch (error) {
      this.error = textOf(error);
    }
  };
}
customElements.define("fh-totp", TotpForm);

export function enrolTotp() {
  openDialog({
    title: () => t("act.totp"),
    size: "narrow",
    name: "totp",
    body: (dialog) => html`<div class="body"><fh-totp @done=${() => dialog.close(true)}></fh-totp></div>`,
  });
}

export function mySessions() {
  /** @type {any[] | null} */
  let items = null;
  const dialog = openDialog({
    title: () => t("act.sessions"),
    name: "sessions",
    body: () => html`<div class="body">
      ${items === null ? busy() : items.length === 0 ? empty("pc-display", t("word.nothing")) : html`<table class="data">
        <thead><tr><th>${t("session.from")}</th><th>${t("session.since")}</th><th>${t("session.until")}</th><th></th></tr></thead>
        <tbody>${items.map((item) => html`<tr>
          <td>${item.label || item.address}<div class="muted small">${item.token ? t("session.token") : item.agent}</div></td>
          <td class="num" title=${fullTime(item.opened_at)}>${shortTime(item.opened_at)}</td>
          <td class="num" title=${fullTime(item.expires_at)}>${shortTime(item.expires_at)}</td>
          <td class="actions">${item.current ? html`<span class="badge good">${t("session.current")}</span>` : html`<button class="small danger" @click=${() => end(item)}>${t("session.end")}</button>`}</td>
        </tr>`)}</tbody>
      </table>`}
    </div>`,
  });
  const fill = () =>
    attempt(async () => {
      items = (await get("/sessions")).items;
      dialog.redraw();
    });
  const end = (/** @type {any} */ item) => void attempt(() => send("DELETE", `/sessions/${item.id}`), () => t("done.session_ended")).then(fill);
  void fill();
}
