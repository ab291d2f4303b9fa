// The record browser: asks what the form says, shows a page of records, goes to the next and the previous one, and
// follows what comes in.

import { ApiError, address, getRecords } from "./api.js";
import { h, replace, setAttribute, setText } from "./dom.js";
import { exact, plural, timestamp } from "./format.js";
import { Follow } from "./follow.js";
import { emptyPlace } from "./parts.js";
import { RecordForm, queryOf, questionOf } from "./record_form.js";
import { RecordList } from "./record_list.js";
import { go, link } from "./router.js";

export class RecordBrowser {
  /** @type {HTMLElement} */
  element;
  /** @type {import("./shortcuts.js").Shortcut[]} */
  shortcuts = [
    { keys: "n", what: "Next page of records", run: () => this.#next.click() },
    { keys: "p", what: "Previous page of records", run: () => this.#previous.click() },
    { keys: "f", what: "Follow new records, or stop", run: () => this.#followButton.click() },
  ];
  #topic;
  #form = new RecordForm((question) => this.#ask(question));
  #list;
  #said = h("span", { class: "quiet", role: "status" });
  #previous = h("button", { class: "button", type: "button", on: { click: () => this.#goBack() } }, "Previous");
  #next = h("button", { class: "button", type: "button", on: { click: () => this.#goOn() } }, "Next");
  #followButton = h(
    "button",
    { class: "button", type: "button", "aria-pressed": "false", on: { click: () => this.#switchFollow() } },
    "Follow",
  );
  #instead = h("div", { class: "nothing", hidden: true });
  #empty = emptyPlace("No records yet", "Produce one, and it is here at once:");
  /** @type {import("./record_form.js").Question} */
  #question = questionOf(new URLSearchParams());
  #answer = null;
  /** Addresses of the pages before this one, newest last. */
  #before = [];
  #expected = "";
  /** @type {AbortController | null} */
  #reading = null;
  /** @type {Follow | null} */
  #follow = null;

  /** @param {string} topic */
  constructor(topic) {
    this.#topic = topic;
    this.#list = new RecordList(topic);
    const bar = h(
      "div",
      { class: "record-bar" },
      this.#said,
      h("span", { class: "record-buttons" }, this.#followButton, this.#previous, this.#next),
    );
    this.element = h("div", { class: "browser" }, this.#form.element, bar, this.#list.element, this.#instead);
  }

  /** @param {number[]} indexes */
  partitions(indexes) {
    this.#form.partitions(indexes);
  }

  /** @param {{ kafka_address?: string }} broker */
  broker({ kafka_address }) {
    if (kafka_address) this.#empty.command(`echo 'hello' | kcat -P -b ${kafka_address} -t ${shellWord(this.#topic)}`);
  }

  /**
   * Reads what an address asks for.
   * @param {URLSearchParams} query
   */
  show(query) {
    if (location.hash !== this.#expected) this.#before = [];
    this.#expected = location.hash;
    this.#question = questionOf(query);
    this.#form.show(this.#question);
    this.#stopFollow();
    if (this.#question.follow) this.#startFollow();
    else this.read();
  }

  /** Reads the same again, unless it is following. */
  async read() {
    if (this.#follow) return;
    this.#reading?.abort();
    const reading = new AbortController();
    this.#reading = reading;
    this.element.setAttribute("aria-busy", "true");
    try {
      const { partition, from, offset, timestamp_ms, key, limit } = this.#question;
      const start = from === "offset" ? { offset } : from === "time" ? { timestamp_ms } : { from };
      const query = { partition, ...start, key, isolation: this.#isolation(), limit };
      const answer = await getRecords(address(["topics", this.#topic, "records"], query), reading.signal);
      if (!reading.signal.aborted) this.#showAnswer(answer);
    } catch (error) {
      if (reading.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      this.#showFailure(error);
    } finally {
      if (this.#reading === reading) this.element.removeAttribute("aria-busy");
    }
  }

  stop() {
    this.#reading?.abort();
    this.#stopFollow();
  }

  /** What transactions have not committed is left out unless it is asked for. */
  #isolation() {
    return this.#question.isolation || "read_committed";
  }

  #ask(question) {
    const to = this.#link(question);
    if (to === location.hash) this.read();
    else go(to);
  }

  #link(question) {
    return link(["topics", this.#topic], queryOf(question));
  }

  #showAnswer(answer) {
    this.#answer = answer;
    const { records } = answer;
    this.#list.show(records);
    this.#list.element.hidden = records.length === 0;
    const [first, last] = [records[0], records.at(-1)];
    const span = first ? ` from ${timestamp(first.timestamp_ms)} to ${timestamp(last.timestamp_ms)}` : "";
    const before = answer.incomplete ? "; the ones before lie too far back to be read at once" : "";
    setText(this.#said, records.length > 0 ? `${plural(records.length, "record")}${span}${before}` : "");
    const bare = this.#question.from === "latest" && !this.#question.key;
    this.#sayInstead(records.length > 0 ? null : bare ? this.#empty : emptyPlace("No records here", this.#whyNone()));
    this.#markButtons();
    if (this.#question.from === "offset" && this.#question.partition && this.#before.length === 0)
      this.#list.openFirst();
  }

  #whyNone() {
    if (this.#answer.incomplete)
      return "None of the newest records match, and the ones before are too many to be looked through at once. Ask for an earlier place.";
    const ends = Object.values(this.#answer.end ?? {});
    const end = ends.length === 1 ? ` The partition ends before offset ${exact(ends[0])}.` : "";
    return `Nothing matches from there on.${end} Ask for an earlier place, or follow what comes in.`;
  }

  #showFailure(error) {
    this.#answer = null;
    this.#list.element.hidden = true;
    setText(this.#said, "");
    const retry = h("button", { class: "button", type: "button", on: { click: () => this.read() } }, "Try again");
    this.#sayInstead(
      h(
        "div",
        { class: "empty", role: "alert" },
        h("p", { class: "empty-title" }, "The records could not be read"),
        h("p", {}, `${error.message}.`),
        retry,
      ),
    );
    this.#markButtons();
  }

  #sayInstead(what) {
    this.#instead.hidden = what === null;
    if (what) replace(this.#instead, what);
  }

  #markButtons() {
    setAttribute(this.#next, "disabled", this.#nextQuestion() === null);
    setAttribute(this.#previous, "disabled", this.#before.length === 0 && this.#previousQuestion() === null);
  }

  /** The page behind this one; null at the end. */
  #nextQuestion() {
    const { next, end } = this.#answer ?? {};
    const places = Object.entries(next ?? {});
    if (
      this.#follow ||
      places.length === 0 ||
      !places.some(([partition, offset]) => offset < (end?.[partition] ?? Infinity))
    )
      return null;
    const offset = this.#question.partition ? String(places[0][1]) : places.map((place) => place.join(":")).join(",");
    return { ...this.#question, from: "offset", offset };
  }

  /** The page before this one, where that can be computed: within one partition. */
  #previousQuestion() {
    const first = this.#answer?.records[0];
    if (this.#follow || !this.#question.partition || !first || first.offset === 0 || this.#question.key) return null;
    return { ...this.#question, from: "offset", offset: String(Math.max(0, first.offset - this.#question.limit)) };
  }

  #goOn() {
    const question = this.#nextQuestion();
    if (!question) return;
    this.#before.push(location.hash);
    this.#goTo(this.#link(question));
  }

  #goBack() {
    const question = this.#previousQuestion();
    const to = this.#before.pop() ?? (question && this.#link(question));
    if (to) this.#goTo(to);
  }

  #goTo(to) {
    this.#expected = to;
    go(to);
  }

  #switchFollow() {
    go(this.#link({ ...this.#question, from: "latest", follow: !this.#question.follow }));
  }

  #startFollow() {
    this.#reading?.abort();
    this.#answer = null;
    this.#list.show([]);
    setText(this.#followButton, "Stop following");
    setAttribute(this.#followButton, "aria-pressed", "true");
    this.#sayInstead(
      h(
        "div",
        { class: "empty" },
        h("p", { class: "empty-title" }, "Waiting for new records"),
        h("p", {}, "They appear here, the newest on top."),
      ),
    );
    this.#list.element.hidden = true;
    this.#markButtons();
    const { partition, key } = this.#question;
    const path = address(["topics", this.#topic, "records", "stream"], {
      partition,
      key,
      isolation: this.#isolation(),
      from: "latest",
    });
    const follow = new Follow(path, {
      records: (records) => {
        this.#list.element.hidden = false;
        this.#sayInstead(null);
        this.#list.prepend(records);
        setText(this.#said, `Following: ${plural(follow.received, "new record")}`);
      },
      state: (state) => {
        const words = {
          open: "Following: connected",
          retrying: "The stream broke off; connecting again",
          ended: "The broker has ended the stream",
        };
        if (state !== "open" || follow.received === 0) setText(this.#said, words[state]);
      },
    });
    this.#follow = follow;
    setText(this.#said, "Following: connecting");
  }

  #stopFollow() {
    this.#follow?.stop();
    this.#follow = null;
    setText(this.#followButton, "Follow");
    setAttribute(this.#followButton, "aria-pressed", "false");
  }
}

/** A word as a shell takes it. Topic names need no quotes unless one does not exist yet. */
function shellWord(word) {
  return /^[\w.-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
