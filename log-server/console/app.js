// The console: which page is shown, and what all pages share.

import { address, get } from "./api.js";
import { h, replace, setAttribute } from "./dom.js";
import { noticeHealth, noticeShedding } from "./notices.js";
import { pageHead } from "./parts.js";
import { rings } from "./ring.js";
import { go, link, parse } from "./router.js";
import { Shortcuts } from "./shortcuts.js";
import { Status } from "./status.js";
import { themeSwitch } from "./theme.js";
import { brokerView } from "./views/broker.js";
import { clientsView } from "./views/clients.js";
import { groupView } from "./views/group.js";
import { groupsView } from "./views/groups.js";
import { objectivesView } from "./views/objectives.js";
import { overviewView } from "./views/overview.js";
import { topicView } from "./views/topic.js";
import { topicsView } from "./views/topics.js";

/**
 * @typedef {object} View
 * @property {string} title
 * @property {HTMLElement} element
 * @property {import("./shortcuts.js").Shortcut[]} [shortcuts]
 * @property {() => void} [refresh] reads at once
 * @property {(broker: object) => void} [broker] takes what is known of the broker, at once and when it changes
 * @property {(place: import("./router.js").Place) => boolean} [move] goes to another place in the same view; false
 *   if that takes a new one
 * @property {() => void} stop
 *
 * @typedef {object} App
 * @property {Status} status
 */

/** Name, key and first path segment of each page, in the order of the navigation. */
const PAGES = [
  { name: "Overview", key: "o", path: [] },
  { name: "Topics", key: "t", path: ["topics"] },
  { name: "Groups", key: "g", path: ["groups"] },
  { name: "Objectives", key: "s", path: ["objectives"] },
  { name: "Clients", key: "c", path: ["clients"] },
  { name: "Broker", key: "b", path: ["broker"] },
];

const main = document.getElementById("main");
const status = new Status(document.getElementById("pulse"), document.getElementById("banners"));
const switchTheme = themeSwitch(document.getElementById("theme"));
/** @type {View | null} */
let view = null;
/** @type {object | null} */
let broker = null;

const shortcuts = new Shortcuts([
  ...PAGES.map(({ name, key, path }) => ({ keys: `g ${key}`, what: name, run: () => go(link(path)) })),
  { keys: "/", what: "Filter the table", run: () => main.querySelector("[data-filter]")?.focus() },
  { keys: "r", what: "Refresh now", run: () => view?.refresh?.() },
  { keys: "d", what: "Switch between light and dark", run: switchTheme },
  { keys: "?", what: "Show these shortcuts", run: () => shortcuts.showHelp() },
]);

/**
 * The view of a place.
 * @param {import("./router.js").Place} place
 * @returns {View}
 */
function viewOf(place) {
  const [page, name, ...rest] = place.path;
  const app = { status };
  if (page === undefined) return overviewView(app);
  if (rest.length === 0) {
    if (page === "topics") return name === undefined ? topicsView(app) : topicView(app, name, place.query);
    if (page === "groups") return name === undefined ? groupsView(app) : groupView(app, name, place.query);
  }
  if (name === undefined) {
    if (page === "objectives") return objectivesView(app);
    if (page === "clients") return clientsView(app);
    if (page === "broker") return brokerView(app);
  }
  return {
    title: "Not found",
    element: h("div", {}, pageHead("There is no such page"), h("p", {}, h("a", { href: "#/" }, "To the overview"))),
    stop: () => undefined,
  };
}

function show() {
  const place = parse(location.hash);
  markPage(place.path[0]);
  if (view?.move?.(place)) return;
  const first = view === null;
  view?.stop();
  view = viewOf(place);
  replace(main, view.element);
  shortcuts.ofView(view.shortcuts ?? []);
  titlePage();
  if (broker) view.broker?.(broker);
  if (first) return;
  // Whoever does not see the page hears where they are; whoever uses the keyboard goes on from the top.
  main.querySelector("h1")?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function titlePage() {
  const address = broker?.kafka_address;
  document.title = [view.title, address, "Highwater"].filter(Boolean).join(" · ");
}

function markPage(page) {
  for (const anchor of document.getElementById("nav").children) {
    setAttribute(anchor, "aria-current", anchor.dataset.page === (page ?? "") ? "page" : null);
  }
}

function brokerRead(answer) {
  const moved = broker?.kafka_address !== answer.kafka_address;
  broker = answer;
  rings.add("broker/produce-records", answer.produce?.records_per_second);
  rings.add("broker/produce-bytes", answer.produce?.bytes_per_second);
  rings.add("broker/fetch-bytes", answer.fetch?.bytes_per_second);
  if (moved) titlePage();
  view.broker?.(broker);
  noticeHealth(status, answer);
}

replace(
  document.getElementById("nav"),
  ...PAGES.map(({ name, key, path }) =>
    h("a", { href: link(path), "data-page": path[0] ?? "", title: `${name} (g ${key})` }, name),
  ),
);
document.getElementById("help").addEventListener("click", () => shortcuts.showHelp());
document.getElementById("skip").addEventListener("click", (event) => {
  // The address belongs to the router.
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", show);
show();
status
  .poll({ what: "the broker", every_ms: 2000, load: (signal) => get(address(["broker"]), signal), done: brokerRead })
  .start();
status
  .poll({
    what: "load shedding",
    every_ms: 4000,
    load: (signal) => get(address(["shedding"]), signal),
    done: (shedding) => noticeShedding(status, shedding),
  })
  .start();
