// @ts-check
// Import of persons from a table: what would happen, row by row, then the writing of the sound rows.
//
// Reads no table itself. Invariant: nothing is written before its dry run was on the screen.

import { html, nothing } from "lit";
import { ApiError, BASE, newKey, textOf } from "../api.js";
import { t, tOr } from "../i18n.js";
import { live } from "../live.js";
import { Part } from "../parts/part.js";
import { octets } from "../format.js";
import { head } from "./forms.js";

const SHOWN_MAX = 200;

/** Send a file with its progress told. @param {string} path @param {Blob} file @param {string} key @param {(share: number) => void} progress @returns {Promise<any>} */
function send(path, file, key, progress) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("POST", BASE + path);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("Idempotency-Key", key);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => fail(new ApiError(0, "network", ""));
    request.onload = () => {
      let body = /** @type {any} */ ({});
      try {
        body = JSON.parse(request.responseText);
      } catch {
        body = { code: `http.${request.status}`, hint: request.responseText.slice(0, 200) };
      }
      if (request.status < 300) done(body);
      else fail(new ApiError(request.status, body.code, body.hint, body.details));
    };
    request.send(file);
  });
}

class Import extends Part {
  static follows = ["person"];
  static properties = { file: { state: true }, report: { state: true }, step: { state: true }, share: { state: true }, problem: { state: true }, over: { state: true } };

  constructor() {
    super();
    this.reset();
    this.over = false;
  }

  reset() {
    /** @type {File | null} */
    this.file = null;
    /** @type {any} */
    this.report = null;
    /** @type {"choose" | "checking" | "checked" | "writing" | "done"} */
    this.step = "choose";
    this.share = 0;
    this.problem = "";
    this.atStart = 0;
    this.key = "";
  }

  /** @param {File | undefined | null} file */
  async check(file) {
    if (!file) return;
    this.reset();
    this.file = file;
    this.step = "checking";
    try {
      this.report = await send("/import/persons?dry_run=true", file, newKey(), (share) => (this.share = share));
      this.step = "checked";
      this.key = newKey();
    } catch (error) {
      this.problem = textOf(error);
      this.step = "choose";
    }
  }

  async write() {
    this.step = "writing";
    this.problem = "";
    this.atStart = live.rows("person").length;
    try {
      this.report = await send("/import/persons", /** @type {File} */ (this.file), this.key, () => {});
      this.step = "done";
    } catch (error) {
      this.problem = textOf(error); // the same key again: what was written stays written once
      this.step = "checked";
    }
  }

  render() {
    return html`${head("import")}<div class="import stack">
      ${this.problem ? html`<p class="error-line" role="alert">${this.problem}</p>` : nothing}
      ${this.step === "choose" ? this.choose() : nothing}
      ${this.step === "checking" ? html`<p role="status">${t("import.checking", { file: this.file?.name ?? "" })} <progress max="1" .value=${this.share}></progress></p>` : nothing}
      ${this.report ? this.found() : nothing}</div>`;
  }

  choose() {
    const drop = (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      this.over = false;
      void this.check(event.dataTransfer?.files[0]);
    };
    return html`<label class="drop ${this.over ? "over" : ""}" @dragover=${(/** @type {DragEvent} */ event) => { event.preventDefault(); this.over = true; }} @dragleave=${() => (this.over = false)} @drop=${drop}>
        <wa-icon name="file-earmark-arrow-up"></wa-icon><b>${t("import.choose")}</b><span class="muted">${t("import.kinds")}</span>
        <input type="file" class="visually-hidden" accept=".xlsx,.csv" @change=${(/** @type {any} */ event) => void this.check(event.target.files[0])} /></label>
      <p class="note-line prose">${t("import.columns")}</p>`;
  }

  found() {
    const { report } = this;
    const created = Math.max(0, live.rows("person").length - this.atStart);
    const figure = (/** @type {string} */ name, /** @type {string} */ tone = "") => html`<div><dt>${t(`import.${name}`)}</dt><dd class=${report[name] ? tone : ""} data-figure=${name}>${report[name]}</dd></div>`;
    return html`<div class="row wrap"><b>${this.file?.name}</b><span class="muted">${octets(this.file?.size ?? 0)}</span><span class="grow"></span>
        ${this.step === "checked" ? html`<button @click=${() => this.reset()}>${t("act.cancel")}</button><button class="primary" id="write" ?disabled=${report.created + report.changed === 0} @click=${() => void this.write()}>${t("import.write", { n: report.created + report.changed })}</button>` : nothing}
        ${this.step === "done" ? html`<button @click=${() => this.reset()}>${t("import.another")}</button>` : nothing}</div>
      ${this.step === "writing" ? html`<p role="status">${t("import.writing", { n: created, all: report.created })} <progress max=${Math.max(1, report.created)} .value=${created}></progress></p>` : nothing}
      ${this.step === "done" ? html`<p class="note-line good" id="import-done"><wa-icon name="check-circle"></wa-icon> ${t("import.done", { created: report.created, changed: report.changed })}</p>` : nothing}
      <dl class="figures five">${figure("rows")}${figure("created", "good")}${figure("changed", "warn")}${figure("unchanged")}${figure("failed", "bad")}</dl>
      ${report.ignored.length ? html`<p class="note-line">${t("import.ignored", { names: report.ignored.join(t("admin.comma")) })}</p>` : nothing}
      ${report.errors.length ? html`<h3>${t("import.errors")}</h3><div class="table-scroll"><table class="data" id="import-errors"><thead><tr><th>${t("import.row")}</th><th>${t("import.column")}</th><th>${t("import.error")}</th></tr></thead><tbody>
        ${report.errors.map((/** @type {any} */ one) => html`<tr><td class="num">${one.row}</td><td>${tOr(`import.column.${one.column}`, one.column)}</td><td class="bad">${tOr(`error.${one.code}`, one.hint)}</td></tr>`)}</tbody></table></div>` : nothing}
      ${report.items.length ? html`<h3>${t("import.items")}</h3><div class="table-scroll"><table class="data"><thead><tr><th>${t("import.row")}</th><th>${t("label.name")}</th><th>${t("import.outcome")}</th></tr></thead><tbody>
        ${report.items.slice(0, SHOWN_MAX).map((/** @type {any} */ one) => html`<tr><td class="num">${one.row}</td><td>${one.name}${one.same_name ? html` <span class="badge warn">${t("import.same_name")}</span>` : nothing}</td><td>${t(`import.${one.outcome}`)}</td></tr>`)}</tbody></table></div>
        ${report.items.length > SHOWN_MAX ? html`<p class="muted small">${t("word.more_rows", { n: report.items.length - SHOWN_MAX })}</p>` : nothing}` : nothing}`;
  }
}
customElements.define("fh-admin-import", Import);
