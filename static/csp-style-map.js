// A `styleMap` directive that writes only through the CSSOM, so `style-src 'self'` holds.
//
// Lit's own sets the `style` attribute at its first render, which a strict Content-Security-Policy blocks. The import
// map names this file for `lit/directives/style-map.js`, so Web Awesome uses it too. Same face: keys in camelCase, or
// with hyphens, or custom properties; null and undefined take a property away; a value ending in ` !important` is.

import { noChange } from "lit";
import { directive, Directive, PartType } from "lit/directive.js";

const IMPORTANT = " !important";

/** @param {string} name */
const hyphenated = (name) => name.includes("-") ? name
  : name.replace(/^(?=(webkit|moz|ms)[A-Z])/, "-").replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

class StyleMap extends Directive {
  /** @param {import("lit/directive.js").PartInfo} part */
  constructor(part) {
    super(part);
    if (part.type !== PartType.ATTRIBUTE || part.name !== "style" || (part.strings?.length ?? 0) > 2)
      throw new Error("styleMap must be the only part of a style attribute");
    /** @type {Set<string>} the properties set last time */
    this.written = new Set();
  }

  /** @param {Record<string, string | number | null | undefined>} _styles */
  render(_styles) {
    return noChange;
  }

  /**
   * @param {import("lit/directive.js").AttributePart} part
   * @param {[Record<string, string | number | null | undefined>]} values
   */
  update(part, [styles]) {
    const { style } = /** @type {HTMLElement} */ (part.element);
    const wanted = new Set();
    for (const [name, value] of Object.entries(styles)) {
      if (value === null || value === undefined) continue;
      const property = hyphenated(name);
      const text = String(value);
      const important = text.endsWith(IMPORTANT);
      style.setProperty(property, important ? text.slice(0, -IMPORTANT.length) : text, important ? "important" : "");
      wanted.add(property);
    }
    for (const property of this.written) if (!wanted.has(property)) style.removeProperty(property);
    this.written = wanted;
    return noChange;
  }
}

export const styleMap = directive(StyleMap);
