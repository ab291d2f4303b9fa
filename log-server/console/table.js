// A table that sorts, filters, and is walked by keyboard: one row is in the tab order, the arrows move it, and Enter
// opens what the row is about. Rows keep their place while somebody points at them or walks through them.

import { h, replace, setAttribute, setText } from "./dom.js";
import { plural } from "./format.js";

/** Rows on the page at first, and added at a time. */
const ROWS_AT_A_TIME = 200;

/**
 * @template R
 * @typedef {object} Column
 * @property {string} id
 * @property {string} label
 * @property {(row: R) => string | number | null | undefined} [sort] what the column is sorted by; not sortable without
 * @property {(row: R) => string} [text]
 * @property {(row: R) => string} [href] makes the text a link
 * @property {(cell: HTMLElement, row: R) => void} [draw] in the place of `text`; called for every refresh
 * @property {boolean} [number] set to the right, largest first when it is sorted by
 * @property {1 | 2 | 3 | 4} [rank] 2 is left out on narrow pages, 3 on middling ones too, 4 on all but wide ones
 */

/** @template R */
export class Table {
  /** @type {HTMLElement} */
  element;
  #columns;
  #key;
  #search;
  #noun;
  #sort;
  #limit = ROWS_AT_A_TIME;
  /** @type {R[]} */
  #rows = [];
  /** @type {Map<string, HTMLTableRowElement>} */
  #shown = new Map();
  #active = "";
  #body = h("tbody");
  #head;
  #filter;
  #count = h("span", { class: "table-count", role: "status" });
  #more = h("button", { class: "button", type: "button", hidden: true, on: { click: () => this.#showMore() } });
  #nothing = h("div", { class: "nothing", hidden: true });
  #scroller;
  #empty;

  /**
   * @param {object} options
   * @param {string} options.label
   * @param {string} options.noun one of the rows, such as "topic"
   * @param {Column<R>[]} options.columns
   * @param {(row: R) => string} options.key
   * @param {{ by: string, descending?: boolean }} options.sort
   * @param {(row: R) => string} [options.search] what the filter looks through; no filter without
   * @param {Node} [options.empty] stands in the place of a table without rows
   * @param {(Node | null)[]} [options.tools] beside the filter
   */
  constructor({ label, noun, columns, key, sort, search, empty, tools = [] }) {
    this.#columns = columns;
    this.#key = key;
    this.#search = search;
    this.#noun = noun;
    this.#empty = empty;
    this.#sort = { by: sort.by, descending: sort.descending ?? false };
    this.#filter = h("input", {
      class: "input filter",
      type: "search",
      placeholder: `Filter ${noun}s`,
      "aria-label": `Filter ${noun}s`,
      "data-filter": true,
      on: { input: () => this.#filterChanged() },
    });
    this.#head = h("tr", {}, ...columns.map((column) => this.#headerOf(column)));
    const table = h(
      "table",
      { class: "table", role: "grid", "aria-label": label },
      h("thead", {}, this.#head),
      this.#body,
    );
    this.#body.addEventListener("keydown", (event) => this.#walk(event));
    this.#body.addEventListener("click", (event) => this.#click(event));
    this.#body.addEventListener("focusin", (event) => this.#activate(event.target.closest("tr")));
    this.#scroller = h("div", { class: "table-scroller" }, table);
    const bar =
      search || tools.length > 0
        ? h("div", { class: "table-bar" }, search ? this.#filter : null, ...tools, this.#count)
        : null;
    this.element = h("div", { class: "table-box" }, bar, this.#scroller, this.#nothing, this.#more);
    this.#markSorted();
  }

  /**
   * Shows `rows`, changing what has changed.
   * @param {R[]} rows
   */
  update(rows) {
    this.#rows = rows;
    this.#show(this.#isInUse());
  }

  #isInUse() {
    return this.#body.matches(":hover") || this.#body.contains(document.activeElement);
  }

  #show(keepOrder) {
    const found = this.#found();
    const rows = (keepOrder ? this.#inShownOrder(found) : this.#sorted(found)).slice(0, this.#limit);
    const shown = new Map();
    for (const row of rows) {
      const key = this.#key(row);
      const element = this.#shown.get(key) ?? this.#newRow(key);
      this.#fill(element, row);
      shown.set(key, element);
    }
    this.#shown = shown;
    this.#place([...shown.values()]);
    if (!shown.has(this.#active)) this.#active = shown.keys().next().value ?? "";
    for (const [key, element] of shown) setAttribute(element, "tabindex", key === this.#active ? 0 : -1);
    this.#say(found.length);
  }

  /** Moves only rows that stand elsewhere, so that focus and selection stay. */
  #place(elements) {
    const wanted = new Set(elements);
    for (const element of [...this.#body.children]) if (!wanted.has(element)) element.remove();
    elements.forEach((element, index) => {
      const there = this.#body.children[index];
      if (there !== element) this.#body.insertBefore(element, there ?? null);
    });
  }

  #say(found) {
    const all = this.#rows.length;
    setText(this.#count, found === all ? plural(all, this.#noun) : `${found} of ${plural(all, this.#noun)}`);
    this.#scroller.hidden = found === 0;
    this.#nothing.hidden = found !== 0;
    if (found === 0) {
      const what = all === 0 ? (this.#empty ?? `No ${this.#noun}s.`) : `No ${this.#noun} matches the filter.`;
      if (this.#nothing.firstChild !== what) replace(this.#nothing, what);
    }
    this.#more.hidden = found <= this.#limit;
    setText(this.#more, `Show ${Math.min(ROWS_AT_A_TIME, found - this.#limit)} more of ${found}`);
  }

  #found() {
    const words = this.#filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (!this.#search || words.length === 0) return this.#rows;
    return this.#rows.filter((row) => {
      const text = this.#search(row).toLowerCase();
      return words.every((word) => text.includes(word));
    });
  }

  #sorted(rows) {
    const sort = this.#columns.find(({ id }) => id === this.#sort.by)?.sort;
    const sign = this.#sort.descending ? -1 : 1;
    const tie = (a, b) => this.#key(a).localeCompare(this.#key(b), "en", { numeric: true });
    return [...rows].sort((a, b) => (sort ? compare(sort(a), sort(b), sign) : 0) || tie(a, b));
  }

  #inShownOrder(rows) {
    const places = new Map([...this.#shown.keys()].map((key, index) => [key, index]));
    const place = (row) => places.get(this.#key(row)) ?? Infinity;
    return this.#sorted(rows).sort((a, b) => (place(a) === place(b) ? 0 : place(a) - place(b)));
  }

  #headerOf(column) {
    const classes = classesOf(column);
    if (!column.sort) return h("th", { class: classes, scope: "col" }, column.label);
    const button = h(
      "button",
      { class: "sorter", type: "button", on: { click: () => this.#sortBy(column) } },
      column.label,
    );
    return h("th", { class: classes, scope: "col", "data-column": column.id }, button);
  }

  #sortBy(column) {
    const again = this.#sort.by === column.id;
    this.#sort = { by: column.id, descending: again ? !this.#sort.descending : Boolean(column.number) };
    this.#markSorted();
    this.#show(false);
  }

  #markSorted() {
    for (const header of this.#head.children) {
      const sorted = header.dataset.column === this.#sort.by;
      setAttribute(header, "aria-sort", sorted ? (this.#sort.descending ? "descending" : "ascending") : null);
    }
  }

  #newRow(key) {
    const cells = this.#columns.map((column, index) => {
      const inside = column.href ? h("a", { class: "row-link", tabindex: "-1" }) : null;
      const tag = index === 0 ? "th" : "td";
      return h(tag, { class: classesOf(column), scope: index === 0 ? "row" : null }, inside);
    });
    return h("tr", { "data-key": key }, ...cells);
  }

  #fill(element, row) {
    this.#columns.forEach((column, index) => {
      const cell = element.children[index];
      if (column.draw) column.draw(cell, row);
      else if (column.href) {
        setAttribute(cell.firstChild, "href", column.href(row));
        setText(cell.firstChild, column.text(row));
      } else setText(cell, column.text(row));
    });
  }

  #filterChanged() {
    this.#limit = ROWS_AT_A_TIME;
    this.#show(false);
  }

  #showMore() {
    this.#limit += ROWS_AT_A_TIME;
    this.#show(false);
  }

  #activate(row) {
    if (!row) return;
    this.#active = row.dataset.key;
    for (const each of this.#body.children) setAttribute(each, "tabindex", each === row ? 0 : -1);
  }

  #walk(event) {
    const rows = [...this.#body.children];
    const at = rows.indexOf(event.target.closest("tr"));
    const last = rows.length - 1;
    const steps = {
      ArrowDown: at + 1,
      j: at + 1,
      ArrowUp: at - 1,
      k: at - 1,
      Home: 0,
      End: last,
      PageDown: at + 10,
      PageUp: at - 10,
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" && event.target.matches("tr")) event.target.querySelector(".row-link")?.click();
    const to = steps[event.key];
    if (to === undefined) return;
    event.preventDefault();
    rows[Math.min(Math.max(to, 0), last)].focus();
  }

  /** A click anywhere in a row is one on its link, except where text is being selected. */
  #click(event) {
    if (event.target.closest("a, button") || String(getSelection())) return;
    event.target.closest("tr")?.querySelector(".row-link")?.click();
  }
}

function classesOf({ number, rank }) {
  return [number ? "number" : "", rank ? `rank-${rank}` : ""].join(" ").trim() || null;
}

/** What is not known comes last, either way round. */
function compare(a, b, sign) {
  const missing = (a === null || a === undefined ? 1 : 0) - (b === null || b === undefined ? 1 : 0);
  if (missing !== 0 || a === null || a === undefined) return missing;
  if (typeof a === "string") return sign * a.localeCompare(String(b), "en", { numeric: true });
  return sign * (a - b);
}
