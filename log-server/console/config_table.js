// The configuration of a topic or of the broker: every name, its value, and whether somebody has set it.

import { address, get } from "./api.js";
import { h, replace } from "./dom.js";
import { Table } from "./table.js";

/**
 * A table that reads itself while it is shown.
 * @param {import("./status.js").Status} status
 * @param {string[]} path of the resource
 * @param {string} what it is, for messages
 */
export function configTable(status, path, what) {
  const table = new Table({
    label: `Settings of ${what}`,
    noun: "setting",
    key: ({ name }) => name,
    sort: { by: "set" },
    search: ({ name, value, documentation }) => `${name} ${value ?? ""} ${documentation ?? ""}`,
    columns: [
      { id: "name", label: "Name", sort: (row) => row.name, text: (row) => row.name },
      { id: "value", label: "Value", sort: (row) => String(row.value ?? ""), draw: drawValue },
      {
        id: "set",
        label: "Set by",
        rank: 2,
        sort: (row) => (isDefault(row) ? "z" : "a"),
        text: (row) => sourceText(row),
      },
      {
        id: "default",
        label: "Default",
        rank: 3,
        sort: (row) => String(row.default ?? ""),
        text: (row) => valueText(row.default),
      },
      { id: "documentation", label: "Meaning", rank: 3, text: (row) => row.documentation ?? "" },
    ],
  });
  table.element.classList.add("settings");
  const poll = status.poll({
    what,
    every_ms: 5000,
    load: (signal) => get(address(path), signal),
    done: ({ configs }) => table.update(configs),
  });
  return { element: table.element, start: () => poll.start(), stop: () => poll.stop(), now: () => poll.now() };
}

function isDefault({ source, value, default: usual }) {
  return source ? /default/i.test(source) : value === usual;
}

function drawValue(cell, row) {
  const text = valueText(row.value);
  if (cell.textContent !== text) replace(cell, h(isDefault(row) ? "span" : "strong", {}, text));
}

function valueText(value) {
  return value === null || value === undefined ? "–" : value === "" ? "(empty)" : String(value);
}

function sourceText(row) {
  return row.source ? String(row.source).replaceAll("_", " ").toLowerCase() : isDefault(row) ? "default" : "set";
}
