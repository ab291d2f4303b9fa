// What every page says of the broker when something is wrong with it: in words, and what that means for clients.

import { bytes, plural } from "./format.js";

const OFFLINE = {
  tone: "bad",
  title: "The log directory is offline.",
  text: "A sync has failed, and nothing more is acknowledged. See the broker's log, then restart it.",
};

const STARTING = {
  tone: "warn",
  title: "The broker is starting.",
  text: "Groups and transactions are still being loaded.",
};

/** By state of the disk. */
const DISK = {
  low: {
    tone: "warn",
    title: "The disk is running full.",
    text: "Old records go before their time, and low classes of topics are held up first.",
  },
  full: {
    tone: "bad",
    title: "The disk is full.",
    text: "Produce is refused until there is space; consumers go on.",
  },
};

/**
 * Says whether the broker serves, and whether its disk runs full.
 * @param {import("./status.js").Status} status
 * @param {object} broker of GET /broker
 */
export function noticeHealth(status, { health, ready, disk }) {
  const offline = health === "offline";
  status.notice("offline", offline ? OFFLINE : null);
  status.notice("ready", !ready && !offline ? STARTING : null);
  const notice = Object.hasOwn(DISK, disk?.state ?? "") ? DISK[disk.state] : null;
  status.notice("disk", notice && { ...notice, text: `${bytes(disk.free_bytes)} are free. ${notice.text}` });
}

/**
 * Says what is being shed, and why.
 * @param {import("./status.js").Status} status
 * @param {object} shedding of GET /shedding
 */
export function noticeShedding(status, { active, level, reason, classes = [] }) {
  if (!active) {
    status.notice("shedding", null);
    return;
  }
  const held = classes.filter(({ action }) => action !== "none");
  const words = held.map(({ priority, action, topics }) => `class ${priority} (${plural(topics, "topic")}) ${action}`);
  status.notice("shedding", {
    tone: held.some(({ action }) => action === "refused") ? "bad" : "warn",
    title: `Load is being shed${level ? `, level ${level}` : ""}.`,
    text: sentence([reason, words.join(", ")].filter(Boolean).join(": ")),
  });
}

function sentence(text) {
  return text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "";
}
