// All English text. One file per page; keys start with the page's name.
import admin from "./en/admin.js";
import base from "./en/base.js";
import field from "./en/field.js";
import incident from "./en/incident.js";
import notices from "./en/notices.js";
import ownership from "./en/ownership.js";
import picture from "./en/picture.js";
import reports from "./en/reports.js";
import room from "./en/room.js";
import tree from "./en/tree.js";

/** @type {Record<string, string>} */
export default { ...base, ...picture, ...incident, ...room, ...field, ...notices, ...admin, ...tree, ...ownership, ...reports };
