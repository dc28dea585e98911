// @ts-check
// Writing a notice: text or template, who gets it, and beside it what the server says it would take, before it is sent.
//
// Counts nothing itself. Invariant: the send button is live only for the very draft that the preview is about.

import { html, nothing } from "lit";
import { post, textOf } from "../api.js";
import { duration, organisationName, personName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { openDialog } from "../parts/dialog.js";
import { Part, styleSheet } from "../parts/part.js";
import { toast } from "../parts/toast.js";
import { isNobody, NOBODY } from "./recipients.js";

styleSheet("/static/notices/notices.css");

export const KINDS = ["meeting", "bulletin", "call_out", "alert"];
const WAIT_MS = 350;
const TEXT_MAX = 4000;

/** The names in `{name}`. @param {string} text */
export const placeholders = (text) => [...new Set([...text.replaceAll("{{", "").replaceAll("}}", "").matchAll(/\{(\w+)\}/g)].map((found) => found[1]))];

class Compose extends Part {
  static follows = ["template", "incident"];
  static properties = { draft: { state: true }, preview: { state: true }, problem: { state: true }, asking: { state: true }, sending: { state: true } };

  constructor() {
    super();
    /** @type {any} */
    this.draft = { kind: "meeting", recipients: { ...NOBODY }, text_zh: "", text_en: "", template: "", values: {}, urgency: "", incident: "", exercise: false };
    /** @type {any} */
    this.preview = null;
    this.problem = "";
    this.asking = false;
    this.sending = false;
    this._timer = 0;
    this._number = 0;
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    clearTimeout(this._timer);
  }

  /** What is sent: empty things are left out. */
  body() {
    const { kind, recipients, text_zh, text_en, template, values, urgency, incident, exercise } = this.draft;
    const found = { kind, recipients: { ...recipients, fence: recipients.fence ?? undefined }, exercise };
    if (template) Object.assign(found, { template, values });
    else Object.assign(found, { text_zh, text_en });
    if (urgency) Object.assign(found, { urgency });
    if (incident) Object.assign(found, { incident });
    return found;
  }

  /** @param {Record<string, any>} changes */
  set(changes) {
    this.draft = { ...this.draft, ...changes };
    this.preview = null;
    this.problem = "";
    clearTimeout(this._timer);
    this._timer = setTimeout(() => void this.ask(), WAIT_MS);
  }

  async ask() {
    const { text_zh, text_en, template, recipients } = this.draft;
    if (!(text_zh.trim() || text_en.trim() || template) || isNobody(recipients)) return;
    const number = ++this._number;
    this.asking = true;
    try {
      const preview = await post("/notices/preview", this.body());
      if (number === this._number) this.preview = preview;
    } catch (error) {
      if (number === this._number) this.problem = textOf(error);
    }
    if (number === this._number) this.asking = false;
  }

  async send() {
    this.sending = true;
    try {
      const receipt = await post("/notices", this.body());
      toast(t(this.preview.needs_review ? "notice.sent_review" : "notice.sent_issued"), "good");
      this.dispatchEvent(new CustomEvent("done", { detail: receipt.id }));
    } catch (error) {
      this.problem = textOf(error);
    }
    this.sending = false;
  }

  render() {
    return html`<div class="compose"><div class="stack">${this.form()}</div><aside class="stack" aria-live="polite">${this.side()}</aside></div>`;
  }

  form() {
    const { draft } = this;
    const templates = live.rows("template").filter((row) => !row.retired);
    const chosen = live.row("template", draft.template);
    const names = chosen ? placeholders(chosen.text_zh) : [];
    const incidents = live.rows("incident").filter((row) => row.open);
    const input = (/** @type {string} */ name) => (/** @type {any} */ event) => this.set({ [name]: event.target.value });
    return html`<div class="form">
        <div><div class="seg" role="radiogroup" aria-label=${t("notice.kind")}>${KINDS.map((kind) => html`<button type="button" data-kind=${kind} aria-pressed=${draft.kind === kind} @click=${() => this.set({ kind })}>${t(`notice.kind.${kind}`)}</button>`)}</div></div>
        <label class="field third"><span class="label">${t("notice.template")}</span><select name="template" @change=${input("template")}><option value="">${t("notice.no_template")}</option>${templates.map((row) => html`<option value=${row.id} ?selected=${row.id === draft.template}>${row.name} · ${organisationName(row.organisation)}</option>`)}</select></label>
        <label class="field third"><span class="label">${t("notice.urgency")}</span><select name="urgency" @change=${input("urgency")}><option value="">${t("notice.urgency_default")}</option><option value="normal">${t("urgency.normal")}</option><option value="emergency">${t("urgency.emergency")}</option></select></label>
        <label class="field third"><span class="label">${t("notice.incident")}</span><select name="incident" @change=${input("incident")}><option value="">${t("word.none")}</option>${incidents.map((row) => html`<option value=${row.id}>${row.title}</option>`)}</select></label>
        ${chosen
          ? html`<p class="note-line prose small">${chosen.text_zh}<br />${chosen.text_en}</p>${names.map((name) => html`<label class="field half"><span class="label required">{${name}}</span><input name=${`value-${name}`} maxlength="500" .value=${draft.values[name] ?? ""} @input=${(/** @type {any} */ event) => this.set({ values: { ...draft.values, [name]: event.target.value } })} /></label>`)}`
          : html`<label class="field half"><span class="label">${t("notice.text_zh")}</span><textarea name="text_zh" rows="4" maxlength=${TEXT_MAX} .value=${draft.text_zh} @input=${input("text_zh")} autofocus></textarea></label>
              <label class="field half"><span class="label">${t("notice.text_en")}</span><textarea name="text_en" rows="4" maxlength=${TEXT_MAX} .value=${draft.text_en} @input=${input("text_en")}></textarea></label>`}
        <fieldset><legend>${t("notice.recipients")}</legend><fh-recipients .value=${draft.recipients} @change=${(/** @type {CustomEvent} */ event) => this.set({ recipients: event.detail })}></fh-recipients></fieldset>
        <label class="check"><input type="checkbox" name="exercise" .checked=${draft.exercise} @change=${(/** @type {any} */ event) => this.set({ exercise: event.target.checked })} />${t("notice.exercise")}</label>
      </div>`;
  }

  side() {
    const found = this.preview;
    return html`<h3>${t("notice.preview")} ${this.asking ? html`<span class="spinner" role="status" aria-label=${t("word.loading")}></span>` : nothing}</h3>
      ${this.problem ? html`<p class="error-line" role="alert">${this.problem}</p>` : nothing}
      ${found ? this.found(found) : this.problem || this.asking ? nothing : html`<p class="faint">${t("notice.preview_wait")}</p>`}
      <div class="grow"></div>
      ${found ? html`<p class="note-line small">${t(found.needs_review ? "notice.will_review" : "notice.will_issue")}</p>` : nothing}
      <button class="primary" id="send-notice" ?disabled=${!found || this.sending || found.forbidden.length > 0 || found.recipients === 0} @click=${() => void this.send()}>${this.sending ? html`<span class="spinner"></span>` : nothing}${found ? t(found.needs_review ? "notice.submit_review" : "notice.submit", { n: found.recipients }) : t("notice.submit_none")}</button>`;
  }

  /** @param {any} found */
  found(found) {
    return html`<dl class="figures" id="preview">
        <div><dt>${t("notice.recipients")}</dt><dd data-figure="recipients">${found.recipients}</dd></div>
        <div><dt>${t("notice.parts")}</dt><dd data-figure="parts">${found.parts}</dd></div>
        <div><dt>${t("notice.parts_each")}</dt><dd>${found.parts_each_max}</dd></div>
        <div><dt>${t("notice.time")}</dt><dd>${found.duration_s === null ? t("notice.at_once") : duration(Math.ceil(found.duration_s))}</dd></div>
      </dl>
      <p class="muted small">${t("notice.encoding")}: ${found.encodings.join(" + ").toUpperCase() || "—"}${(found.languages ?? []).map((/** @type {any} */ one) => html` · ${t(`language.${one.language}`)}: ${t("notice.language_parts", { people: one.recipients, parts: one.parts_each })}`)}</p>
      ${["zh", "en"].map((language) => (found[`text_${language}`] ? html`<div class="sms" lang=${language}><span class="label">${t(`language.${language}`)} · ${t("notice.characters", { n: [...found[`text_${language}`]].length })}</span><div class="prose">${marked(found[`text_${language}`], found.forbidden.filter((/** @type {any} */ word) => word.language === language))}</div></div>` : nothing))}
      ${found.forbidden.length ? html`<p class="error-line" role="alert">${t("notice.forbidden", { words: found.forbidden.map((/** @type {any} */ word) => word.word).join(t("admin.comma")) })}</p>` : nothing}
      ${found.unreachable_count ? html`<details><summary class="warn">${t("notice.unreachable", { n: found.unreachable_count })}</summary><p class="small">${found.unreachable.map((/** @type {string} */ id) => personName(id)).join(t("admin.comma"))}</p></details>` : nothing}
      ${found.same.length ? html`<details><summary>${t("notice.same", { n: found.same.length })}</summary><p class="small">${found.same.map((/** @type {string} */ id) => personName(id)).join(t("admin.comma"))}</p></details>` : nothing}
      ${(found.people ?? []).length ? html`<details><summary>${t("notice.who")}</summary><p class="small">${found.people.map((/** @type {string} */ id) => personName(id)).join(t("admin.comma"))}</p></details>` : nothing}
      ${found.exercise ? html`<span class="badge exercise">${t("word.exercise")}</span> <span class="small muted">${t("word.exercise_hint")}</span>` : nothing}`;
  }
}
customElements.define("fh-compose", Compose);

/** The text with its forbidden words marked; positions count code points. @param {string} text @param {{start: number, end: number}[]} words */
function marked(text, words) {
  const points = [...text];
  const pieces = [];
  let at = 0;
  for (const { start, end } of [...words].sort((a, b) => a.start - b.start)) {
    if (start < at) continue;
    pieces.push(points.slice(at, start).join(""), html`<mark>${points.slice(start, end).join("")}</mark>`);
    at = end;
  }
  return [...pieces, points.slice(at).join("")];
}

/** Resolves to the id of the notice, or null. */
export function composeNotice() {
  return openDialog({
    title: () => t("notice.compose"),
    size: "wide",
    name: "compose",
    body: (dialog) => html`<div class="body"><fh-compose @done=${(/** @type {CustomEvent} */ event) => dialog.close(event.detail)}></fh-compose></div>`,
  }).result;
}
