// What to read of a topic: partition, where from, which key, how many. The form and the address say the same.

import { h, replace, setAttribute } from "./dom.js";
import { localInput, timeZone } from "./format.js";

/** Records a page can have. */
const LIMITS = [25, 50, 100, 250];

export const LIMIT_DEFAULT = 50;

/**
 * @typedef {object} Question
 * @property {string} partition "" for all
 * @property {"latest" | "earliest" | "offset" | "time"} from
 * @property {string} offset of the partition; or "partition:offset" pairs with commas for several
 * @property {number | null} timestamp_ms
 * @property {string} key "" for all
 * @property {string} isolation
 * @property {number} limit
 * @property {boolean} follow
 */

/**
 * The question that an address asks.
 * @param {URLSearchParams} query
 * @returns {Question}
 */
export function questionOf(query) {
  const time = query.get("timestamp_ms");
  const offset = query.get("offset") ?? "";
  const from = offset ? "offset" : time ? "time" : query.get("from") === "earliest" ? "earliest" : "latest";
  const limit = Number(query.get("limit"));
  return {
    partition: /^\d+$/.test(query.get("partition") ?? "") ? query.get("partition") : "",
    from,
    offset,
    timestamp_ms: /^\d+$/.test(time ?? "") ? Number(time) : null,
    key: query.get("key") ?? "",
    isolation: query.get("isolation") === "read_uncommitted" ? "read_uncommitted" : "",
    limit: LIMITS.includes(limit) ? limit : LIMIT_DEFAULT,
    follow: query.get("follow") === "1",
  };
}

/**
 * The query that asks a question, of the page and of the API alike.
 * @param {Question} question
 */
export function queryOf(question) {
  const { partition, from, offset, timestamp_ms, key, isolation, limit, follow } = question;
  return {
    partition,
    offset: from === "offset" ? offset : null,
    timestamp_ms: from === "time" ? timestamp_ms : null,
    from: from === "earliest" ? "earliest" : null,
    key,
    isolation,
    limit: limit === LIMIT_DEFAULT ? null : limit,
    follow: follow ? 1 : null,
  };
}

export class RecordForm {
  /** @type {HTMLFormElement} */
  element;
  #partition = h("select", { class: "input" });
  #from = h(
    "select",
    { class: "input" },
    h("option", { value: "latest" }, "the newest records"),
    h("option", { value: "earliest" }, "the oldest records"),
    h("option", { value: "offset" }, "an offset"),
    h("option", { value: "time" }, "a time"),
  );
  #offset = h("input", { class: "input", inputmode: "numeric", pattern: "[0-9]+", size: 12, autocomplete: "off" });
  #time = h("input", { class: "input", type: "datetime-local", step: "1" });
  #key = h("input", { class: "input", type: "search", size: 14, placeholder: "any key", autocomplete: "off" });
  #limit = h("select", { class: "input" }, ...LIMITS.map((limit) => h("option", { value: limit }, String(limit))));
  #uncommitted = h("input", { type: "checkbox" });
  #offsetField;
  #timeField;
  /** @type {Question} */
  #question = questionOf(new URLSearchParams());

  /** @param {(question: Question) => void} ask */
  constructor(ask) {
    this.#offsetField = field("Offset", this.#offset);
    this.#timeField = field(`Time (${timeZone()})`, this.#time);
    const submit = (event) => {
      event.preventDefault();
      ask(this.#read());
    };
    this.#from.addEventListener("change", () => this.#showFields());
    this.#partition.addEventListener("change", () => this.#showFields());
    this.element = h(
      "form",
      { class: "record-form", on: { submit } },
      field("Partition", this.#partition),
      field("From", this.#from),
      this.#offsetField,
      this.#timeField,
      field("Key", this.#key),
      field("Records", this.#limit),
      h(
        "label",
        { class: "check", title: "Also what transactions have not committed, or have aborted" },
        this.#uncommitted,
        "uncommitted too",
      ),
      h("button", { class: "button button-main", type: "submit" }, "Read"),
    );
    this.partitions([]);
  }

  /** @param {number[]} indexes the partitions that there are */
  partitions(indexes) {
    const chosen = this.#question.partition;
    const all = chosen && !indexes.includes(Number(chosen)) ? [...indexes, Number(chosen)] : indexes;
    if (this.#partition.children.length === all.length + 1) return;
    replace(
      this.#partition,
      h("option", { value: "" }, "all"),
      ...all.map((index) => h("option", { value: index }, String(index))),
    );
    this.#partition.value = chosen;
  }

  /** @param {Question} question */
  show(question) {
    this.#question = question;
    this.partitions([...this.#partition.options].slice(1).map(({ value }) => Number(value)));
    this.#partition.value = question.partition;
    this.#from.value = question.from;
    this.#offset.value = question.offset.includes(":") ? "" : question.offset;
    this.#time.value = localInput(question.timestamp_ms ?? Date.now() - 3_600_000);
    this.#key.value = question.key;
    this.#limit.value = String(question.limit);
    this.#uncommitted.checked = question.isolation === "read_uncommitted";
    this.#showFields();
  }

  #showFields() {
    this.#offsetField.hidden = this.#from.value !== "offset";
    this.#timeField.hidden = this.#from.value !== "time";
    setAttribute(this.#offset, "required", !this.#offsetField.hidden);
    setAttribute(this.#time, "required", !this.#timeField.hidden);
  }

  #read() {
    const timestamp_ms = new Date(this.#time.value).getTime();
    return {
      partition: this.#partition.value,
      from: this.#from.value,
      offset: this.#offset.value,
      timestamp_ms: Number.isNaN(timestamp_ms) ? null : timestamp_ms,
      key: this.#key.value,
      isolation: this.#uncommitted.checked ? "read_uncommitted" : "",
      limit: Number(this.#limit.value),
      follow: false,
    };
  }
}

function field(label, input) {
  return h("label", { class: "field" }, h("span", {}, label), input);
}
