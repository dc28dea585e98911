// @ts-check
// A report owed upward, in words. Pure but for names.

import { organisationName } from "../format.js";
import { t } from "../i18n.js";

/** To whom: an organisation, or the state. @param {Record<string, any>} due */
export const recipientName = (due) => (due.recipient ? organisationName(due.recipient) : t("superior.state"));

/** "初报 · 电话 → 示范市". @param {Record<string, any>} due */
export const dueText = (due) => t("due.text", { report: t(`sub_report.${due.report}`), channel: t(`channel.${due.channel}`), to: recipientName(due) });
