// The table of records: a line each, which opens into the whole record. One line is in the tab order; the arrows walk.

import { h, replace, setAttribute } from "./dom.js";
import { bytes, exact, timestamp } from "./format.js";
import { recordDetail } from "./record_detail.js";
import { preview } from "./value.js";

/** Records on the page while following; older ones leave it. */
const RECORDS_MAX = 500;

export class RecordList {
  /** @type {HTMLElement} */
  element;
  #topic;
  #body = h("tbody");
  #table;

  /** @param {string} topic */
  constructor(topic) {
    this.#topic = topic;
    const names = [
      ["", "opener"],
      ["Time", ""],
      ["Partition", "number"],
      ["Offset", "number"],
      ["Key", ""],
      ["Value", "wide"],
      ["Size", "number rank-2"],
    ];
    const head = names.map(([name, classes]) =>
      name ? h("th", { class: classes || null, scope: "col" }, name) : h("td", { class: classes }),
    );
    this.#table = h(
      "table",
      { class: "table records", "aria-label": `Records of ${topic}` },
      h("thead", {}, h("tr", {}, ...head)),
      this.#body,
    );
    this.#body.addEventListener("keydown", (event) => this.#walk(event));
    this.#body.addEventListener("click", (event) => this.#click(event));
    this.element = h("div", { class: "table-scroller" }, this.#table);
  }

  get length() {
    return this.#lines().length;
  }

  /**
   * Shows these records in the place of all others.
   * @param {import("./record_detail.js").Record[]} records
   */
  show(records) {
    replace(this.#body, ...records.map((record) => this.#line(record)));
    this.#activate(this.#lines()[0]);
  }

  /**
   * Puts records on top, the last of them first, and lets go of what is beyond the bound.
   * @param {import("./record_detail.js").Record[]} records
   */
  prepend(records) {
    const lines = records.slice(-RECORDS_MAX).map((record) => this.#line(record));
    const wasAt = this.element.getBoundingClientRect().height;
    this.#body.prepend(...lines.reverse());
    const all = this.#lines();
    for (const line of all.slice(RECORDS_MAX)) {
      line.detail?.remove();
      line.remove();
    }
    // Somebody reading an open record keeps it where it is on the screen.
    if (this.#body.querySelector(".detail-row") && scrollY > 0)
      scrollBy(0, this.element.getBoundingClientRect().height - wasAt);
    if (!this.#body.querySelector("[tabindex='0'].opener-button")) this.#activate(this.#lines()[0]);
  }

  /** Opens the first record. */
  openFirst() {
    const [line] = this.#lines();
    if (line && !line.detail) this.#toggle(line);
  }

  #lines() {
    return [...this.#body.children].filter((row) => row.record);
  }

  #line(record) {
    const place = `partition ${record.partition}, offset ${record.offset}`;
    const button = h("button", {
      class: "opener-button",
      type: "button",
      tabindex: "-1",
      "aria-expanded": "false",
      "aria-label": `Record at ${place}`,
    });
    const line = h(
      "tr",
      { "data-place": `${record.partition}/${record.offset}` },
      h("td", { class: "opener" }, button),
      h("td", { class: "time" }, timestamp(record.timestamp_ms)),
      h("td", { class: "number" }, String(record.partition)),
      h("td", { class: "number" }, exact(record.offset)),
      h("td", { class: `key${record.key === null ? " quiet" : ""}` }, preview(record.key)),
      h("td", { class: `wide${record.value === null ? " quiet" : ""}` }, preview(record.value)),
      h("td", { class: "number rank-2" }, bytes(record.size_bytes)),
    );
    return Object.assign(line, { record, button });
  }

  #toggle(line) {
    if (line.detail) line.detail.remove();
    const detail = line.detail
      ? null
      : h("tr", { class: "detail-row" }, h("td", { colspan: 7 }, recordDetail(this.#topic, line.record)));
    line.detail = detail;
    setAttribute(line.button, "aria-expanded", String(detail !== null));
    if (detail) line.after(detail);
  }

  #activate(line) {
    for (const each of this.#lines()) setAttribute(each.button, "tabindex", each === line ? 0 : -1);
  }

  #click(event) {
    const line = event.target.closest("tr");
    if (!line?.record || (String(getSelection()) && !event.target.closest("button"))) return;
    this.#activate(line);
    this.#toggle(line);
  }

  #walk(event) {
    if (!event.target.matches(".opener-button") || event.ctrlKey || event.metaKey || event.altKey) return;
    const lines = this.#lines();
    const at = lines.findIndex(({ button }) => button === event.target);
    const last = lines.length - 1;
    const to = { ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const line = lines[Math.min(Math.max(to, 0), last)];
    this.#activate(line);
    line.button.focus();
  }
}
