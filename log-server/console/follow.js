// New records as they come: server-sent events, handed on in bunches of what arrived within a frame's time.

import { parseExactly } from "./api.js";

/** Records that may wait for the next bunch; older ones are passed over and counted. */
const WAITING_MAX = 1_000;

const BUNCH_MS = 150;

export class Follow {
  #source;
  #waiting = [];
  #timer = 0;
  /** Records that have come so far. */
  received = 0;

  /**
   * @param {string} path of the stream
   * @param {object} on
   * @param {(records: import("./record_detail.js").Record[]) => void} on.records
   * @param {(state: "open" | "retrying" | "ended") => void} on.state
   */
  constructor(path, on) {
    this.#source = new EventSource(path);
    this.#source.addEventListener("open", () => on.state("open"));
    this.#source.addEventListener("error", () =>
      on.state(this.#source.readyState === EventSource.CLOSED ? "ended" : "retrying"),
    );
    this.#source.addEventListener("record", (event) => {
      this.received += 1;
      this.#waiting.push(parseExactly(event.data));
      if (this.#waiting.length > WAITING_MAX) this.#waiting.shift();
      if (this.#timer === 0) this.#timer = setTimeout(() => this.#hand(on.records), BUNCH_MS);
    });
  }

  stop() {
    clearTimeout(this.#timer);
    this.#source.close();
  }

  #hand(to) {
    this.#timer = 0;
    const records = this.#waiting;
    this.#waiting = [];
    to(records);
  }
}
