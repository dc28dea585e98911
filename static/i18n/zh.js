// 全部中文文字。每个页面一个文件，键的前缀与页面同名。
import admin from "./zh/admin.js";
import base from "./zh/base.js";
import field from "./zh/field.js";
import incident from "./zh/incident.js";
import notices from "./zh/notices.js";
import ownership from "./zh/ownership.js";
import picture from "./zh/picture.js";
import reports from "./zh/reports.js";
import room from "./zh/room.js";
import tree from "./zh/tree.js";

/** @type {Record<string, string>} */
export default { ...base, ...picture, ...incident, ...room, ...field, ...notices, ...admin, ...tree, ...ownership, ...reports };
