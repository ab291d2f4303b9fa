// The last samples of rates that the broker keeps no history of, for as long as the page is open.

/** Samples a ring holds: five minutes at one every two seconds. */
const SAMPLES_MAX = 150;

/** Rings kept at a time; the least recently filled go first. */
const RINGS_MAX = 2_000;

/** @typedef {{ at_ms: number, value: number | null }} Sample */

export class Rings {
  /** @type {Map<string, Sample[]>} */
  #rings = new Map();

  /**
   * Adds a sample of now.
   * @param {string} name
   * @param {number | null | undefined} value
   */
  add(name, value) {
    const ring = this.#rings.get(name) ?? [];
    ring.push({ at_ms: Date.now(), value: value ?? null });
    if (ring.length > SAMPLES_MAX) ring.shift();
    this.#rings.delete(name);
    this.#rings.set(name, ring);
    if (this.#rings.size > RINGS_MAX) this.#rings.delete(this.#rings.keys().next().value);
  }

  /**
   * The samples of a name, oldest first.
   * @param {string} name
   * @returns {Sample[]}
   */
  of(name) {
    return this.#rings.get(name) ?? [];
  }
}

/** Shared by all pages, so that going back to one finds its lines. */
export const rings = new Rings();
