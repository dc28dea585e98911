// @ts-check
// A menu at a point of the screen, for right clicks and for the keyboard: arrows move, Enter does, Esc closes.

import { html, nothing, render } from "lit";

/** @typedef {{label: string, icon?: string, do: () => void}} Item */

/** @param {number} x @param {number} y @param {Item[]} items @param {string} [caption] */
export function openMenu(x, y, items, caption = "") {
  const menu = document.createElement("div");
  menu.className = "menu";
  menu.popover = "auto";
  menu.setAttribute("role", "menu");
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  const act = (/** @type {Item} */ item) => {
    menu.hidePopover();
    item.do();
  };
  render(
    html`${caption ? html`<div class="caption num">${caption}</div>` : nothing}${items.map(
      (item) => html`<button type="button" role="menuitem" @click=${() => act(item)}>${item.icon ? html`<wa-icon name=${item.icon}></wa-icon>` : nothing}${item.label}</button>`,
    )}`,
    menu,
  );
  menu.addEventListener("keydown", (event) => move(menu, event));
  menu.addEventListener("toggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState !== "closed") return;
    menu.remove();
    if (document.activeElement === document.body) before?.focus?.();
  });
  document.body.append(menu);
  menu.showPopover();
  const { width, height } = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(4, Math.min(x, innerWidth - width - 8))}px`;
  menu.style.top = `${Math.max(4, Math.min(y, innerHeight - height - 8))}px`;
  /** @type {HTMLElement | null} */ (menu.querySelector("button"))?.focus();
}

/** @param {HTMLElement} menu @param {KeyboardEvent} event */
function move(menu, event) {
  const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  if (!by) return;
  event.preventDefault();
  const buttons = [...menu.querySelectorAll("button")];
  const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
  buttons[(at + by + buttons.length) % buttons.length].focus();
}
