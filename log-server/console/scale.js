// Where the lines of a graph's grid go.

const SECONDS_STEPS = [
  0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
];
const TIME_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];

/** @typedef {"number" | "seconds" | "bytes"} Unit */

/**
 * Values from 0 to at least `max`, some four of them, that are round in their unit.
 * @param {number} max
 * @param {Unit} unit
 * @returns {number[]}
 */
export function valueTicks(max, unit) {
  const least = Math.max(max, unit === "seconds" ? 1 : unit === "bytes" ? 1024 : 4);
  const step = roundStep(least / 4, unit);
  const ticks = [];
  for (let at = 0; ; at += step) {
    ticks.push(at);
    if (at >= least) return ticks;
  }
}

/**
 * Times within a range that are round by the clock of the browser's zone, at most `count_max` of them.
 * @param {number} from_ms
 * @param {number} to_ms
 * @param {number} count_max
 * @returns {{ step_s: number, at_ms: number[] }}
 */
export function timeTicks(from_ms, to_ms, count_max) {
  const span_s = (to_ms - from_ms) / 1000;
  const step_s = TIME_STEPS_S.find((step) => span_s / step <= count_max) ?? Math.ceil(span_s / count_max);
  const zone_ms = new Date(from_ms).getTimezoneOffset() * 60_000;
  const step_ms = step_s * 1000;
  const at_ms = [];
  for (let at = Math.ceil((from_ms - zone_ms) / step_ms) * step_ms + zone_ms; at <= to_ms; at += step_ms) {
    at_ms.push(at);
  }
  return { step_s, at_ms };
}

function roundStep(least, unit) {
  if (unit === "seconds") {
    const step = SECONDS_STEPS.find((candidate) => candidate >= least);
    return step ?? Math.ceil(least / 86_400) * 86_400;
  }
  const base = unit === "bytes" ? 1024 ** Math.floor(Math.log(least) / Math.log(1024)) : 1;
  const power = 10 ** Math.floor(Math.log10(least / base));
  const factor = [1, 2, 5, 10].find((candidate) => candidate * power * base >= least * 0.999_999);
  return factor * power * base;
}
