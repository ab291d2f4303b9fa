// Asks again and again: one request at a time, none while the page is hidden, and more rarely while they fail.

const RETRY_MAX_MS = 15_000;

/**
 * @typedef {object} Failure
 * @property {Error} error
 * @property {number} retry_at by `performance.now()`
 */

export class Poll {
  #load;
  #every_ms;
  #done;
  #failed;
  #timer = 0;
  #failures = 0;
  #controller = null;
  #stopped = true;
  #onVisibility = () => (document.hidden ? this.#pause() : this.now());

  /**
   * @param {object} options
   * @param {number} options.every_ms from an answer to the next request
   * @param {(signal: AbortSignal) => Promise<any>} options.load
   * @param {(data: any) => void} options.done
   * @param {(failure: Failure) => void} options.failed
   */
  constructor({ every_ms, load, done, failed }) {
    this.#every_ms = every_ms;
    this.#load = load;
    this.#done = done;
    this.#failed = failed;
  }

  start() {
    this.#stopped = false;
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.now();
  }

  stop() {
    this.#stopped = true;
    document.removeEventListener("visibilitychange", this.#onVisibility);
    this.#pause();
  }

  /** Asks at once, instead of whatever is under way. */
  async now() {
    this.#pause();
    if (this.#stopped) return;
    const controller = new AbortController();
    this.#controller = controller;
    let data;
    try {
      data = await this.#load(controller.signal);
    } catch (error) {
      if (!controller.signal.aborted) this.#retry(error);
      return;
    }
    if (controller.signal.aborted) return;
    this.#failures = 0;
    this.#again(this.#every_ms);
    this.#done(data);
  }

  #retry(error) {
    const wait_ms = Math.min(this.#every_ms * 2 ** Math.min(this.#failures, 10), RETRY_MAX_MS);
    this.#failures += 1;
    this.#again(wait_ms);
    this.#failed({ error, retry_at: performance.now() + wait_ms });
  }

  #again(wait_ms) {
    if (!this.#stopped && !document.hidden) this.#timer = setTimeout(() => this.now(), wait_ms);
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#controller?.abort();
    this.#controller = null;
  }
}
