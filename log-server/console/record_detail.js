// One record in full: where and when it is, its headers, its key and its value, each in the form that is asked for.

import { h, replace, setAttribute } from "./dom.js";
import { ago, bytes, exact, timeZone, timestamp } from "./format.js";
import { copyButton } from "./parts.js";
import { link } from "./router.js";
import { base64, jsonTokens, kindOf, whole } from "./value.js";

/** Pieces of JSON that are coloured; what is larger is shown plain, which costs one node. */
const TOKENS_MAX = 20_000;

/**
 * @typedef {object} Record
 * @property {number} partition
 * @property {number} offset
 * @property {number} timestamp_ms
 * @property {string} [timestamp_type]
 * @property {import("./value.js").Value} key
 * @property {import("./value.js").Value} value
 * @property {{ name: string, value: import("./value.js").Value }[]} [headers]
 * @property {number} [size_bytes]
 */

/**
 * @param {string} topic
 * @param {Record} record
 * @returns {HTMLElement}
 */
export function recordDetail(topic, record) {
  const here = link(["topics", topic], { partition: record.partition, offset: record.offset });
  const headers = record.headers ?? [];
  return h(
    "div",
    { class: "detail" },
    h(
      "dl",
      { class: "facts" },
      fact("Partition", String(record.partition)),
      fact("Offset", exact(record.offset)),
      fact(
        record.timestamp_type === "log_append_time" ? "Appended" : "Created",
        `${timestamp(record.timestamp_ms)} (${timeZone()})`,
        ago(record.timestamp_ms),
      ),
      fact("Epoch milliseconds", String(record.timestamp_ms)),
      fact("Size", bytes(record.size_bytes)),
    ),
    h(
      "p",
      { class: "detail-links" },
      h("a", { href: here }, "Read from here"),
      copyButton("Copy a link to this record", () => new URL(here, location.href).href),
    ),
    headers.length > 0 ? headersTable(headers) : h("p", { class: "quiet" }, "No headers."),
    valueBox("Key", record.key),
    valueBox("Value", record.value),
  );
}

function fact(name, value, title) {
  return h("div", {}, h("dt", {}, name), h("dd", { title }, value));
}

function headersTable(headers) {
  const rows = headers.map(({ name, value }) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      h("td", { class: value === null ? "quiet" : null }, value === null ? "null" : whole(value, false)),
    ),
  );
  const head = h("tr", {}, h("th", { scope: "col" }, "Header"), h("th", { scope: "col" }, "Value"));
  return h("table", { class: "headers" }, h("thead", {}, head), h("tbody", {}, ...rows));
}

/** A key or value, with a choice of forms. */
function valueBox(name, value) {
  const kind = kindOf(value);
  if (kind === "null")
    return h(
      "div",
      { class: "value-box" },
      h("div", { class: "value-head" }, h("h3", {}, name), h("span", { class: "quiet" }, "null")),
    );
  const forms = {
    JSON: { Pretty: () => coloured(value.json), Raw: () => [whole(value, false)], Base64: () => [base64(value)] },
    text: { Text: () => [whole(value, false)], Base64: () => [base64(value)] },
    binary: { Base64: () => [base64(value)], Hex: () => [hex(value.base64)] },
  }[kind];
  const code = h("pre", { class: "value", tabindex: "0", "aria-label": name });
  const buttons = Object.keys(forms).map((form) =>
    h("button", { class: "choice", type: "button", on: { click: () => choose(form) } }, form),
  );
  const choose = (form) => {
    replace(code, ...forms[form]());
    for (const button of buttons) setAttribute(button, "aria-pressed", String(button.textContent === form));
  };
  choose(Object.keys(forms)[0]);
  return h(
    "div",
    { class: "value-box" },
    h(
      "div",
      { class: "value-head" },
      h("h3", {}, name),
      h("span", { class: "quiet" }, kind),
      h("span", { class: "choices", role: "group", "aria-label": `Form of the ${name.toLowerCase()}` }, ...buttons),
      copyButton(`Copy the ${name.toLowerCase()} as it is shown`, () => code.textContent),
    ),
    code,
    value.truncated ? h("p", { class: "quiet" }, "Cut: the value is larger than what the API gives at a time.") : null,
  );
}

function coloured(json) {
  const nodes = [];
  for (const [kind, text] of jsonTokens(json, true)) {
    if (nodes.length >= TOKENS_MAX) return [whole({ json }, true)];
    nodes.push(kind === "mark" ? text : h("span", { class: `json-${kind}` }, text));
  }
  return nodes;
}

/** Sixteen bytes a line, each line with its position and what is printable. */
function hex(encoded) {
  const binary = atob(encoded);
  const lines = [];
  for (let at = 0; at < binary.length; at += 16) {
    const part = binary.slice(at, at + 16);
    const digits = [...part].map((character) => character.charCodeAt(0).toString(16).padStart(2, "0")).join(" ");
    const printable = part.replace(/[^\x20-\x7e]/g, "·");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${digits.padEnd(47)}  ${printable}`);
  }
  return lines.join("\n");
}
