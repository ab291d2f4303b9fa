// The small parts that pages are made of: tiles, states, meters, sections, empty places.

import { h, replace, setAttribute, setText } from "./dom.js";
import { UNKNOWN, percent } from "./format.js";

/**
 * A figure with its name, and room for a line below it.
 */
export class Tile {
  /** @type {HTMLElement} */
  element;
  /** @type {HTMLElement} the figure, for what ticks */
  value = h("dd", { class: "tile-value" }, UNKNOWN);
  /** @type {HTMLElement} room for a line or a meter */
  below = h("dd", { class: "tile-below" });

  /**
   * @param {string} label
   * @param {{ id?: string, href?: string }} [options] `href`: where the label leads
   */
  constructor(label, { id, href } = {}) {
    const name = href ? h("a", { href }, label) : label;
    this.element = h(
      "div",
      { class: "tile", "data-tile": id },
      h("dt", { class: "tile-label" }, name),
      this.value,
      this.below,
    );
  }

  /**
   * @param {string} value
   * @param {string} [below]
   */
  set(value, below) {
    setText(this.value, value);
    if (below !== undefined) setText(this.below, below);
  }

  /** @param {"ok" | "warn" | "bad" | null} tone */
  tone(tone) {
    setAttribute(this.element, "data-tone", tone);
  }
}

/**
 * A row of tiles.
 * @param {...Tile} all
 */
export function tiles(...all) {
  return h("dl", { class: "tiles" }, ...all.map(({ element }) => element));
}

/** Tones of every word for a state that the API has. */
const TONES = {
  ok: "ok",
  online: "ok",
  Stable: "ok",
  at_risk: "warn",
  low: "warn",
  throttled: "warn",
  violated: "bad",
  full: "bad",
  offline: "bad",
  refused: "bad",
  Dead: "bad",
};

/**
 * Makes an element say a state, by word and by colour.
 * @param {HTMLElement} element
 * @param {string | null | undefined} state as the API spells it
 */
export function drawState(element, state) {
  const text = state ? state.replaceAll("_", " ") : UNKNOWN;
  if (element.dataset.state === text) return;
  element.dataset.state = text;
  replace(element, state ? h("span", { class: `state state-${toneOf(state) ?? "plain"}` }, text) : UNKNOWN);
}

/**
 * The tone of a state.
 * @param {string | null | undefined} state
 * @returns {"ok" | "warn" | "bad" | null}
 */
export function toneOf(state) {
  return (Object.hasOwn(TONES, state ?? "") && TONES[state]) || null;
}

/** A share of a whole, with marks for limits. */
export class Meter {
  /** @type {HTMLElement} */
  element;
  #fill = h("div", { class: "meter-fill" });
  #marks = h("div", { class: "meter-marks" });

  /** @param {string} label */
  constructor(label) {
    const attributes = {
      role: "meter",
      "aria-label": label,
      "aria-valuemin": 0,
      "aria-valuemax": 100,
      "aria-valuenow": 0,
    };
    this.element = h("div", { class: "meter", ...attributes }, this.#fill, this.#marks);
  }

  /**
   * @param {number | null} share of 1
   * @param {{ text: string, tone?: "ok" | "warn" | "bad" | null, marks?: number[] }} options
   */
  set(share, { text, tone = null, marks = [] }) {
    const shown = Math.min(Math.max(share ?? 0, 0), 1);
    this.#fill.style.setProperty("--share", percent(shown).replace(" ", ""));
    setAttribute(this.element, "aria-valuenow", Math.round(shown * 100));
    setAttribute(this.element, "aria-valuetext", text);
    setAttribute(this.element, "data-tone", tone);
    while (this.#marks.children.length > marks.length) this.#marks.lastChild.remove();
    while (this.#marks.children.length < marks.length) this.#marks.append(h("i"));
    marks.forEach((at, index) => this.#marks.children[index].style.setProperty("--at", `${(at * 100).toFixed(2)}%`));
  }
}

/**
 * A part of a page under a heading.
 * @param {string} title
 * @param {...(Node | null)} children
 */
export function section(title, ...children) {
  return h("section", { class: "section" }, h("h2", {}, title), ...children);
}

/**
 * The heading of a page, with room beside it.
 * @param {string} title
 * @param {...(Node | null)} beside
 */
export function pageHead(title, ...beside) {
  return h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, title), ...beside);
}

/**
 * What stands where nothing is yet: what that means and what to do next.
 * @param {string} title
 * @param {string} text
 * @param {string | null} [command] that the reader can run
 * @returns {HTMLElement & { command: (text: string) => void }}
 */
export function emptyPlace(title, text, command) {
  const code = h("code", {}, command ?? "");
  const copy = copyButton("Copy the command", () => code.textContent);
  const line = h("div", { class: "command", hidden: !command }, code, copy);
  const place = h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), h("p", {}, text), line);
  return Object.assign(place, {
    command: (changed) => {
      setText(code, changed);
      line.hidden = false;
    },
  });
}

/**
 * A button that copies text and says that it has.
 * @param {string} label
 * @param {() => string} text
 */
export function copyButton(label, text) {
  const button = h("button", { class: "button", type: "button", title: label, "aria-label": label }, "Copy");
  button.addEventListener("click", async () => {
    const copied = await copy(text());
    setText(button, copied ? "Copied" : "Not allowed");
    setTimeout(() => setText(button, "Copy"), 1500);
  });
  return button;
}

/** Without HTTPS a browser has no clipboard to write to except on loopback; the older command works there. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "off-screen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}
