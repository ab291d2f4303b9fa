// A line the size of a word: how a number has moved of late. It says nothing that the number beside it does not, so
// screen readers pass it over.

import { replace, setAttribute, svg } from "./dom.js";

const WIDTH = 88;
const HEIGHT = 22;

/** What the line spans: all there is, between these two. */
const SPAN_MIN_MS = 60_000;
const SPAN_MAX_MS = 300_000;

/** Samples further apart are not joined: nothing was asked for in between. */
const JOINED_MS = 15_000;

/**
 * Draws samples into an element, over what was there.
 * @param {Element} element
 * @param {import("./ring.js").Sample[]} samples
 */
export function drawSparkline(element, samples) {
  let drawing = element.querySelector("svg.sparkline");
  if (!drawing) {
    const attributes = { class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" };
    drawing = svg("svg", { ...attributes, width: WIDTH, height: HEIGHT }, svg("path", {}), svg("path", {}));
    replace(element, drawing);
  }
  const [area, line] = drawing.children;
  const paths = trace(samples);
  setAttribute(area, "d", paths.area);
  setAttribute(line, "d", paths.line);
}

function trace(samples) {
  const to_ms = samples.at(-1)?.at_ms ?? 0;
  const span_ms = Math.min(Math.max(to_ms - (samples[0]?.at_ms ?? 0), SPAN_MIN_MS), SPAN_MAX_MS);
  const max = Math.max(...samples.map(({ value }) => value ?? 0), 0) || 1;
  let line = "";
  let area = "";
  let last = null;
  for (const { at_ms, value } of samples) {
    const age_ms = to_ms - at_ms;
    if (value === null || age_ms > span_ms) {
      last = null;
      continue;
    }
    const x = (WIDTH - 2 - (age_ms / span_ms) * (WIDTH - 4)).toFixed(1);
    const y = (HEIGHT - 2 - (value / max) * (HEIGHT - 5)).toFixed(1);
    const joined = last !== null && at_ms - last.at_ms <= JOINED_MS;
    line += `${joined ? "L" : "M"}${x} ${y}`;
    if (joined) area += `M${last.x} ${HEIGHT - 1}L${last.x} ${last.y}L${x} ${y}L${x} ${HEIGHT - 1}Z`;
    last = { at_ms, x, y };
  }
  return { line, area };
}
