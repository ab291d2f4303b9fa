// One topic: its records, its partitions, its configuration.

import { address, get } from "../api.js";
import { h, replace, setAttribute, setText } from "../dom.js";
import { ago, byteRate, bytes, count, exact, rate, timestamp } from "../format.js";
import { configTable } from "../config_table.js";
import { Tile, emptyPlace, pageHead, tiles } from "../parts.js";
import { RecordBrowser } from "../record_browser.js";
import { rings } from "../ring.js";
import { link } from "../router.js";
import { drawSparkline } from "../sparkline.js";
import { Table } from "../table.js";
import { tick } from "../ticker.js";

const TABS = [
  { id: "", name: "Records" },
  { id: "partitions", name: "Partitions" },
  { id: "configuration", name: "Configuration" },
];

/**
 * @param {import("../app.js").App} app
 * @param {string} topic
 * @param {URLSearchParams} query
 * @returns {import("../app.js").View}
 */
export function topicView({ status }, topic, query) {
  const produce = new Tile("Records in", { id: "records-in" });
  const bytesIn = new Tile("Bytes in", { id: "bytes-in" });
  const out = new Tile("Bytes out", { id: "bytes-out" });
  const records = new Tile("Records", { id: "records" });
  const size = new Tile("Size", { id: "size" });
  const newest = new Tile("Newest record", { id: "newest" });
  const browser = new RecordBrowser(topic);
  const partitions = partitionTable(topic);
  const configs = configTable(status, ["topics", topic, "configs"], "the topic's configuration");
  const panel = h("div", { class: "panel" });
  const tabs = h(
    "nav",
    { class: "tabs", "aria-label": "Parts of the topic" },
    ...TABS.map(({ id, name }) => h("a", { href: link(["topics", topic], { tab: id }), "data-tab": id }, name)),
  );
  const body = h("div", {}, tiles(produce, bytesIn, out, records, size, newest), tabs, panel);
  const missing = emptyPlace(
    "There is no such topic",
    "It may have been deleted. It is here as soon as there is one by this name.",
    null,
  );
  missing.hidden = true;
  let tab = null;

  const poll = status.poll({
    what: `the topic ${topic}`,
    every_ms: 2000,
    load: (signal) => get(address(["topics", topic]), signal),
    done: (answer) => {
      missing.hidden = true;
      body.hidden = false;
      rings.add(`topic/${topic}/produce-records`, answer.produce_records_per_second);
      produce.set(rate(answer.produce_records_per_second));
      drawSparkline(produce.below, rings.of(`topic/${topic}/produce-records`));
      bytesIn.set(byteRate(answer.produce_bytes_per_second));
      out.set(byteRate(answer.fetch_bytes_per_second));
      records.set(
        count(answer.records),
        `in ${answer.partitions} ${answer.partitions === 1 ? "partition" : "partitions"}`,
      );
      const list = answer.partition_list ?? [];
      const segments = list.reduce((sum, partition) => sum + (partition.segments ?? 0), 0);
      size.set(bytes(answer.bytes), `in ${count(segments)} ${segments === 1 ? "segment" : "segments"}`);
      const newest_ms = Math.max(...list.map((partition) => partition.newest_timestamp_ms ?? -1));
      tick(newest.value, () => (newest_ms < 0 ? "–" : ago(newest_ms)));
      setText(newest.below, newest_ms < 0 ? "" : timestamp(newest_ms));
      browser.partitions(list.map(({ partition }) => partition));
      partitions.update(list);
    },
    failed: (error) => {
      missing.hidden = error.status !== 404;
      body.hidden = error.status === 404;
      return error.status === 404;
    },
  });

  const showTab = (wanted, place) => {
    for (const anchor of tabs.children)
      setAttribute(anchor, "aria-current", anchor.dataset.tab === wanted ? "true" : null);
    if (wanted !== tab) {
      if (tab === "") browser.stop();
      if (tab === "configuration") configs.stop();
      tab = wanted;
      replace(
        panel,
        wanted === "partitions" ? partitions.element : wanted === "configuration" ? configs.element : browser.element,
      );
      if (wanted === "configuration") configs.start();
    }
    if (wanted === "") browser.show(place);
  };
  const tabOf = (place) => TABS.find(({ id }) => id === place.get("tab"))?.id ?? "";
  showTab(tabOf(query), query);
  poll.start();

  return {
    title: topic,
    element: h(
      "div",
      {},
      h("nav", { class: "trail", "aria-label": "Where this is" }, h("a", { href: "#/topics" }, "Topics")),
      pageHead(topic),
      missing,
      body,
    ),
    shortcuts: browser.shortcuts,
    broker: (broker) => browser.broker(broker),
    move: ({ path, query: to }) => {
      if (path.length !== 2 || path[0] !== "topics" || path[1] !== topic) return false;
      showTab(tabOf(to), to);
      return true;
    },
    refresh: () => {
      poll.now();
      if (tab === "") browser.read();
    },
    stop: () => {
      poll.stop();
      browser.stop();
      configs.stop();
    },
  };
}

function partitionTable(topic) {
  return new Table({
    label: `Partitions of ${topic}`,
    noun: "partition",
    key: ({ partition }) => String(partition),
    sort: { by: "partition" },
    columns: [
      {
        id: "partition",
        label: "Partition",
        number: true,
        sort: (row) => row.partition,
        text: (row) => String(row.partition),
        href: (row) => link(["topics", topic], { partition: row.partition }),
      },
      {
        id: "start",
        label: "Log start",
        number: true,
        rank: 2,
        sort: (row) => row.log_start_offset,
        text: (row) => exact(row.log_start_offset),
      },
      {
        id: "stable",
        label: "Last stable",
        number: true,
        rank: 3,
        sort: (row) => row.last_stable_offset,
        text: (row) => exact(row.last_stable_offset),
      },
      {
        id: "high",
        label: "High watermark",
        number: true,
        sort: (row) => row.high_watermark,
        text: (row) => exact(row.high_watermark),
      },
      {
        id: "end",
        label: "Log end",
        number: true,
        rank: 3,
        sort: (row) => row.log_end_offset,
        text: (row) => exact(row.log_end_offset),
      },
      { id: "bytes", label: "Size", number: true, rank: 2, sort: (row) => row.bytes, text: (row) => bytes(row.bytes) },
      {
        id: "segments",
        label: "Segments",
        number: true,
        rank: 3,
        sort: (row) => row.segments,
        text: (row) => count(row.segments),
      },
      {
        id: "produce",
        label: "Records in",
        number: true,
        sort: (row) => row.produce_records_per_second,
        text: (row) => rate(row.produce_records_per_second),
      },
      {
        id: "newest",
        label: "Newest record",
        number: true,
        rank: 2,
        sort: (row) => row.newest_timestamp_ms,
        text: (row) => timestamp(row.newest_timestamp_ms),
      },
    ],
  });
}
