// The first page: how much comes in and goes out, who is behind, and what is busy.

import { address, get } from "../api.js";
import { h } from "../dom.js";
import { byteRate, bytes, count, plural, rate, seconds } from "../format.js";
import { Graph } from "../graph.js";
import { Meter, Tile, emptyPlace, pageHead, section, tiles } from "../parts.js";
import { rings } from "../ring.js";
import { drawSparkline } from "../sparkline.js";
import { Table } from "../table.js";
import { LagClock, tick } from "../ticker.js";
import { diskOf } from "./broker.js";
import { groupColumns, LagClocks } from "./groups.js";
import { topicColumns } from "./topics.js";

/** Rows of the short tables. */
const ROWS_MAX = 6;

/** What the graph spans. */
const SPAN_MS = 300_000;

/** What it spans at first, when the page has seen little yet. */
const SPAN_MIN_MS = 60_000;

/**
 * @param {import("../app.js").App} app
 * @returns {import("../app.js").View}
 */
export function overviewView({ status }) {
  const records = new Tile("Records in", { id: "records-in" });
  const bytesIn = new Tile("Bytes in", { id: "bytes-in" });
  const bytesOut = new Tile("Bytes out", { id: "bytes-out" });
  const lag = new Tile("Furthest behind", { id: "lag", href: "#/groups" });
  const disk = new Tile("Disk", { id: "disk", href: "#/broker" });
  const clients = new Tile("Connections", { id: "connections", href: "#/clients" });
  const meter = new Meter("Disk in use");
  disk.below.append(meter.element);

  const graph = new Graph({
    label: "Records in, per second",
    unit: "number",
    axis: count,
    lines: [{ name: "Records", of: (point) => point.value }],
    read: (point) => `${rate(point.value)} records`,
  });
  const clocks = new LagClocks();
  const empty = emptyPlace("No groups yet", "A consumer with a group id is here as soon as it joins:", null);
  const groups = new Table({
    label: "Groups furthest behind",
    noun: "group",
    columns: groupColumns(clocks, { brief: true }),
    key: ({ group }) => group,
    sort: { by: "lag_seconds", descending: true },
    empty,
  });
  const start = emptyPlace("No topics yet", "A topic is made when the first record is produced to it:", null);
  const topics = new Table({
    label: "Busiest topics",
    noun: "topic",
    columns: topicColumns({ brief: true }),
    key: ({ topic }) => topic,
    sort: { by: "produce", descending: true },
    empty: start,
  });
  const clock = new LagClock();

  const groupsPoll = status.poll({
    what: "the groups",
    every_ms: 2000,
    load: (signal) => get(address(["groups"]), signal),
    done: ({ groups: all }) => {
      clocks.sample(all);
      const behind = [...all].sort((a, b) => (b.lag_seconds ?? -1) - (a.lag_seconds ?? -1));
      groups.update(behind.slice(0, ROWS_MAX));
      const [first] = behind;
      clock.sample(first?.lag_seconds);
      tick(lag.value, () => seconds(clock.now()));
      const isBehind = (first?.lag_seconds ?? 0) > 0 || (first?.lag_records ?? 0) > 0;
      lag.below.textContent = isBehind
        ? `${first.group}, ${plural(first.lag_records ?? 0, "record")}`
        : all.length > 0
          ? "Everybody has caught up"
          : "No groups";
    },
  });
  const topicsPoll = status.poll({
    what: "the topics",
    every_ms: 2000,
    load: (signal) => get(address(["topics"]), signal),
    done: ({ topics: all }) => {
      const own = all.filter(({ internal }) => !internal);
      for (const topic of own) rings.add(`topic/${topic.topic}/produce-records`, topic.produce_records_per_second);
      topics.update(
        [...own]
          .sort((a, b) => (b.produce_records_per_second ?? 0) - (a.produce_records_per_second ?? 0))
          .slice(0, ROWS_MAX),
      );
    },
  });
  groupsPoll.start();
  topicsPoll.start();

  return {
    title: "Overview",
    element: h(
      "div",
      {},
      pageHead("Overview"),
      tiles(records, bytesIn, bytesOut, lag, disk, clients),
      h("div", { class: "section" }, graph.element),
      section("Furthest behind", groups.element),
      section("Busiest topics", topics.element),
    ),
    broker: (broker) => {
      records.set(rate(broker.produce?.records_per_second));
      bytesIn.set(byteRate(broker.produce?.bytes_per_second));
      bytesOut.set(byteRate(broker.fetch?.bytes_per_second));
      for (const [tile, ring] of [
        [records, "produce-records"],
        [bytesIn, "produce-bytes"],
        [bytesOut, "fetch-bytes"],
      ]) {
        drawSparkline(tile.below, rings.of(`broker/${ring}`));
      }
      clients.set(count(broker.connections), plural(broker.partitions ?? 0, "partition"));
      const { share, text, tone, marks } = diskOf(broker.disk);
      disk.set(`${bytes(broker.disk?.free_bytes)} free`);
      disk.tone(tone === "ok" ? null : tone);
      meter.set(share, { text, tone, marks });
      const to_ms = Date.now();
      const points = rings.of("broker/produce-records");
      const from_ms = Math.max(to_ms - SPAN_MS, Math.min(points[0]?.at_ms ?? to_ms, to_ms - SPAN_MIN_MS));
      graph.update({ points, step_seconds: 4, from_ms, to_ms });
      start.command(`echo 'hello' | kcat -P -b ${broker.kafka_address} -t greetings`);
      empty.command(`kcat -b ${broker.kafka_address} -G readers greetings`);
    },
    refresh: () => {
      groupsPoll.now();
      topicsPoll.now();
    },
    stop: () => {
      groupsPoll.stop();
      topicsPoll.stop();
    },
  };
}
