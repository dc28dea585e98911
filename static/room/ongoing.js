// @ts-check
// The one call of this screen. It goes on while its person looks at other pages; a small dock brings them back.
//
// Invariant: at most one call at a time; signing out ends it; a reloaded page comes back into its room.

import { html, nothing, render } from "lit";
import { onLanguage, t } from "../i18n.js";
import { toast } from "../parts/toast.js";
import { live } from "../live.js";
import { onSession, who } from "../session.js";
import { Call } from "./call.js";
import { Local } from "./local.js";

const KEY = "fenghuo.room.in"; // sessionStorage: this tab only
export const NEWS = new Set(["mute.audio", "unmute.audio", "mute.video", "unmute.video", "restarted"]);

/** @type {Call | null} */
let call = null;
/** @type {HTMLElement | null} */
let dock = null;
/** Rooms that a page shows at the moment. */
let shown = 0;

export const ongoing = () => call;

/** @param {string} room @param {Local} local @param {boolean} publish */
export function begin(room, local, publish) {
  call?.leave();
  const mine = (call = new Call(room, local, publish));
  sessionStorage.setItem(KEY, JSON.stringify({ room, publish, audio: local.on("audio"), video: local.on("video") }));
  mine.onChange((news, member) => {
    if (NEWS.has(news) && !shown) toast(t(`room.news.${news}`, { name: member?.name ?? "" }), news.startsWith("mute") ? "warn" : "info");
    if (news === "ended") ended(mine);
    else keep(mine);
    drawDock();
  });
  drawDock();
  return mine;
}

/** What a reload interrupted, if it was this room. @param {string} room @returns {{publish: boolean, audio: boolean, video: boolean} | null} */
export function interrupted(room) {
  const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  return kept?.room === room ? kept : null;
}

/** Come back into a room after a reload, with what was on. @param {string} room @param {{publish: boolean, audio: boolean, video: boolean}} kept */
export async function resume(room, kept) {
  const local = new Local();
  /** @type {("audio" | "video")[]} */
  const kinds = [];
  if (kept.audio) kinds.push("audio");
  if (kept.video) kinds.push("video");
  if (kept.publish && kinds.length) await local.open(kinds);
  return begin(room, local, kept.publish);
}

/** @param {Call} mine */
function keep(mine) {
  if (mine !== call || mine.phase === "ended") return;
  const { room, publish, local } = mine;
  sessionStorage.setItem(KEY, JSON.stringify({ room, publish, audio: local.on("audio"), video: local.on("video") }));
}

/** @param {Call} mine */
function ended(mine) {
  if (mine !== call) return;
  sessionStorage.removeItem(KEY);
  call = null;
  if (!shown && mine.reason !== "left") toast(t(`room.ended.${mine.reason}`), "warn");
}

/** A page shows the room until the returned function is called. */
export function showing() {
  shown++;
  drawDock();
  return () => {
    shown--;
    drawDock();
  };
}

function drawDock() {
  if (!dock) {
    dock = document.createElement("div");
    dock.className = "room-dock no-print";
    document.body.append(dock);
    onLanguage(drawDock);
  }
  const mine = call;
  const silent = !mine?.local.on("audio");
  render(
    mine && !shown
      ? html`<section aria-label=${t("room.dock")}>
          <wa-icon name="camera-video-fill" class="good"></wa-icon>
          <a class="clip" href=${`#/room/${mine.room}`}>${live.row("room", mine.room)?.title || t("nav.room")} · ${t("room.people", { n: mine.members.size })}</a>
          ${mine.sound.blocked ? html`<button class="small primary" @click=${() => void mine.sound.resume()}>${t("room.hear")}</button>` : nothing}
          <button class="icon small ${silent ? "danger" : ""}" aria-label=${t(silent ? "room.unmute" : "room.mute")} title=${t(silent ? "room.unmute" : "room.mute")} @click=${() => void mine.local.toggle("audio")}><wa-icon name=${silent ? "mic-mute-fill" : "mic-fill"}></wa-icon></button>
          <button class="icon small danger" aria-label=${t("room.leave")} title=${t("room.leave")} @click=${() => mine.leave()}><wa-icon name="telephone-x-fill"></wa-icon></button>
        </section>`
      : nothing,
    dock,
  );
}

onSession(() => {
  if (!who()) call?.leave();
});
