// Keys that do something anywhere on the page, and the dialog that lists them. Single keys can be switched off, as
// people who speak to their computer need it (WCAG 2.1.4).

import { h } from "./dom.js";

const STORED = "highwater.shortcuts";

/** How long the second key of a pair may take. */
const PAIR_MS = 1500;

/**
 * @typedef {object} Shortcut
 * @property {string} keys one key, or two with a space between
 * @property {string} what
 * @property {() => void} [run] none where an element handles the key itself
 */

export class Shortcuts {
  /** @type {Shortcut[]} */
  #always;
  /** @type {Shortcut[]} */
  #ofView = [];
  #dialog = h("dialog", { class: "dialog", "aria-labelledby": "shortcuts-title" });
  #first = "";
  #firstAt = 0;

  /** @param {Shortcut[]} always those of every view */
  constructor(always) {
    this.#always = always;
    document.body.append(this.#dialog);
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  /** @param {Shortcut[]} shortcuts those of the view that is shown now */
  ofView(shortcuts) {
    this.#ofView = shortcuts;
  }

  /** Opens the dialog that lists all of them. */
  showHelp() {
    if (this.#dialog.open) return;
    const list = (title, shortcuts) => [
      h("h3", {}, title),
      h(
        "dl",
        { class: "shortcuts" },
        ...shortcuts.map(({ keys, what }) => h("div", {}, h("dt", {}, ...keysOf(keys)), h("dd", {}, what))),
      ),
    ];
    const enabled = h("input", {
      type: "checkbox",
      checked: isEnabled(),
      on: { change: () => remember(enabled.checked) },
    });
    this.#dialog.replaceChildren(
      h(
        "form",
        { method: "dialog" },
        h(
          "div",
          { class: "dialog-head" },
          h("h2", { id: "shortcuts-title" }, "Keyboard shortcuts"),
          h("button", { class: "button", autofocus: true }, "Close"),
        ),
        ...list("Everywhere", this.#always),
        ...(this.#ofView.length > 0 ? list("On this page", this.#ofView) : []),
        ...list("In tables and graphs", [
          { keys: "↑ ↓", what: "Previous and next row (also k and j)" },
          { keys: "Enter", what: "Open the row" },
          { keys: "← →", what: "Move a graph's cursor" },
        ]),
        h("label", { class: "check" }, enabled, "Single keys act as shortcuts"),
      ),
    );
    this.#dialog.showModal();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || this.#dialog.open) return;
    if (event.target.closest("input, select, textarea") && event.key !== "Escape") return;
    if (!isEnabled() && event.key.length === 1) return;
    const pair = performance.now() - this.#firstAt < PAIR_MS ? `${this.#first} ${event.key}` : "";
    const all = [...this.#ofView, ...this.#always];
    const found =
      all.find(({ keys, run }) => run && keys === pair) ?? all.find(({ keys, run }) => run && keys === event.key);
    this.#first = found ? "" : event.key;
    this.#firstAt = performance.now();
    if (!found) return;
    event.preventDefault();
    found.run();
  }
}

function keysOf(keys) {
  return keys.split(" ").flatMap((key, index) => (index > 0 ? [" ", h("kbd", {}, key)] : [h("kbd", {}, key)]));
}

function isEnabled() {
  try {
    return localStorage.getItem(STORED) !== "off";
  } catch {
    return true;
  }
}

function remember(enabled) {
  try {
    localStorage.setItem(STORED, enabled ? "on" : "off");
  } catch {
    // Storage may be forbidden; the keys then stay on.
  }
}
