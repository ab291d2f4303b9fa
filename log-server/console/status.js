// What the page says of itself and of the broker: whether it is live, what could not be read and when it is tried
// again, and what the broker is refusing or running out of.

import { h, replace, setText } from "./dom.js";
import { timeOfDay } from "./format.js";
import { Poll } from "./poll.js";
import { tick } from "./ticker.js";

/** @typedef {{ error: Error, retry_at: number, retry: () => void }} Trouble */

export class Status {
  #pulse;
  #banners;
  /** @type {Map<string, Trouble>} */
  #troubles = new Map();
  /** @type {Map<string, HTMLElement>} */
  #notices = new Map();
  #trouble = null;
  #answered_ms = 0;

  /**
   * @param {HTMLElement} pulse where it says whether the page is live
   * @param {HTMLElement} banners where banners go
   */
  constructor(pulse, banners) {
    this.#pulse = pulse;
    this.#banners = banners;
    document.addEventListener("visibilitychange", () => this.#showPulse());
    this.#showPulse();
  }

  /**
   * A poll whose failures show up here, in words, until it succeeds or stops.
   * @param {object} options
   * @param {string} options.what what is read, such as "the topics"
   * @param {number} options.every_ms
   * @param {(signal: AbortSignal) => Promise<any>} options.load
   * @param {(data: any) => void} options.done
   * @param {(error: Error) => boolean} [options.failed] true if the view shows the failure itself
   * @returns {{ start: () => void, stop: () => void, now: () => void }}
   */
  poll({ what, every_ms, load, done, failed }) {
    const poll = new Poll({
      every_ms,
      load,
      done: (data) => {
        this.#answered_ms = Date.now();
        this.#settle(what);
        done(data);
      },
      failed: ({ error, retry_at }) => {
        if (failed?.(error)) this.#settle(what);
        else {
          this.#troubles.set(what, { error, retry_at, retry: () => poll.now() });
          this.#show();
        }
      },
    });
    const stop = () => {
      poll.stop();
      this.#settle(what);
    };
    return { start: () => poll.start(), stop, now: () => poll.now() };
  }

  /**
   * Shows a banner about the broker, or takes it away for null.
   * @param {string} id
   * @param {{ tone: "bad" | "warn", title: string, text: string } | null} notice
   */
  notice(id, notice) {
    const shown = this.#notices.get(id);
    if (!notice) {
      shown?.remove();
      this.#notices.delete(id);
      return;
    }
    const banner = shown ?? h("div", { class: "banner", role: "status" }, h("strong"), h("span"));
    banner.className = `banner banner-${notice.tone}`;
    setText(banner.children[0], notice.title);
    setText(banner.children[1], notice.text);
    if (!shown) {
      this.#notices.set(id, banner);
      this.#banners.append(banner);
    }
  }

  #settle(what) {
    this.#troubles.delete(what);
    this.#show();
  }

  #show() {
    this.#showPulse();
    if (this.#troubles.size === 0) {
      this.#trouble?.remove();
      this.#trouble = null;
      return;
    }
    if (!this.#trouble) {
      const retry = () => {
        for (const { retry } of [...this.#troubles.values()]) retry();
      };
      this.#trouble = h(
        "div",
        { class: "banner banner-bad", role: "alert" },
        h("strong"),
        h("span"),
        h("span", { class: "banner-wait", "aria-live": "off" }),
        h("button", { class: "button", type: "button", on: { click: retry } }, "Try now"),
      );
      this.#banners.prepend(this.#trouble);
    }
    const [title, text, wait] = this.#trouble.children;
    const troubles = [...this.#troubles];
    const silent = troubles.every(([, { error }]) => (error.status ?? 0) === 0);
    setText(title, silent ? "The broker does not answer." : "Not everything could be read.");
    const since = this.#answered_ms ? ` What is shown is from ${timeOfDay(this.#answered_ms)}.` : "";
    setText(text, `${reasons(troubles)}${since}`);
    tick(wait, () => waitText(troubles));
  }

  #showPulse() {
    const [state, text] = document.hidden
      ? ["paused", "Paused"]
      : this.#troubles.size > 0
        ? ["bad", "Retrying"]
        : this.#answered_ms
          ? ["live", "Live"]
          : ["paused", "Connecting"];
    if (this.#pulse.dataset.state === state && this.#pulse.textContent === text) return;
    this.#pulse.dataset.state = state;
    replace(this.#pulse, h("span", { class: "pulse-dot", "aria-hidden": "true" }), text);
  }
}

/** One sentence a reason, with everything that failed for it. */
function reasons(troubles) {
  const whats = new Map();
  for (const [what, { error }] of troubles) whats.set(error.message, [...(whats.get(error.message) ?? []), what]);
  return [...whats].map(([reason, all]) => `Could not read ${all.join(", ")}: ${reason}.`).join(" ");
}

function waitText(troubles) {
  const next = Math.min(...troubles.map(([, { retry_at }]) => retry_at));
  const wait_s = Math.ceil((next - performance.now()) / 1000);
  return wait_s > 0 ? `Trying again in ${wait_s} s.` : "Trying again now.";
}
