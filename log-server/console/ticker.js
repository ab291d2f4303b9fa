// Numbers that move on between two answers. Lag in seconds grows by a second a second while a consumer stands still,
// so it is shown growing from the last sample, not jumping with each.

import { setText } from "./dom.js";

const TICK_MS = 500;

/** Beyond this nobody knows: the number stands still until there is a sample again. */
const AHEAD_MAX_S = 6;

/** Steeper than this over the last samples means that nothing is being consumed. */
const STANDING_STILL = 0.75;

/** Lag in seconds, with what it must be by now. */
export class LagClock {
  #seconds = null;
  #at = 0;
  #slope = 0;

  /**
   * Takes a sample of now.
   * @param {number | null | undefined} seconds
   */
  sample(seconds) {
    const at = performance.now();
    const passed_s = (at - this.#at) / 1000;
    if (seconds === null || seconds === undefined) this.#slope = 0;
    else if (this.#seconds !== null && passed_s > 0.2) {
      const slope = (seconds - this.#seconds) / passed_s;
      this.#slope = seconds > 0 && slope > STANDING_STILL ? 1 : 0;
    }
    this.#seconds = seconds ?? null;
    this.#at = at;
  }

  /** Seconds as of now, or null where not known. */
  now() {
    if (this.#seconds === null) return null;
    const ahead_s = Math.min((performance.now() - this.#at) / 1000, AHEAD_MAX_S);
    return this.#seconds + this.#slope * ahead_s;
  }
}

/** @type {Map<Element, () => string>} */
const shown = new Map();
let timer = 0;

/**
 * Keeps an element's text at what `text` says, for as long as it is on the page.
 * @param {Element} element
 * @param {() => string} text
 */
export function tick(element, text) {
  shown.set(element, text);
  setText(element, text());
  if (timer === 0) timer = setInterval(all, TICK_MS);
}

function all() {
  for (const [element, text] of shown) {
    if (element.isConnected) setText(element, text());
    else shown.delete(element);
  }
  if (shown.size === 0) {
    clearInterval(timer);
    timer = 0;
  }
}
