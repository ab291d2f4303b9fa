// All groups: how far behind each is in records and in seconds, and whether that gets better.

import { address, get } from "../api.js";
import { h } from "../dom.js";
import { count, rate, seconds } from "../format.js";
import { drawState, emptyPlace, pageHead } from "../parts.js";
import { rings } from "../ring.js";
import { link } from "../router.js";
import { drawSparkline } from "../sparkline.js";
import { Table } from "../table.js";
import { LagClock, tick } from "../ticker.js";

/** In the place of a time to catch up, for a group that consumes no faster than records come in. */
export const NEVER = "not at this rate";

/** Lag of every group as of now, between the samples too. */
export class LagClocks {
  /** @type {Map<string, LagClock>} */
  #clocks = new Map();

  /** @param {{ group: string, lag_seconds: number | null }[]} groups all there are */
  sample(groups) {
    const clocks = new Map();
    for (const { group, lag_seconds } of groups) {
      const clock = this.#clocks.get(group) ?? new LagClock();
      clock.sample(lag_seconds);
      clocks.set(group, clock);
      rings.add(`group/${group}/lag-seconds`, lag_seconds);
    }
    this.#clocks = clocks;
  }

  /**
   * @param {string} group
   * @returns {number | null}
   */
  now(group) {
    return this.#clocks.get(group)?.now() ?? null;
  }
}

/**
 * How long a group needs to catch up, in words.
 * @param {object} row
 * @param {number | null} row.lag_records
 * @param {number | null} [row.catch_up_seconds]
 * @param {number | null} [row.consume_records_per_second]
 * @param {number | null} [row.produce_records_per_second]
 */
export function catchUpText({ lag_records, catch_up_seconds, consume_records_per_second, produce_records_per_second }) {
  if (lag_records === 0) return "caught up";
  if (catch_up_seconds !== null && catch_up_seconds !== undefined) return seconds(catch_up_seconds);
  const known = typeof consume_records_per_second === "number" && typeof produce_records_per_second === "number";
  return known && lag_records > 0 && consume_records_per_second <= produce_records_per_second ? NEVER : "–";
}

/**
 * Lag in records; marked where compaction or transactions leave it uncertain how many a consumer will see.
 * @param {{ lag_records: number | null, lag_exact?: boolean }} row
 */
export function lagText({ lag_records, lag_exact }) {
  return lag_exact === false ? `≈ ${count(lag_records)}` : count(lag_records);
}

/**
 * Columns of a table of groups.
 * @param {LagClocks} clocks
 * @param {{ brief?: boolean }} [options] `brief`: the most important ones
 */
export function groupColumns(clocks, { brief = false } = {}) {
  const columns = [
    {
      id: "group",
      label: "Group",
      sort: (row) => row.group,
      text: (row) => row.group,
      href: (row) => link(["groups", row.group]),
    },
    { id: "state", label: "State", rank: 3, sort: (row) => row.state, draw: (cell, row) => drawState(cell, row.state) },
    { id: "protocol", label: "Protocol", rank: 4, sort: (row) => row.protocol, text: (row) => row.protocol ?? "–" },
    {
      id: "members",
      label: "Members",
      number: true,
      rank: 2,
      sort: (row) => row.members,
      text: (row) => count(row.members),
    },
    {
      id: "lag_seconds",
      label: "Lag",
      number: true,
      sort: (row) => row.lag_seconds,
      draw: (cell, row) => tick(cell, () => seconds(clocks.now(row.group))),
    },
    {
      id: "lag_records",
      label: "Lag in records",
      number: true,
      rank: 2,
      sort: (row) => row.lag_records,
      text: lagText,
    },
    {
      id: "line",
      label: "Trend",
      rank: 3,
      draw: (cell, row) => drawSparkline(cell, rings.of(`group/${row.group}/lag-seconds`)),
    },
    {
      id: "consume",
      label: "Consumes",
      number: true,
      rank: 2,
      sort: (row) => row.consume_records_per_second,
      text: (row) => rate(row.consume_records_per_second),
    },
    {
      id: "produce",
      label: "Comes in",
      number: true,
      rank: 4,
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
      id: "slo",
      label: "Objective",
      sort: (row) => row.slo_state,
      draw: (cell, row) => drawState(cell, row.slo_state),
    },
  ];
  if (!brief) return columns;
  const kept = ["group", "members", "lag_seconds", "lag_records", "line", "consume", "catch_up", "slo"];
  return columns.filter(({ id }) => kept.includes(id));
}

/**
 * @param {import("../app.js").App} app
 * @returns {import("../app.js").View}
 */
export function groupsView({ status }) {
  const clocks = new LagClocks();
  const empty = emptyPlace("No groups yet", "A consumer with a group id is here as soon as it joins:", null);
  const table = new Table({
    label: "Groups",
    noun: "group",
    columns: groupColumns(clocks),
    key: ({ group }) => group,
    sort: { by: "lag_seconds", descending: true },
    search: ({ group, state, slo_state }) => `${group} ${state} ${slo_state ?? ""}`,
    empty,
  });
  const poll = status.poll({
    what: "the groups",
    every_ms: 2000,
    load: (signal) => get(address(["groups"]), signal),
    done: ({ groups }) => {
      clocks.sample(groups);
      table.update(groups);
    },
  });
  poll.start();
  return {
    title: "Groups",
    element: h("div", {}, pageHead("Groups"), table.element),
    broker: ({ kafka_address }) => empty.command(`kcat -b ${kafka_address} -G readers greetings`),
    refresh: () => poll.now(),
    stop: () => poll.stop(),
  };
}
