// @ts-check
// Deadlines of reports upward: which report, of which incidents, from which level to which, by when.
//
// Decides nothing. Invariant: a save names the version it replaces; a stale one shows both.

import { html, nothing } from "lit";
import { CATEGORIES, CHANNELS, CLOCKS, LEVELS, SUB_REPORTS, SUPERIORS } from "../domain.js";
import { duration, organisationName } from "../format.js";
import { t } from "../i18n.js";
import { live } from "../live.js";
import { formDialog } from "../parts/dialog.js";
import { Part } from "../parts/part.js";
import "../parts/table.js";
import { levelBadge } from "../parts/small.js";
import { may, who } from "../session.js";
import { addButton, editButton, field, head, organisationOptions, retiredBadge, retiredBox, retiredSwitch, saveWhole, text } from "./forms.js";

const SENDERS = ["province", "city", "county"];
const DAY_S = 86400;

/** @param {number} minutes */
const timeOfDay = (minutes) => `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`;

/** How long: "30 min", "2 working days", "daily at 09:00". @param {any} row */
export function limitText(row) {
  const limit = row.limit_s !== null ? duration(row.limit_s) : row.working_days !== null ? t("rule.days", { n: row.working_days }) : t("rule.at", { at: timeOfDay(row.daily_at_min) });
  return `${t(`clock.${row.clock}`)} · ${limit}${row.repeat_s ? ` · ${t("rule.every", { d: duration(row.repeat_s) })}` : ""}`;
}

class ReportRules extends Part {
  static follows = ["report_rule", "organisation"];
  static properties = { retired: { state: true } };
  constructor() {
    super();
    this.retired = false;
  }
  render() {
    /** @type {import("../parts/table.js").Column[]} */
    const columns = [
      { key: "name", title: () => t("label.name"), cell: (row) => html`<b>${row.name}</b> ${retiredBadge(row)}<div class="muted small">${organisationName(row.organisation)}</div>`, text: (row) => `${row.name} ${organisationName(row.organisation)}` },
      { key: "report", title: () => t("sub_report.kind"), text: (row) => `${t(`sub_report.${row.report}`)} · ${t(`channel.${row.channel}`)}` },
      { key: "levels", title: () => t("rule.which"), cell: (row) => html`<div class="row wrap">${row.levels.map(levelBadge)} ${row.categories.map((/** @type {string} */ code) => html`<span class="badge">${t(`category.${code}`)}</span>`)}${row.levels.length + row.categories.length ? nothing : t("word.all")}</div>`, text: (row) => row.levels.join() },
      { key: "sender_tier", title: () => t("rule.hop"), text: (row) => `${t(`tier.${row.sender_tier}`)} → ${t(`superior.${row.recipient_tier}`)}${row.skip_level ? ` · ${t("due.skip_level")}` : ""}` },
      { key: "limit_s", title: () => t("rule.limit"), text: limitText },
      { key: "actions", title: () => "", class: "actions", cell: (row) => (may("report_rule.edit", { organisation: row.organisation }) ? editButton(() => void editRule(row)) : nothing), text: () => "" },
    ];
    return html`${head("reports", html`${retiredSwitch(/** @type {any} */ (this))}${may("report_rule.edit") ? addButton(() => void editRule(null)) : nothing}`)}
      <p class="note-line">${t("rule.text")}</p>
      <fh-table .columns=${columns} .rows=${live.rows("report_rule").filter((row) => this.retired || !row.retired)}></fh-table>`;
  }
}
customElements.define("fh-admin-reports", ReportRules);

/** Minutes of a field, in seconds; null when it is empty. @param {FormData} data @param {string} name */
const seconds = (data, name) => (text(data, name) === "" ? null : Math.round(Number(text(data, name)) * 60));

/** @param {any} row */
export function editRule(row) {
  let way = row?.working_days ? "days" : row && row.daily_at_min !== null ? "at" : "limit";
  return formDialog({
    title: () => row?.name ?? t("admin.add.reports"),
    size: "wide",
    name: "report-rule",
    label: () => t("act.save"),
    fields: (dialog) => ruleFields(row, way, (/** @type {string} */ chosen) => { way = chosen; dialog.redraw(); }),
    send: async (data) => {
      const repeated = data.has("repeat");
      const at = text(data, "daily_at").split(":").map(Number);
      const values = {
        name: text(data, "name"), organisation: text(data, "organisation"), report: text(data, "report"), channel: text(data, "channel"), clock: text(data, "clock"),
        sender_tier: text(data, "sender_tier"), recipient_tier: text(data, "recipient_tier"), skip_level: data.has("skip_level"),
        categories: data.getAll("categories").map(String), levels: data.getAll("levels").map(String),
        limit_s: way === "limit" ? seconds(data, "limit") : null, working_days: way === "days" ? Number(text(data, "working_days")) : null, daily_at_min: way === "at" ? at[0] * 60 + at[1] : null,
        repeat_s: repeated ? (row?.repeat_s ?? DAY_S) : null, remind_before_s: seconds(data, "remind") ?? 0, utc_offset_min: row?.utc_offset_min ?? 480, retired: data.has("retired"),
      };
      const body = row ? { id: row.id, version: row.version, ...values } : values;
      return (await saveWhole("POST", "/report-rules", body, true)) ?? true;
    },
  });
}

/** @param {any} row @param {string} way @param {(way: string) => void} choose */
function ruleFields(row, way, choose) {
  const options = (/** @type {string[]} */ codes, /** @type {string} */ prefix, /** @type {string} */ chosen) => codes.map((code) => html`<option value=${code} ?selected=${code === chosen}>${t(`${prefix}.${code}`)}</option>`);
  const boxes = (/** @type {string} */ name, /** @type {string} */ label, /** @type {string[]} */ codes, /** @type {(code: string) => string} */ words) => html`<fieldset class="half"><legend>${label}</legend><div class="checks">${codes.map((code) => html`<label class="check"><input type="checkbox" name=${name} value=${code} ?checked=${(row?.[name] ?? []).includes(code)} />${words(code)}</label>`)}</div></fieldset>`;
  return html`<div class="form">
    ${field(t("label.name"), html`<input name="name" required maxlength="100" .value=${row?.name ?? ""} autofocus />`, { wide: "third", required: true })}
    ${field(t("label.organisation"), html`<select name="organisation" required>${organisationOptions(row?.organisation ?? who()?.organisation?.id, "report_rule.edit")}</select>`, { wide: "third", required: true })}
    ${field(t("sub_report.kind"), html`<select name="report">${options(SUB_REPORTS, "sub_report", row?.report ?? "first")}</select>`, { wide: "third" })}
    ${boxes("levels", t("label.level"), LEVELS, (code) => `${code} ${t(`level.${code}`)}`)}${boxes("categories", t("label.category"), CATEGORIES, (code) => t(`category.${code}`))}
    ${field(t("rule.sender"), html`<select name="sender_tier">${options(SENDERS, "tier", row?.sender_tier ?? "county")}</select>`, { wide: "third" })}
    ${field(t("rule.recipient"), html`<select name="recipient_tier">${options(SUPERIORS, "superior", row?.recipient_tier ?? "city")}</select>`, { wide: "third" })}
    ${field(t("rule.channel"), html`<select name="channel">${options(CHANNELS, "channel", row?.channel ?? "writing")}</select>`, { wide: "third" })}
    <label class="check"><input type="checkbox" name="skip_level" ?checked=${row?.skip_level} />${t("rule.skip_level")}</label>
    ${field(t("rule.clock"), html`<select name="clock">${options(CLOCKS, "clock", row?.clock ?? "receipt")}</select>`, { wide: "third" })}
    ${field(t("rule.limit"), html`<select name="way" @change=${(/** @type {any} */ event) => choose(event.target.value)}>${options(["limit", "days", "at"], "rule.way", way)}</select>`, { wide: "third" })}
    ${way === "limit" ? field(t("rule.minutes"), html`<input name="limit" type="number" required min="1" max="43200" .value=${String((row?.limit_s ?? 1800) / 60)} />`, { wide: "third", required: true }) : nothing}
    ${way === "days" ? field(t("rule.working_days"), html`<input name="working_days" type="number" required min="1" max="60" .value=${String(row?.working_days ?? 2)} />`, { wide: "third", required: true }) : nothing}
    ${way === "at" ? field(t("rule.daily_at"), html`<input name="daily_at" type="time" required .value=${timeOfDay(row?.daily_at_min ?? 540)} />`, { wide: "third", required: true }) : nothing}
    ${field(t("rule.remind"), html`<input name="remind" type="number" min="0" max="43200" .value=${String((row?.remind_before_s ?? 300) / 60)} />`, { wide: "third" })}
    <label class="check"><input type="checkbox" name="repeat" ?checked=${row?.repeat_s} />${row?.repeat_s ? t("rule.every", { d: duration(row.repeat_s) }) : t("rule.repeat")}</label>${retiredBox(row)}</div>`;
}
