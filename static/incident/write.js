// @ts-check
// What people add to the story: a note with files, or a report upward (初报 续报 核报 终报).

import { html, nothing } from "lit";
import { post, textOf, upload } from "../api.js";
import { CHANNELS, SUB_REPORTS } from "../domain.js";
import { octets, organisationName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { Part } from "../parts/part.js";
import { formDialog } from "../parts/dialog.js";
import { toast } from "../parts/toast.js";
import { casualtiesOf, casualtyFields } from "../picture/report.js";
import { decides } from "../parts/nodes.js";
import { may } from "../session.js";

export const FILES_MAX = 20;

/** `due` is the report owed that this one is to fulfil. @param {Record<string, any>} incident @param {Record<string, any>} [due] */
export async function subReport(incident, due) {
  let counts = false;
  const kindNow = due?.report ?? (incident.sub_reports ? "follow_up" : "first");
  const others = [...new Set(live.rows("report_due").filter((row) => row.open && row.incident === incident.id && row.recipient).map((row) => row.recipient))];
  const done = await formDialog({
    title: () => t("sub_report.title", { n: incident.sub_reports + 1 }),
    size: "wide",
    name: "sub-report",
    fields: (dialog) => html`<div class="form">
      <label class="field third"><span class="label">${t("sub_report.kind")}</span><select name="kind">${SUB_REPORTS.map((kind) => html`<option value=${kind} ?selected=${kind === kindNow}>${t(`sub_report.${kind}`)}</option>`)}</select></label>
      <label class="field third"><span class="label">${t("sub_report.channel")}</span><select name="channel">${CHANNELS.map((channel) => html`<option value=${channel} ?selected=${channel === (due?.channel ?? "writing")}>${t(`channel.${channel}`)}</option>`)}</select></label>
      <label class="field third"><span class="label">${t("sub_report.to")}</span><select name="to"><option value="">${t("sub_report.to_all")}</option>${others.map((id) => html`<option value=${id} ?selected=${id === due?.recipient}>${organisationName(id)}</option>`)}</select></label>
      <label class="field"><span class="label required">${t("sub_report.text")}</span><textarea name="text" maxlength="4000" rows="7" required autofocus></textarea></label>
      <label class="check"><input type="checkbox" ?checked=${counts} @change=${(/** @type {any} */ event) => { counts = event.target.checked; dialog.redraw(); }} />${t("sub_report.counts")}</label>
      ${counts ? casualtyFields(incident.casualties) : nothing}
    </div>`,
    send: (data) => post(`/incidents/${incident.id}/sub-reports`, { kind: data.get("kind"), channel: data.get("channel"), to: data.get("to") || null, text: String(data.get("text")).trim(), casualties: counts ? casualtiesOf(data) : null }),
  });
  if (done) toast(t("done.sent"), "good");
}

class Write extends Part {
  static properties = { incident: { attribute: false }, files: { state: true }, busy: { state: true }, error: { state: true } };
  constructor() {
    super();
    /** @type {Record<string, any>} */
    this.incident = {};
    /** @type {File[]} */
    this.files = [];
    this.busy = false;
    this.error = "";
  }

  /** @param {FileList | null} files */
  add(files) {
    this.files = [...this.files, ...(files ?? [])].slice(0, FILES_MAX);
  }

  submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const text = String(new FormData(form).get("text")).trim();
    if (this.busy || (!text && !this.files.length)) return;
    this.busy = true;
    this.error = "";
    try {
      const attachments = [];
      for (const file of this.files) attachments.push((await upload(file)).hash);
      await post(`/incidents/${this.incident.id}/notes`, { text, attachments });
      form.reset();
      this.files = [];
    } catch (error) {
      this.error = textOf(error);
    }
    this.busy = false;
  };

  render() {
    const row = this.incident;
    const note = may("incident.note", row);
    const report = decides("incident.edit", row);
    if (!note && !report) return nothing;
    return html`<form class="panel write" @submit=${this.submit} @dragover=${(/** @type {Event} */ event) => event.preventDefault()} @drop=${(/** @type {DragEvent} */ event) => { event.preventDefault(); this.add(event.dataTransfer?.files ?? null); }}>
      ${note ? html`<textarea name="text" rows="2" maxlength="4000" placeholder=${t("note.hint")} aria-label=${t("note.hint")} @keydown=${(/** @type {KeyboardEvent} */ event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) /** @type {any} */ (event.target).form.requestSubmit(); }}></textarea>` : nothing}
      ${this.files.length ? html`<ul class="row wrap">${this.files.map((file) => html`<li class="badge">${file.name} ${octets(file.size)} <button type="button" class="plain icon small" aria-label=${t("act.remove")} @click=${() => (this.files = this.files.filter((other) => other !== file))}><wa-icon name="x-lg"></wa-icon></button></li>`)}</ul>` : nothing}
      ${this.error ? html`<p class="error-line" role="alert">${this.error}</p>` : nothing}
      <div class="row wrap">
        ${note ? html`<label class="button small"><wa-icon name="paperclip"></wa-icon>${t("note.attach")}<input class="visually-hidden" type="file" multiple @change=${(/** @type {any} */ event) => { this.add(event.target.files); event.target.value = ""; }} /></label>` : nothing}
        <span class="grow"></span>
        ${report ? html`<button type="button" class="small" id="sub-report" @click=${() => void subReport(row)}><wa-icon name="file-earmark-text"></wa-icon>${t("sub_report.new")}</button>` : nothing}
        ${note ? html`<button class="small primary" ?disabled=${this.busy}>${this.busy ? html`<span class="spinner"></span>` : nothing}${t("note.add")}</button>` : nothing}
      </div>
    </form>`;
  }
}
customElements.define("fh-incident-write", Write);
