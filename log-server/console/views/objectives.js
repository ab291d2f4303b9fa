// Lag objectives: which hold, which do not, how much of the time they may be missed is used up; and what is shed.

import { address, get } from "../api.js";
import { h } from "../dom.js";
import { ago, count, percent, seconds, span } from "../format.js";
import { catchUpText } from "./groups.js";
import { Meter, drawState, emptyPlace, pageHead, section, toneOf } from "../parts.js";
import { link } from "../router.js";
import { Table } from "../table.js";
import { tick } from "../ticker.js";

/** The classes, the one first that is shed last. */
const CLASSES = ["high", "normal", "low"];

/**
 * @param {import("../app.js").App} app
 * @returns {import("../app.js").View}
 */
export function objectivesView({ status }) {
  const table = new Table({
    label: "Lag objectives",
    noun: "objective",
    key: ({ group }) => group,
    sort: { by: "group" },
    search: ({ group, state }) => `${group} ${state}`,
    empty: emptyPlace(
      "No objectives yet",
      "Say how far behind a group may be, and the broker keeps watch:",
      "highwater slo set --group readers --lag 30s",
    ),
    columns: [
      {
        id: "group",
        label: "Group",
        sort: (row) => row.group,
        text: (row) => row.group,
        href: (row) => link(["groups", row.group]),
      },
      { id: "state", label: "State", sort: (row) => row.state, draw: (cell, row) => drawState(cell, row.state) },
      {
        id: "since",
        label: "Since",
        number: true,
        rank: 2,
        sort: (row) => row.since_ms,
        draw: (cell, row) => tick(cell, () => ago(row.since_ms)),
      },
      {
        id: "lag",
        label: "Lag",
        number: true,
        sort: (row) => row.lag_seconds,
        text: (row) => seconds(row.lag_seconds),
      },
      {
        id: "objective",
        label: "At most",
        number: true,
        sort: (row) => row.lag_seconds_objective,
        text: (row) => span(row.lag_seconds_objective),
      },
      {
        id: "catch_up",
        label: "Catches up in",
        number: true,
        rank: 3,
        sort: (row) => row.catch_up_seconds,
        text: (row) => (row.lag_seconds === 0 ? catchUpText({ lag_records: 0 }) : seconds(row.catch_up_seconds)),
      },
      {
        id: "target",
        label: "Target",
        number: true,
        rank: 3,
        sort: (row) => row.target,
        text: (row) => `${percent(row.target)} of ${span(row.window_seconds)}`,
      },
      { id: "budget", label: "Budget used", rank: 2, number: true, sort: (row) => row.budget_used, draw: drawBudget },
      {
        id: "burn",
        label: "Burn rate",
        number: true,
        rank: 3,
        sort: (row) => row.burn_rate,
        text: (row) => (typeof row.burn_rate === "number" ? `${row.burn_rate.toFixed(1)} ×` : "–"),
      },
    ],
  });
  const classes = new Table({
    label: "Classes of topics",
    noun: "class",
    key: ({ priority }) => String(priority),
    sort: { by: "priority" },
    empty: h("p", {}, "No topic carries a class."),
    columns: [
      { id: "priority", label: "Class", sort: (row) => CLASSES.indexOf(row.priority), text: (row) => String(row.priority) },
      { id: "action", label: "Now", sort: (row) => row.action, draw: (cell, row) => drawState(cell, row.action) },
      { id: "topics", label: "Topics", number: true, sort: (row) => row.topics, text: (row) => count(row.topics) },
      {
        id: "throttled",
        label: "Throttled so far",
        number: true,
        rank: 2,
        sort: (row) => row.throttled_total,
        text: (row) => count(row.throttled_total),
      },
      {
        id: "refused",
        label: "Refused so far",
        number: true,
        rank: 2,
        sort: (row) => row.refused_total,
        text: (row) => count(row.refused_total),
      },
    ],
  });
  const slos = status.poll({
    what: "the objectives",
    every_ms: 2000,
    load: (signal) => get(address(["slos"]), signal),
    done: ({ slos: all }) => table.update(all),
  });
  const shedding = status.poll({
    what: "the classes of topics",
    every_ms: 2000,
    load: (signal) => get(address(["shedding"]), signal),
    done: ({ classes: all }) => classes.update(all ?? []),
  });
  const polls = [slos, shedding];
  for (const poll of polls) poll.start();
  return {
    title: "Objectives",
    element: h("div", {}, pageHead("Objectives"), table.element, section("Load shedding", classes.element)),
    refresh: () => polls.forEach((poll) => poll.now()),
    stop: () => polls.forEach((poll) => poll.stop()),
  };
}

function drawBudget(cell, row) {
  if (!cell.meter) {
    cell.meter = new Meter(`Budget of ${row.group}`);
    cell.label = h("span");
    cell.append(h("div", { class: "meter-cell" }, cell.label, cell.meter.element));
  }
  const text = percent(row.budget_used);
  cell.label.textContent = text;
  cell.meter.set(row.budget_used, { text, tone: toneOf(row.state) });
}
