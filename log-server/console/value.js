// Keys, values and headers of records, as the API gives them: text, JSON, base64, or null.

import { ExactNumber } from "./api.js";

/**
 * @typedef {null | { text?: string, json?: unknown, base64?: string, truncated?: boolean }} Value
 * @typedef {[kind: "name" | "string" | "number" | "word" | "mark", text: string]} Token
 */

/** Deeper than this JSON is not shown any more. */
const DEPTH_MAX = 100;

/** Characters of a value that a row of the table shows. */
const PREVIEW_MAX = 240;

/**
 * What kind of value it is, in a word.
 * @param {Value} value
 */
export function kindOf(value) {
  if (value === null || value === undefined) return "null";
  if (value.json !== undefined) return "JSON";
  return value.text !== undefined ? "text" : "binary";
}

/**
 * A value as one line, cut to a bound.
 * @param {Value} value
 */
export function preview(value) {
  if (value === null || value === undefined) return "null";
  const text = whole(value, false).slice(0, PREVIEW_MAX + 1);
  const line = text.replace(/\s+/g, " ");
  return line.length > PREVIEW_MAX ? `${line.slice(0, PREVIEW_MAX)}…` : line;
}

/**
 * A value as text; JSON on many lines if `pretty`, base64 where it is not text.
 * @param {Value} value
 * @param {boolean} pretty
 */
export function whole(value, pretty) {
  if (value === null || value === undefined) return "";
  if (value.json !== undefined) return [...jsonTokens(value.json, pretty)].map(([, text]) => text).join("");
  return value.text ?? value.base64 ?? "";
}

/**
 * A value's bytes as base64. Of JSON they are those of its shortest form: the API does not keep the spaces.
 * @param {Value} value
 */
export function base64(value) {
  if (value?.base64 !== undefined) return value.base64;
  let binary = "";
  for (const byte of new TextEncoder().encode(whole(value, false))) binary += String.fromCharCode(byte);
  return btoa(binary);
}

/**
 * JSON in pieces that can be coloured; joined they are its text.
 * @param {unknown} value
 * @param {boolean} pretty two spaces a level; nothing between the pieces without
 * @returns {Generator<Token>}
 */
export function* jsonTokens(value, pretty, depth = 0) {
  if (value instanceof ExactNumber) yield ["number", value.source];
  else if (value === null || typeof value === "boolean") yield ["word", String(value)];
  else if (typeof value === "number") yield ["number", String(value)];
  else if (typeof value === "string") yield ["string", JSON.stringify(value)];
  else if (depth >= DEPTH_MAX) yield ["mark", "…"];
  else yield* nested(value, pretty, depth);
}

function* nested(value, pretty, depth) {
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const entries = Array.isArray(value) ? value.map((item) => [null, item]) : Object.entries(value);
  const line = (level) => (pretty && entries.length > 0 ? `\n${"  ".repeat(level)}` : "");
  yield ["mark", open];
  let first = true;
  for (const [name, item] of entries) {
    yield ["mark", `${first ? "" : ","}${line(depth + 1)}`];
    if (name !== null) {
      yield ["name", JSON.stringify(name)];
      yield ["mark", pretty ? ": " : ":"];
    }
    yield* jsonTokens(item, pretty, depth + 1);
    first = false;
  }
  yield ["mark", `${line(depth)}${close}`];
}
