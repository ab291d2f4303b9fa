// Numbers, sizes and times as people read them. What is not known is a dash. Units are always written.

export const UNKNOWN = "–";

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const known = (value) => typeof value === "number" && Number.isFinite(value);

/**
 * A number of things: whole up to a hundred thousand, with three digits and k, M, G beyond.
 * @param {number | null | undefined} value
 */
export function count(value) {
  if (!known(value)) return UNKNOWN;
  if (Math.abs(value) < 100_000) return GROUPED.format(value);
  return scaled(value, 1000, ["", " k", " M", " G", " T", " P"]);
}

/**
 * Every digit, for where the exact number counts.
 * @param {number | null | undefined} value
 */
export function exact(value) {
  return known(value) ? GROUPED.format(value) : UNKNOWN;
}

/** @param {number | null | undefined} value bytes */
export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  return scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB", " PiB"]);
}

/** @param {number | null | undefined} value per second */
export function rate(value) {
  if (!known(value)) return UNKNOWN;
  if (value !== 0 && Math.abs(value) < 10) return `${value < 0.05 ? "<0.1" : value.toFixed(1)} /s`;
  return `${count(value)} /s`;
}

/** @param {number | null | undefined} value bytes per second */
export function byteRate(value) {
  return known(value) ? `${bytes(value)}/s` : UNKNOWN;
}

/**
 * A duration: tenths below ten seconds, then whole seconds to two minutes, then the two largest units.
 * @param {number | null | undefined} value seconds
 */
export function seconds(value) {
  if (!known(value)) return UNKNOWN;
  if (value < 0) return `-${seconds(-value)}`;
  if (value < 9.95) return value === 0 ? "0 s" : `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  if (whole < 120) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${GROUPED.format(Math.floor(whole / 86_400))} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

/**
 * A duration that somebody has set, without a smaller unit that there is nothing of: "3 min", not "3 min 00 s".
 * @param {number | null | undefined} value seconds
 */
export function span(value) {
  return seconds(value).replace(/ 0+ (s|min|h)$/, "");
}

/** @param {number | null | undefined} value a share of 1 */
export function percent(value) {
  if (!known(value)) return UNKNOWN;
  const hundredths = value * 100;
  return `${hundredths.toFixed(Math.abs(hundredths) < 10 && hundredths % 1 !== 0 ? 1 : 0)} %`;
}

/**
 * Date and time to the millisecond, in the browser's zone.
 * @param {number | null | undefined} at_ms
 */
export function timestamp(at_ms) {
  if (!known(at_ms) || at_ms < 0) return UNKNOWN;
  const at = new Date(at_ms);
  if (Number.isNaN(at.getTime())) return String(at_ms);
  return `${date(at)} ${clock(at)}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

/**
 * Time of day to the second, in the browser's zone.
 * @param {number} at_ms
 */
export function timeOfDay(at_ms) {
  return clock(new Date(at_ms));
}

/**
 * A value for `<input type="datetime-local" step="1">`.
 * @param {number} at_ms
 */
export function localInput(at_ms) {
  const at = new Date(at_ms);
  return `${date(at)}T${clock(at)}`;
}

/** The browser's zone by name and by its distance from UTC, such as "Europe/Vienna, UTC+1". */
export function timeZone() {
  const minutes = -new Date().getTimezoneOffset();
  const distance = Math.abs(minutes);
  const offset = minutes === 0 ? "" : `${minutes < 0 ? "-" : "+"}${Math.floor(distance / 60)}`;
  const rest = distance % 60 === 0 ? "" : `:${two(distance % 60)}`;
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return name === "UTC" ? "UTC" : `${name}, UTC${offset}${rest}`;
}

/**
 * How long ago something was, by the browser's clock.
 * @param {number | null | undefined} at_ms
 */
export function ago(at_ms) {
  if (!known(at_ms)) return UNKNOWN;
  const passed = Math.max(0, (Date.now() - at_ms) / 1000);
  return passed < 2 ? "now" : `${seconds(Math.round(passed))} ago`;
}

/**
 * "1 record", "2 records".
 * @param {number} value
 * @param {string} one
 * @param {string} [many]
 */
export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

function scaled(value, base, units) {
  let power = 0;
  let size = Math.abs(value);
  while (size >= base - 0.5 && power < units.length - 1) {
    size /= base;
    power += 1;
  }
  const digits = power === 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return `${value < 0 ? "-" : ""}${size.toFixed(digits)}${units[power]}`;
}

function date(at) {
  return `${String(at.getFullYear()).padStart(4, "0")}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

function clock(at) {
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

function two(value) {
  return String(value).padStart(2, "0");
}
