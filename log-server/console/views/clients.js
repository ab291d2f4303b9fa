// Who is connected.

import { address, get } from "../api.js";
import { h } from "../dom.js";
import { ago, bytes, count } from "../format.js";
import { emptyPlace, pageHead } from "../parts.js";
import { Table } from "../table.js";
import { tick } from "../ticker.js";

/**
 * @param {import("../app.js").App} app
 * @returns {import("../app.js").View}
 */
export function clientsView({ status }) {
  const empty = emptyPlace("No clients are connected", "See whether one can:", null);
  const table = new Table({
    label: "Connected clients",
    noun: "connection",
    key: ({ address: peer }) => peer,
    sort: { by: "client" },
    search: (row) => `${row.address} ${row.client_id ?? ""} ${row.software_name ?? ""} ${row.software_version ?? ""}`,
    empty,
    columns: [
      { id: "client", label: "Client", sort: (row) => row.client_id, text: (row) => row.client_id ?? "–" },
      { id: "address", label: "Address", sort: (row) => row.address, text: (row) => row.address },
      { id: "software", label: "Software", rank: 2, sort: softwareText, text: softwareText },
      {
        id: "requests",
        label: "Requests",
        number: true,
        rank: 2,
        sort: (row) => row.requests,
        text: (row) => count(row.requests),
      },
      {
        id: "received",
        label: "Received",
        number: true,
        rank: 2,
        sort: (row) => row.received_bytes,
        text: (row) => bytes(row.received_bytes),
      },
      {
        id: "sent",
        label: "Sent",
        number: true,
        rank: 2,
        sort: (row) => row.sent_bytes,
        text: (row) => bytes(row.sent_bytes),
      },
      {
        id: "last",
        label: "Last request",
        number: true,
        sort: (row) => row.last_request_at_ms,
        draw: (cell, row) => tick(cell, () => ago(row.last_request_at_ms)),
      },
      {
        id: "since",
        label: "Connected",
        number: true,
        rank: 3,
        sort: (row) => row.connected_at_ms,
        draw: (cell, row) => tick(cell, () => ago(row.connected_at_ms)),
      },
    ],
  });
  const poll = status.poll({
    what: "the connections",
    every_ms: 2000,
    load: (signal) => get(address(["connections"]), signal),
    done: ({ connections }) => table.update(connections),
  });
  poll.start();
  return {
    title: "Clients",
    element: h("div", {}, pageHead("Clients"), table.element),
    broker: ({ kafka_address }) => empty.command(`kcat -L -b ${kafka_address}`),
    refresh: () => poll.now(),
    stop: () => poll.stop(),
  };
}

function softwareText({ software_name, software_version }) {
  return software_name ? [software_name, software_version].filter(Boolean).join(" ") : "–";
}
