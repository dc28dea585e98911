// @ts-check
// The API documentation, drawn from the node's own OpenAPI document. Plain DOM: no import map, no package, no session.
//
// Sends nothing. Invariant: every operation of the document is on the page.

import { language, onLanguage, setLanguage, t, tOr } from "../i18n.js";

const ADDRESS = "/api/v1/openapi.json";
const DEPTH_MAX = 6;
const METHODS = ["get", "post", "put", "patch", "delete", "options"];
/** @type {any} */
let document_ = null;
let failed = false;
let search = "";

document.documentElement.dataset.theme = localStorage.getItem("fenghuo.theme") ?? "dark";

/** An element with attributes and children. @param {string} name @param {Record<string, any>} [attributes] @param {...(Node | string | null)} children */
function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** @param {any} schema */
function resolved(schema) {
  const name = schema?.$ref?.split("/").at(-1);
  return name ? { name, ...(document_.components.schemas[name] ?? {}) } : (schema ?? {});
}

/** @param {any} schema @returns {string} */
function typeOf(schema) {
  const { name, type, items, anyOf, enum: codes, const: one, format } = resolved(schema);
  if (anyOf) return anyOf.map(typeOf).join(" | ");
  if (codes) return codes.map((/** @type {any} */ code) => JSON.stringify(code)).join(" | ");
  if (one !== undefined) return JSON.stringify(one);
  if (type === "array") return `${typeOf(items ?? {})}[]`;
  return name ?? (Array.isArray(type) ? type.join(" | ") : type) + (format ? ` (${format})` : "");
}

/** @param {any} schema */
function limitsOf(schema) {
  const names = ["minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "default"];
  const found = resolved(schema);
  return names.filter((name) => found[name] !== undefined && found[name] !== null).map((name) => `${name} ${JSON.stringify(found[name])}`).join(", ");
}

/** The struct below a field, if there is one. @param {any} schema @returns {any} */
function inner(schema) {
  const found = resolved(schema);
  if (found.properties) return found;
  if (found.items) return inner(found.items);
  for (const one of found.anyOf ?? []) {
    const struct = inner(one);
    if (struct) return struct;
  }
  return null;
}

/** @param {any} schema @param {number} [depth] @returns {HTMLElement} */
function fields(schema, depth = 0) {
  const struct = inner(schema);
  if (!struct) return h("p", { class: "schema" }, h("span", { class: "type" }, typeOf(schema)), " ", h("span", { class: "limit" }, limitsOf(schema)));
  const required = new Set(struct.required ?? []);
  const rows = Object.entries(struct.properties).map(([name, property]) => {
    const line = [h("b", {}, name), " ", h("span", { class: "type" }, typeOf(property)), " ", required.has(name) ? h("span", { class: "needed" }, t("docs.required")) : null, " ", h("span", { class: "limit" }, limitsOf(property))];
    const below = inner(property);
    const said = resolved(property).description;
    const doc = said && !below ? h("div", { class: "doc" }, said) : null;
    if (!below || depth >= DEPTH_MAX) return h("li", {}, ...line, doc);
    const details = h("details", {}, h("summary", {}, ...line));
    details.addEventListener("toggle", () => details.childElementCount === 1 && details.append(fields(below, depth + 1)), { once: true });
    return h("li", {}, details);
  });
  return h("div", { class: "schema" }, struct.description ? h("p", { class: "doc" }, struct.description) : null, h("ul", {}, ...rows));
}

/** @param {string} path @param {string} method @param {any} operation */
function operation(path, method, operation) {
  const body = () => {
    const parts = [];
    const roles = Object.entries(operation["x-roles"] ?? {}).map(([role, relation]) => `${tOr(`role.${role}`, role)} (${relation})`);
    parts.push(h("p", {}, h("b", {}, `${t("docs.roles")}: `), h("code", {}, operation["x-right"]), roles.length ? ` · ${roles.join(t("admin.comma"))}` : ""));
    if (operation.parameters?.length)
      parts.push(h("h3", {}, t("docs.parameters")), h("div", { class: "schema" }, h("ul", {}, ...operation.parameters.map((/** @type {any} */ one) => h("li", {}, h("b", {}, one.name), ` ${one.in} `, h("span", { class: "type" }, typeOf(one.schema)), " ", one.required ? h("span", { class: "needed" }, t("docs.required")) : null, " ", h("span", { class: "limit" }, limitsOf(one.schema)), one.description ? h("div", { class: "doc" }, one.description) : null)))));
    for (const [kind, content] of Object.entries(operation.requestBody?.content ?? {})) parts.push(h("h3", {}, `${t("docs.body")} · ${kind}`), fields(content.schema));
    parts.push(h("h3", {}, t("docs.answers")));
    for (const [status, answer] of Object.entries(operation.responses)) {
      const content = /** @type {[string, any] | undefined} */ (Object.entries(answer.content ?? {})[0]);
      const line = h("summary", {}, h("b", { class: Number(status) < 300 ? "good" : "warn" }, status), ` ${answer.description} `, content ? h("span", { class: "limit" }, content[0]) : "");
      const details = h("details", { class: "schema" }, line);
      if (content) details.addEventListener("toggle", () => details.append(fields(content[1].schema)), { once: true });
      parts.push(details);
    }
    return h("div", {}, ...parts);
  };
  const open = h("details", { class: "operation", "data-operation": operation.operationId }, h("summary", {}, h("span", { class: `method ${method}` }, method.toUpperCase()), h("span", { class: "path" }, path), h("span", { class: "muted" }, operation.summary ?? "")));
  open.addEventListener("toggle", () => open.childElementCount === 1 && open.append(body()), { once: true });
  return open;
}

/** tag -> its operations that match the search. */
function found() {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  /** @type {Map<string, HTMLElement[]>} */
  const tags = new Map();
  for (const [path, item] of Object.entries(document_.paths))
    for (const method of METHODS) {
      const one = item[method];
      if (!one || !words.every((word) => `${method} ${path} ${one.summary} ${one["x-right"]}`.toLowerCase().includes(word))) continue;
      const tag = one.tags?.[0] ?? "";
      tags.set(tag, [...(tags.get(tag) ?? []), operation(path, method, one)]);
    }
  return new Map([...tags].sort(([a], [b]) => a.localeCompare(b)));
}

function body() {
  if (failed) return [h("main", {}, h("p", { class: "error-line", role: "alert" }, t("docs.failed")))];
  if (!document_) return [h("main", {}, t("word.loading"))];
  const tags = found();
  const count = [...tags.values()].reduce((sum, rows) => sum + rows.length, 0);
  const jump = (/** @type {string} */ tag) => (/** @type {Event} */ event) => {
    event.preventDefault();
    document.getElementById(`tag-${tag}`)?.scrollIntoView();
  };
  return [
    h("nav", { "aria-label": t("docs.title") }, ...[...tags].map(([tag, rows]) => h("a", { href: `#tag-${tag}`, onclick: jump(tag) }, tag, h("span", { class: "faint" }, String(rows.length))))),
    h("main", {}, h("p", { class: "muted" }, `${document_.info.title} ${document_.info.version} · OpenAPI ${document_.openapi} · `, h("span", { id: "count" }, t("docs.count", { n: count }))), h("p", { class: "note-line" }, t("docs.keys")), ...[...tags].flatMap(([tag, rows]) => [h("h2", { id: `tag-${tag}` }, tag), ...rows])),
  ];
}

function draw() {
  const place = /** @type {HTMLElement} */ (document.getElementById("docs"));
  const other = language() === "zh" ? "en" : "zh";
  const box = h("input", { type: "search", placeholder: t("docs.search"), "aria-label": t("docs.search"), oninput: (/** @type {any} */ event) => {
    search = event.target.value;
    place.replaceChildren(place.firstElementChild ?? "", ...body());
  } });
  /** @type {HTMLInputElement} */ (box).value = search;
  document.title = `${t("app.name")} ${t("docs.title")}`;
  place.replaceChildren(
    h("header", {}, h("img", { src: "/static/beacon.svg", alt: "", width: 26, height: 26 }), h("h1", {}, `${t("app.name")} · ${t("docs.title")}`), box, h("span", { class: "grow" }), h("a", { href: ADDRESS }, t("docs.raw")), h("a", { href: "/" }, t("docs.back")), h("button", { class: "plain", lang: other, onclick: () => setLanguage(other) }, other === "en" ? "EN" : "中文")),
    ...body(),
  );
}

onLanguage(draw);
draw();
fetch(ADDRESS)
  .then(async (response) => {
    document_ = await response.json();
  })
  .catch(() => {
    failed = true;
  })
  .finally(draw);
