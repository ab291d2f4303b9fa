// All topics, with what they hold and what comes in and goes out.

import { address, get } from "../api.js";
import { h, setText } from "../dom.js";
import { byteRate, bytes, count, rate } from "../format.js";
import { emptyPlace, pageHead } from "../parts.js";
import { rings } from "../ring.js";
import { link } from "../router.js";
import { drawSparkline } from "../sparkline.js";
import { Table } from "../table.js";

/**
 * Columns of a table of topics.
 * @param {{ brief?: boolean }} [options] `brief`: the most important ones, and not to be sorted by
 */
export function topicColumns({ brief = false } = {}) {
  const columns = [
    {
      id: "topic",
      label: "Topic",
      sort: (row) => row.topic,
      text: (row) => row.topic,
      href: (row) => link(["topics", row.topic]),
    },
    {
      id: "partitions",
      label: "Partitions",
      number: true,
      rank: 3,
      sort: (row) => row.partitions,
      text: (row) => count(row.partitions),
    },
    {
      id: "records",
      label: "Records",
      number: true,
      rank: 2,
      sort: (row) => row.records,
      text: (row) => count(row.records),
    },
    { id: "bytes", label: "Size", number: true, rank: 2, sort: (row) => row.bytes, text: (row) => bytes(row.bytes) },
    {
      id: "line",
      label: "Trend",
      rank: 3,
      draw: (cell, row) => drawSparkline(cell, rings.of(`topic/${row.topic}/produce-records`)),
    },
    {
      id: "produce",
      label: "Records in",
      number: true,
      sort: (row) => row.produce_records_per_second,
      text: (row) => rate(row.produce_records_per_second),
    },
    {
      id: "in",
      label: "Bytes in",
      number: true,
      rank: 2,
      sort: (row) => row.produce_bytes_per_second,
      text: (row) => byteRate(row.produce_bytes_per_second),
    },
    {
      id: "out",
      label: "Bytes out",
      number: true,
      rank: 3,
      sort: (row) => row.fetch_bytes_per_second,
      text: (row) => byteRate(row.fetch_bytes_per_second),
    },
    { id: "priority", label: "Class", rank: 3, sort: (row) => row.priority, draw: drawPriority },
  ];
  if (!brief) return columns;
  const kept = ["topic", "records", "bytes", "line", "produce", "in"];
  return columns.filter(({ id }) => kept.includes(id));
}

function drawPriority(cell, { priority }) {
  setText(cell, priority === null || priority === undefined ? "–" : String(priority));
}

/**
 * @param {import("../app.js").App} app
 * @returns {import("../app.js").View}
 */
export function topicsView({ status }) {
  const internal = h("input", { type: "checkbox", on: { change: () => show() } });
  const empty = emptyPlace("No topics yet", "A topic is made when the first record is produced to it:", null);
  const table = new Table({
    label: "Topics",
    noun: "topic",
    columns: topicColumns(),
    key: ({ topic }) => topic,
    sort: { by: "topic" },
    search: ({ topic }) => topic,
    empty,
    tools: [h("label", { class: "check" }, internal, "internal ones too")],
  });
  let topics = [];
  const show = () => table.update(internal.checked ? topics : topics.filter((topic) => !topic.internal));
  const poll = status.poll({
    what: "the topics",
    every_ms: 2000,
    load: (signal) => get(address(["topics"]), signal),
    done: (answer) => {
      topics = answer.topics;
      for (const topic of topics) rings.add(`topic/${topic.topic}/produce-records`, topic.produce_records_per_second);
      show();
    },
  });
  poll.start();
  return {
    title: "Topics",
    element: h("div", {}, pageHead("Topics"), table.element),
    broker: ({ kafka_address }) => empty.command(`echo 'hello' | kcat -P -b ${kafka_address} -t greetings`),
    refresh: () => poll.now(),
    stop: () => poll.stop(),
  };
}
