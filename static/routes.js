// @ts-check
// Every page of the desk: its address, its element, where its module is, and the rights of which one opens it.
//
// A page is a custom element; the shell sets `params` (from the path) and `query` before it is shown. With `stays` the
// same element gets new `params` instead of being replaced. With `icon` it stands in the navigation.

/**
 * @typedef {{name: string, path: string, tag: string, load: () => Promise<unknown>, rights: string[], icon?: string,
 *   stays?: boolean}} PageRoute
 */

/** @type {PageRoute[]} */
export const ROUTES = [
  { name: "picture", path: "/", tag: "fh-picture-page", load: () => import("./picture/picture.js"), rights: ["registry.read"], icon: "map" },
  { name: "incidents", path: "/incidents", tag: "fh-incidents-page", load: () => import("./picture/archive.js"), rights: ["incident.read"], icon: "archive" },
  { name: "incident", path: "/incident/:id", tag: "fh-incident-page", load: () => import("./incident/incident.js"), rights: ["incident.read"] },
  { name: "room", path: "/room/:id", tag: "fh-room-page", load: () => import("./room/room.js"), rights: ["room.join"] },
  { name: "meetings", path: "/meetings", tag: "fh-meetings-page", load: () => import("./meetings/meetings.js"), rights: ["room.read"], icon: "calendar-event" },
  { name: "notices", path: "/notices", tag: "fh-notices-page", load: () => import("./notices/notices.js"), rights: ["notice.read"], icon: "megaphone" },
  { name: "phones", path: "/phones", tag: "fh-phones-page", load: () => import("./notices/phones.js"), rights: ["phone.read"], icon: "phone" },
  { name: "field", path: "/field", tag: "fh-field-page", load: () => import("./field/field.js"), rights: ["location.report"], icon: "geo-alt" },
  { name: "tree", path: "/tree", tag: "fh-tree-page", load: () => import("./tree/tree.js"), rights: ["registry.read"], icon: "diagram-3" },
  { name: "admin", path: "/admin", tag: "fh-admin-page", load: () => import("./admin/admin.js"), rights: ["registry.edit", "account.read", "node.read", "plan.edit", "unit.edit", "roster.edit", "template.edit"], icon: "gear", stays: true },
  { name: "admin", path: "/admin/:section", tag: "fh-admin-page", load: () => import("./admin/admin.js"), rights: ["registry.read"], stays: true },
];

/** @param {string} pattern @param {string} path @returns {Record<string, string> | null} */
function match(pattern, path) {
  const [wanted, parts] = [pattern.split("/"), path.split("/")];
  if (wanted.length !== parts.length) return null;
  /** @type {Record<string, string>} */
  const params = {};
  for (const [i, name] of wanted.entries()) {
    if (name.startsWith(":")) params[name.slice(1)] = decodeURIComponent(parts[i]);
    else if (name !== parts[i]) return null;
  }
  return params;
}

/** The route of an address such as "/incident/ID?tab=orders"; the picture for one that nobody knows. @param {string} address */
export function find(address) {
  const [path, query = ""] = address.split("?");
  for (const route of ROUTES) {
    const params = match(route.path, path);
    if (params) return { route, params, query: Object.fromEntries(new URLSearchParams(query)) };
  }
  return { route: ROUTES[0], params: {}, query: {} };
}
