// One group: how far it is behind and since when, whether it catches up, who holds what.

import { address, get } from "../api.js";
import { h, setAttribute, setText } from "../dom.js";
import { count, exact, percent, plural, rate, seconds, span, timeOfDay } from "../format.js";
import { Graph } from "../graph.js";
import { Tile, drawState, emptyPlace, pageHead, section, tiles, toneOf } from "../parts.js";
import { link } from "../router.js";
import { Table } from "../table.js";
import { LagClock, tick } from "../ticker.js";
import { NEVER, catchUpText, lagText } from "./groups.js";

/** Spans of the graphs in seconds, by name. */
const SPANS = [
  [300, "5 min"],
  [900, "15 min"],
  [3600, "1 h"],
  [21_600, "6 h"],
];
const POINTS = 300;

/**
 * @param {import("../app.js").App} app
 * @param {string} group
 * @param {URLSearchParams} query
 * @returns {import("../app.js").View}
 */
export function groupView({ status }, group, query) {
  const lagSeconds = new Tile("Lag", { id: "lag-seconds" });
  const lagRecords = new Tile("Lag in records", { id: "lag-records" });
  const consume = new Tile("Consumes", { id: "consume" });
  const produce = new Tile("Comes in", { id: "produce" });
  const catchUp = new Tile("Catches up in", { id: "catch-up" });
  const objective = new Tile("Objective", { id: "objective", href: "#/objectives" });
  const clock = new LagClock();
  const state = h("span", { class: "page-state" });
  const graphs = lagGraphs();
  Graph.link(graphs.all);
  const spans = h(
    "span",
    { class: "choices", role: "group", "aria-label": "Span of the graphs" },
    ...SPANS.map(([length, name]) => {
      const href = link(["groups", group], { seconds: length });
      return h("a", { class: "choice", href, "data-seconds": length }, name);
    }),
  );
  const partitions = partitionTable(group);
  const members = memberTable(group);
  const missing = emptyPlace(
    "There is no such group",
    "It is here as soon as a consumer joins by this name or commits an offset.",
    null,
  );
  missing.hidden = true;
  const body = h(
    "div",
    {},
    tiles(lagSeconds, lagRecords, consume, produce, catchUp, objective),
    h(
      "section",
      { class: "section" },
      h("div", { class: "section-head" }, h("h2", {}, "Lag over time"), spans),
      ...graphs.all.map(({ element }) => element),
    ),
    section("Partitions", partitions.element),
    section("Members", members.element),
  );
  let span_s = 0;

  const lagPoll = status.poll({
    what: `the lag of ${group}`,
    every_ms: 1000,
    load: (signal) => get(address(["groups", group, "lag"]), signal),
    done: (lag) => {
      missing.hidden = true;
      body.hidden = false;
      clock.sample(lag.lag_seconds);
      tick(lagSeconds.value, () => seconds(clock.now()));
      setText(lagSeconds.below, lag.lag_records === 0 ? "has caught up" : "age of the oldest record");
      lagRecords.set(
        lag.lag_exact === false ? `≈ ${exact(lag.lag_records)}` : exact(lag.lag_records),
        `in ${plural(lag.partitions.length, "partition")}`,
      );
      consume.set(rate(lag.consume_records_per_second), "records");
      produce.set(rate(lag.produce_records_per_second), "records");
      const at = typeof lag.catch_up_seconds === "number" ? timeOfDay(Date.now() + lag.catch_up_seconds * 1000) : "";
      if (catchUpText(lag) === NEVER) catchUp.set("never", "at this rate");
      else catchUp.set(catchUpText(lag), at && lag.lag_records > 0 ? `at ${at}` : "");
      partitions.update(lag.partitions);
    },
    failed: (error) => {
      missing.hidden = error.status !== 404;
      body.hidden = error.status === 404;
      return error.status === 404;
    },
  });
  const groupPoll = status.poll({
    what: `the group ${group}`,
    every_ms: 2000,
    load: (signal) => get(address(["groups", group]), signal),
    done: (answer) => {
      drawState(state, answer.state);
      setAttribute(state, "title", `${answer.protocol ?? "unknown"} protocol`);
      members.update(answer.member_list ?? []);
    },
    failed: (error) => error.status === 404,
  });
  // All of them, since asking for one that is not there would be an error in the browser's log with each refresh.
  const sloPoll = status.poll({
    what: "the objectives",
    every_ms: 2000,
    load: (signal) => get(address(["slos"]), signal),
    done: ({ slos }) => {
      const slo = slos.find((each) => each.group === group);
      drawState(objective.value, slo?.state);
      objective.tone(toneOf(slo?.state) === "ok" ? null : toneOf(slo?.state));
      const text = slo && `≤ ${span(slo.lag_seconds_objective)} · budget ${percent(slo.budget_used)}`;
      setText(objective.below, text ?? "none set");
    },
  });
  const historyPoll = status.poll({
    what: `the history of ${group}`,
    every_ms: 2000,
    load: (signal) => get(address(["groups", group, "lag", "history"], { seconds: span_s, points: POINTS }), signal),
    done: ({ step_seconds, points }) => {
      const to_ms = Math.max(points.at(-1)?.at_ms ?? 0, Date.now());
      const data = { points, step_seconds, from_ms: to_ms - span_s * 1000, to_ms };
      for (const graph of graphs.all) graph.update(data);
    },
    failed: (error) => error.status === 404,
  });

  const chooseSpan = (place) => {
    const asked = Number(place.get("seconds"));
    const [chosen] = SPANS.find(([length]) => length === asked) ?? SPANS[1];
    if (chosen === span_s) return;
    span_s = chosen;
    for (const choice of spans.children) {
      setAttribute(choice, "aria-current", choice.dataset.seconds === String(chosen) ? "true" : null);
    }
    historyPoll.now();
  };
  const polls = [lagPoll, groupPoll, sloPoll, historyPoll];
  chooseSpan(query);
  for (const poll of polls) poll.start();

  return {
    title: group,
    element: h(
      "div",
      {},
      h("nav", { class: "trail", "aria-label": "Where this is" }, h("a", { href: "#/groups" }, "Groups")),
      pageHead(group, state),
      missing,
      body,
    ),
    move: ({ path, query: to }) => {
      if (path.length !== 2 || path[0] !== "groups" || path[1] !== group) return false;
      chooseSpan(to);
      return true;
    },
    refresh: () => polls.forEach((poll) => poll.now()),
    stop: () => polls.forEach((poll) => poll.stop()),
  };
}

function lagGraphs() {
  const both = (point) =>
    `${seconds(point.lag_seconds)}, ${point.lag_records === null ? "–" : plural(point.lag_records, "record")}`;
  const inSeconds = new Graph({
    label: "Lag in seconds",
    unit: "seconds",
    axis: seconds,
    read: both,
    lines: [{ name: "Lag", of: (point) => point.lag_seconds }],
  });
  const inRecords = new Graph({
    label: "Lag in records",
    unit: "number",
    axis: count,
    read: both,
    height: 150,
    lines: [{ name: "Lag", of: (point) => point.lag_records }],
  });
  const rates = new Graph({
    label: "Records per second",
    unit: "number",
    axis: count,
    height: 150,
    read: (point) =>
      `${rate(point.consume_records_per_second)} consumed, ${rate(point.produce_records_per_second)} come in`,
    lines: [
      { name: "consumed", style: "first", of: (point) => point.consume_records_per_second },
      { name: "come in", style: "second", of: (point) => point.produce_records_per_second },
    ],
  });
  return { all: [inSeconds, inRecords, rates] };
}

function partitionTable(group) {
  return new Table({
    label: `Partitions of ${group}`,
    noun: "partition",
    key: ({ topic, partition }) => `${topic}/${partition}`,
    sort: { by: "topic" },
    search: ({ topic, partition, client_id, member_id }) =>
      `${topic} ${partition} ${client_id ?? ""} ${member_id ?? ""}`,
    empty: h("p", {}, "The group has not committed an offset yet."),
    columns: [
      {
        id: "topic",
        label: "Topic",
        sort: (row) => row.topic,
        text: (row) => row.topic,
        href: (row) => link(["topics", row.topic], { partition: row.partition, offset: row.committed_offset }),
      },
      {
        id: "partition",
        label: "Partition",
        number: true,
        sort: (row) => row.partition,
        text: (row) => String(row.partition),
      },
      {
        id: "committed",
        label: "Committed",
        number: true,
        rank: 2,
        sort: (row) => row.committed_offset,
        text: (row) => exact(row.committed_offset),
      },
      {
        id: "end",
        label: "Log end",
        number: true,
        rank: 3,
        sort: (row) => row.log_end_offset,
        text: (row) => exact(row.log_end_offset),
      },
      {
        id: "lag_records",
        label: "Lag in records",
        number: true,
        sort: (row) => row.lag_records,
        text: lagText,
      },
      {
        id: "lag_seconds",
        label: "Lag",
        number: true,
        sort: (row) => row.lag_seconds,
        text: (row) => seconds(row.lag_seconds),
      },
      {
        id: "consume",
        label: "Consumes",
        number: true,
        rank: 3,
        sort: (row) => row.consume_records_per_second,
        text: (row) => rate(row.consume_records_per_second),
      },
      {
        id: "produce",
        label: "Comes in",
        number: true,
        rank: 3,
        sort: (row) => row.produce_records_per_second,
        text: (row) => rate(row.produce_records_per_second),
      },
      {
        id: "catch_up",
        label: "Catches up in",
        number: true,
        rank: 2,
        sort: (row) => row.catch_up_seconds,
        text: catchUpText,
      },
      {
        id: "holder",
        label: "Held by",
        rank: 2,
        sort: (row) => row.client_id ?? row.member_id,
        draw: (cell, row) => drawHolder(cell, row),
      },
    ],
  });
}

function drawHolder(cell, { client_id, member_id }) {
  setText(cell, client_id ?? member_id ?? "nobody");
  setAttribute(cell, "title", member_id);
}

function memberTable(group) {
  return new Table({
    label: `Members of ${group}`,
    noun: "member",
    key: ({ member_id }) => member_id,
    sort: { by: "client" },
    empty: h("p", {}, "Nobody is in the group now. Its offsets are kept, and its lag grows."),
    columns: [
      { id: "client", label: "Client", sort: (row) => row.client_id, text: (row) => row.client_id ?? "–" },
      { id: "host", label: "Host", sort: (row) => row.client_host, text: (row) => row.client_host ?? "–" },
      { id: "assignment", label: "Holds", text: (row) => assignmentText(row.assignment ?? []) },
      {
        id: "instance",
        label: "Instance",
        rank: 3,
        sort: (row) => row.instance_id,
        text: (row) => row.instance_id ?? "–",
      },
      { id: "member", label: "Member", rank: 3, sort: (row) => row.member_id, text: (row) => row.member_id },
    ],
  });
}

/** "orders 0-3, 7": runs of partitions, by topic. */
function assignmentText(assignment) {
  return assignment.map(({ topic, partitions }) => `${topic} ${runs(partitions)}`).join("; ") || "nothing";
}

function runs(partitions) {
  const found = [];
  for (const index of [...partitions].sort((a, b) => a - b)) {
    const last = found.at(-1);
    if (last && index === last[1] + 1) last[1] = index;
    else found.push([index, index]);
  }
  return found.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(", ");
}
