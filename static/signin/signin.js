// @ts-check
// Signing in: name and password, the second factor when it is asked for, and what must be set before anything else.

import { html, nothing } from "lit";
import { ApiError, textOf } from "../api.js";
import { language, setLanguage, t } from "../i18n.js";
import { Part } from "../parts/part.js";
import { onSession, signIn, signOut, who } from "../session.js";
import { passwordFields, sendPassword, TotpForm } from "./account.js";

void TotpForm;

class SignIn extends Part {
  static properties = { busy: { state: true }, error: { state: true }, code: { state: true } };
  constructor() {
    super();
    this.busy = false;
    this.error = "";
    this.code = false;
  }

  connectedCallback() {
    super.connectedCallback();
    this.until(onSession(() => this.requestUpdate()));
  }

  render() {
    const demanded = who()?.demanded?.[0];
    return html`<div class="signin">
      <div class="card">
        <div class="mark">
          <img src="/static/beacon.svg" alt="" width="52" height="52" />
          <div><h1>${t("app.name")}</h1><p class="muted small">${t("app.purpose")}</p></div>
        </div>
        ${demanded === "password" ? this.password() : demanded === "totp" ? this.totp() : this.form()}
        <div class="foot">
          <button class="plain small" @click=${() => setLanguage(language() === "zh" ? "en" : "zh")}>${language() === "zh" ? "English" : "中文"}</button>
          ${who() ? html`<button class="plain small" @click=${() => void signOut()}>${t("act.sign_out")}</button>` : nothing}
        </div>
      </div>
    </div>`;
  }

  problem() {
    return this.error ? html`<p class="error-line" role="alert">${this.error}</p>` : nothing;
  }

  form() {
    return html`<form @submit=${this.submit}>
      <label class="field"><span class="label">${t("signin.name")}</span><input name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus /></label>
      <label class="field"><span class="label">${t("signin.password")}</span><input name="password" type="password" autocomplete="current-password" required /></label>
      ${this.code
        ? html`<label class="field"><span class="label">${t("signin.code")}</span><input name="code" inputmode="numeric" autocomplete="one-time-code" pattern="[0-9 ]{6,8}" required /></label>`
        : nothing}
      ${this.problem()}
      <button class="primary" ?disabled=${this.busy}>${this.busy ? html`<span class="spinner"></span>` : nothing}${t("act.sign_in")}</button>
    </form>`;
  }

  submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const data = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const text = (/** @type {string} */ name) => String(data.get(name) ?? "").trim();
    this.busy = true;
    this.error = "";
    try {
      await signIn(text("name"), String(data.get("password")), text("code") || undefined);
    } catch (error) {
      if (error instanceof ApiError && error.code === "auth.code_needed" && !this.code) {
        this.code = true;
        await this.updateComplete;
        /** @type {HTMLElement | null} */ (this.querySelector("[name=code]"))?.focus();
      } else this.error = textOf(error);
    }
    this.busy = false;
  };

  password() {
    return html`<form @submit=${this.submitPassword}>
      <p class="note-line">${t("signin.change_first")}</p>
      ${passwordFields()} ${this.problem()}
      <button class="primary" ?disabled=${this.busy}>${t("act.password")}</button>
    </form>`;
  }

  submitPassword = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    this.busy = true;
    this.error = "";
    try {
      await sendPassword(new FormData(/** @type {HTMLFormElement} */ (event.target)));
    } catch (error) {
      this.error = textOf(error);
    }
    this.busy = false;
  };

  totp() {
    return html`<p class="note-line">${t("signin.totp_first")}</p><fh-totp></fh-totp>`;
  }
}
customElements.define("fh-signin", SignIn);
