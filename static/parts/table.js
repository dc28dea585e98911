// @ts-check
// A table with search and sorting for lists of hundreds of rows. Give it `columns`, `rows` and `none`.

import { html, nothing } from "lit";
import { t } from "../i18n.js";
import { Part } from "./part.js";
import { empty } from "./small.js";

export const SHOWN_MAX = 300;

/**
 * @typedef {{key: string, title: () => string, cell?: (row: any) => unknown, text?: (row: any) => string | number,
 *   class?: string}} Column  `text` is what is searched and sorted; the row's own field when left out
 */

export class DataTable extends Part {
  static properties = {
    columns: { attribute: false }, rows: { attribute: false }, none: {}, tools: { attribute: false }, search: { state: true }, by: { state: true }, down: { state: true },
  };
  constructor() {
    super();
    /** @type {Column[]} */
    this.columns = [];
    /** @type {any[]} */
    this.rows = [];
    this.none = "";
    /** @type {unknown} */
    this.tools = nothing;
    this.search = "";
    this.by = "";
    this.down = false;
  }

  /** @param {Column} column @param {any} row */
  value(column, row) {
    return column.text ? column.text(row) : (row[column.key] ?? "");
  }

  found() {
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    let rows = this.rows;
    if (words.length)
      rows = rows.filter((row) => {
        const text = this.columns.map((column) => this.value(column, row)).join(" ").toLowerCase();
        return words.every((word) => text.includes(word));
      });
    const column = this.columns.find(({ key }) => key === this.by);
    if (!column) return rows;
    const sign = this.down ? -1 : 1;
    return [...rows].sort((a, b) => {
      const [x, y] = [this.value(column, a), this.value(column, b)];
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true }));
    });
  }

  /** @param {string} key */
  sort(key) {
    this.down = this.by === key ? !this.down : false;
    this.by = key;
  }

  render() {
    const rows = this.found();
    const arrow = (/** @type {string} */ key) => (this.by === key ? (this.down ? "↓" : "↑") : "");
    return html`<div class="row wrap table-tools no-print">
        <input type="search" class="grow" placeholder=${t("word.search")} aria-label=${t("word.search")} .value=${this.search} @input=${(/** @type {any} */ event) => (this.search = event.target.value)} />
        <span class="muted small num">${t("word.count_of", { n: rows.length, all: this.rows.length })}</span>
        ${this.tools}
      </div>
      ${rows.length === 0
        ? empty("inbox", this.search ? t("word.nothing_found") : this.none || t("word.nothing"))
        : html`<div class="table-scroll"><table class="data">
            <thead><tr>${this.columns.map(
              (column) => html`<th aria-sort=${this.by === column.key ? (this.down ? "descending" : "ascending") : "none"} class=${column.class ?? ""}>
                <button type="button" @click=${() => this.sort(column.key)}>${column.title()} ${arrow(column.key)}</button>
              </th>`,
            )}</tr></thead>
            <tbody>${rows.slice(0, SHOWN_MAX).map(
              (row) => html`<tr data-id=${row.id ?? ""}>${this.columns.map((column) => html`<td class=${column.class ?? ""}>${column.cell ? column.cell(row) : this.value(column, row)}</td>`)}</tr>`,
            )}</tbody>
          </table></div>`}
      ${rows.length > SHOWN_MAX ? html`<p class="muted small">${t("word.more_rows", { n: rows.length - SHOWN_MAX })}</p>` : nothing}`;
  }
}
customElements.define("fh-table", DataTable);
