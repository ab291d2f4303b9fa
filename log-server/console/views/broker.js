// The broker itself: what it is, how it does, its disk and its memory, its settings.

import { h, setText } from "../dom.js";
import { bytes, count, seconds, timestamp } from "../format.js";
import { configTable } from "../config_table.js";
import { Meter, Tile, drawState, pageHead, section, tiles, toneOf } from "../parts.js";
import { tick } from "../ticker.js";

const FACTS = [
  ["Kafka clients connect to", (broker) => broker.kafka_address],
  ["Version", (broker) => broker.version],
  ["Cluster", (broker) => broker.cluster_id],
  ["Node", (broker) => String(broker.node_id)],
  ["Data directory", (broker) => broker.data_dir],
  ["Started", (broker) => timestamp(broker.started_at_ms)],
];

/**
 * A disk as a meter shows it: the share in use, and where the limits are.
 * @param {object | null | undefined} disk of GET /broker
 */
export function diskOf(disk) {
  const { total_bytes, free_bytes, soft_limit_bytes, hard_limit_bytes, state } = disk ?? {};
  if (!total_bytes) return { share: null, text: "not known", tone: null, marks: [] };
  const limits = [soft_limit_bytes, hard_limit_bytes].filter((limit) => typeof limit === "number" && limit > 0);
  return {
    share: 1 - free_bytes / total_bytes,
    text: `${bytes(free_bytes)} free of ${bytes(total_bytes)}`,
    tone: toneOf(state),
    marks: limits.map((limit) => Math.max(0, 1 - limit / total_bytes)),
  };
}

/**
 * @param {import("../app.js").App} app
 * @returns {import("../app.js").View}
 */
export function brokerView({ status }) {
  const health = new Tile("State", { id: "health" });
  const uptime = new Tile("Up", { id: "uptime" });
  const partitions = new Tile("Partitions", { id: "partitions" });
  const connections = new Tile("Connections", { id: "connections", href: "#/clients" });
  const memory = new Tile("Memory of its own", { id: "memory" });
  const resident = new Tile("Resident, with maps", { id: "resident" });
  const meter = new Meter("Disk in use");
  const disk = h("p", { class: "disk-text" });
  const limits = h("p", { class: "quiet" });
  const state = h("span");
  const facts = FACTS.map(([name, of]) => ({ of, value: h("dd", {}, "–"), name }));
  const configs = configTable(status, ["broker", "configs"], "the broker's settings");
  configs.start();
  return {
    title: "Broker",
    element: h(
      "div",
      {},
      pageHead("Broker"),
      tiles(health, uptime, partitions, connections, memory, resident),
      section(
        "Disk",
        h("div", { class: "card" }, h("div", { class: "disk-head" }, disk, state), meter.element, limits),
      ),
      section(
        "About",
        h("dl", { class: "facts card" }, ...facts.map(({ name, value }) => h("div", {}, h("dt", {}, name), value))),
      ),
      section("Settings", configs.element),
    ),
    broker: (broker) => {
      drawState(health.value, broker.health);
      health.tone(toneOf(broker.health) === "ok" ? null : toneOf(broker.health));
      setText(health.below, broker.ready ? "ready" : "not ready");
      tick(uptime.value, () => seconds((Date.now() - broker.started_at_ms) / 1000));
      partitions.set(count(broker.partitions));
      connections.set(count(broker.connections));
      memory.set(bytes(broker.memory?.own_bytes));
      resident.set(bytes(broker.memory?.resident_bytes));
      for (const { of, value } of facts) setText(value, of(broker) ?? "–");
      const { share, text, tone, marks } = diskOf(broker.disk);
      setText(disk, text);
      drawState(state, broker.disk?.state);
      meter.set(share, { text, tone, marks });
      const { soft_limit_bytes, hard_limit_bytes } = broker.disk ?? {};
      const [soft, hard] = [bytes(soft_limit_bytes), bytes(hard_limit_bytes)];
      setText(
        limits,
        `Below ${soft} free the broker makes room and holds low classes up; below ${hard} it refuses produce.`,
      );
    },
    refresh: () => configs.now(),
    stop: () => configs.stop(),
  };
}
