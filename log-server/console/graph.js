// A graph over time as SVG: axes, one or more lines with gaps where there are no data, and a cursor for pointer and
// keyboard. Graphs that are linked share the cursor.

import { h, replace, setAttribute, setText, svg } from "./dom.js";
import { timeOfDay } from "./format.js";
import { timeTicks, valueTicks } from "./scale.js";

const MARGIN = { top: 10, right: 12, bottom: 24, left: 68 };

/** Room that a label on the time axis takes, and what a digit of it takes, in pixels. */
const TIME_LABEL_PX = 84;
const DIGIT_PX = 7;

/** Points further apart than this many steps are not joined. */
const JOINED_STEPS = 2.5;

/**
 * @typedef {{ at_ms: number } & Record<string, number | null>} Point
 * @typedef {object} Line
 * @property {string} name
 * @property {(point: Point) => number | null | undefined} of
 * @property {string} [style] "first" or "second"
 * @typedef {object} Data
 * @property {Point[]} points in order of time
 * @property {number} step_seconds
 * @property {number} from_ms
 * @property {number} to_ms
 */

export class Graph {
  /** @type {HTMLElement} */
  element;
  #lines;
  #unit;
  #read;
  #drawing = svg("svg", { class: "graph-drawing", "aria-hidden": "true" });
  #plot;
  #readout = h("output", { class: "graph-readout", "aria-live": "off" });
  #height;
  #width = 640;
  /** @type {Data} */
  #data = { points: [], step_seconds: 1, from_ms: Date.now() - 300_000, to_ms: Date.now() };
  /** @type {number | null} */
  #cursor_ms = null;
  /** @type {(at_ms: number | null) => void} */
  #moved = (at_ms) => this.cursor(at_ms);

  /**
   * @param {object} options
   * @param {string} options.label what is drawn, with its unit
   * @param {Line[]} options.lines
   * @param {import("./scale.js").Unit} options.unit
   * @param {(value: number) => string} options.axis a tick's text
   * @param {(point: Point) => string} options.read a point's values in words
   * @param {number} [options.height] in pixels
   */
  constructor({ label, lines, unit, axis, read, height = 190 }) {
    this.#lines = lines;
    this.#unit = unit;
    this.axis = axis;
    this.#read = read;
    this.#height = height;
    this.#plot = h("div", {
      class: "graph-plot",
      role: "slider",
      tabindex: "0",
      "aria-label": `${label}, over time`,
      "aria-valuemin": "0",
      on: {
        pointermove: (event) => this.#moved(this.#timeAt(event)),
        pointerleave: () => this.#moved(null),
        keydown: (event) => this.#key(event),
        blur: () => this.#moved(null),
      },
    });
    this.#plot.style.setProperty("--graph-height", `${height}px`);
    this.#plot.append(this.#drawing);
    const legend =
      lines.length > 1 ? lines.map(({ name, style }) => h("span", { class: `legend legend-${style}` }, name)) : [];
    this.element = h(
      "figure",
      { class: "graph" },
      h("figcaption", { class: "graph-head" }, h("span", { class: "graph-label" }, label), ...legend, this.#readout),
      this.#plot,
    );
    new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width > 0 && width !== this.#width) {
        this.#width = width;
        this.#draw();
      }
    }).observe(this.#plot);
  }

  /** @param {Data} data */
  update(data) {
    this.#data = data;
    this.#draw();
  }

  /**
   * Shows the point nearest to a time, or the newest one for null.
   * @param {number | null} at_ms
   */
  cursor(at_ms) {
    this.#cursor_ms = at_ms;
    this.#drawCursor();
  }

  /**
   * Has the cursor of each of `graphs` follow that of the others.
   * @param {Graph[]} graphs
   */
  static link(graphs) {
    for (const graph of graphs) {
      graph.#moved = (at_ms) => {
        for (const each of graphs) each.cursor(at_ms);
      };
    }
  }

  #draw() {
    const max = Math.max(0, ...this.#data.points.flatMap((point) => this.#lines.map((line) => line.of(point) ?? 0)));
    const ticks = valueTicks(max, this.#unit);
    this.top = ticks.at(-1);
    setAttribute(this.#drawing, "viewBox", `0 0 ${this.#width} ${this.#height}`);
    const { from_ms, to_ms } = this.#data;
    const times = timeTicks(from_ms, to_ms, Math.max(1, Math.floor(this.#inner() / TIME_LABEL_PX)));
    this.marks = svg("g", { class: "graph-cursor" });
    replace(
      this.#drawing,
      svg("g", { class: "graph-grid" }, ...ticks.map((value) => this.#valueTick(value))),
      svg("g", { class: "graph-times" }, ...times.at_ms.map((at) => this.#timeTick(at, times.step_s))),
      ...this.#lines.flatMap((line) => this.#paths(line)),
      this.marks,
    );
    this.#drawCursor();
  }

  #valueTick(value) {
    const y = this.#y(value);
    return svg(
      "g",
      {},
      svg("line", { x1: MARGIN.left, x2: this.#width - MARGIN.right, y1: y, y2: y }),
      svg("text", { x: MARGIN.left - 10, y: y + 4, "text-anchor": "end" }, this.axis(value)),
    );
  }

  #timeTick(at_ms, step_s) {
    const x = this.#x(at_ms);
    const text = timeOfDay(at_ms).slice(0, step_s < 60 ? 8 : 5);
    // At the right edge there is less room than half of it.
    const middle = Math.min(x, this.#width - (text.length * DIGIT_PX) / 2);
    const foot = this.#height - MARGIN.bottom;
    return svg(
      "g",
      {},
      svg("line", { x1: x, x2: x, y1: foot, y2: foot + 4 }),
      svg("text", { x: middle, y: this.#height - 6, "text-anchor": "middle" }, text),
    );
  }

  #paths(line) {
    const foot = this.#y(0).toFixed(1);
    let outline = "";
    let area = "";
    for (const run of this.#runs(line)) {
      const joined = run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
      // A point that stands alone is a line of no length, which its round end makes a dot.
      outline += `M${joined}${run.length === 1 ? "h0" : ""}`;
      area += `M${run[0][0].toFixed(1)} ${foot}L${joined}L${run.at(-1)[0].toFixed(1)} ${foot}Z`;
    }
    const style = line.style ?? "first";
    return [
      style === "first" ? svg("path", { class: "graph-area", d: area }) : null,
      svg("path", { class: `graph-line graph-line-${style}`, d: outline }),
    ];
  }

  /** Points that are joined, as coordinates. */
  #runs(line) {
    const runs = [];
    let last_ms = -Infinity;
    for (const point of this.#data.points) {
      const value = line.of(point);
      if (value === null || value === undefined) {
        last_ms = -Infinity;
        continue;
      }
      if (point.at_ms - last_ms > this.#data.step_seconds * 1000 * JOINED_STEPS) runs.push([]);
      runs.at(-1).push([this.#x(point.at_ms), this.#y(value)]);
      last_ms = point.at_ms;
    }
    return runs;
  }

  #drawCursor() {
    const { points } = this.#data;
    const index = this.#cursor_ms === null ? points.length - 1 : nearest(points, this.#cursor_ms);
    setAttribute(this.#plot, "aria-valuemax", Math.max(0, points.length - 1));
    setAttribute(this.#plot, "aria-valuenow", Math.max(0, index));
    const point = points[index];
    const text = point ? `${timeOfDay(point.at_ms)}  ${this.#read(point)}` : "no data yet";
    setAttribute(this.#plot, "aria-valuetext", text);
    setText(this.#readout, text);
    if (!this.marks) return;
    if (!point || this.#cursor_ms === null) {
      replace(this.marks);
      return;
    }
    const x = this.#x(point.at_ms);
    const dots = this.#lines.flatMap((line) => {
      const value = line.of(point);
      const dot = { class: `graph-dot graph-dot-${line.style ?? "first"}`, cx: x, cy: this.#y(value ?? 0), r: 4 };
      return value === null || value === undefined ? [] : [svg("circle", dot)];
    });
    replace(this.marks, svg("line", { x1: x, x2: x, y1: MARGIN.top, y2: this.#height - MARGIN.bottom }), dots);
  }

  #key(event) {
    const { points } = this.#data;
    const last = points.length - 1;
    const at = this.#cursor_ms === null ? last : nearest(points, this.#cursor_ms);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 20, PageDown: at + 20, Home: 0, End: last }[
      event.key
    ];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.#moved(points[Math.min(Math.max(to, 0), last)].at_ms);
  }

  #timeAt(event) {
    const { left } = this.#plot.getBoundingClientRect();
    const share = (event.clientX - left - MARGIN.left) / this.#inner();
    return this.#data.from_ms + share * (this.#data.to_ms - this.#data.from_ms);
  }

  #inner() {
    return Math.max(1, this.#width - MARGIN.left - MARGIN.right);
  }

  #x(at_ms) {
    const { from_ms, to_ms } = this.#data;
    return MARGIN.left + ((at_ms - from_ms) / Math.max(1, to_ms - from_ms)) * this.#inner();
  }

  #y(value) {
    return MARGIN.top + (1 - value / this.top) * (this.#height - MARGIN.top - MARGIN.bottom);
  }
}

/** Index of the point nearest to a time; -1 without points. */
function nearest(points, at_ms) {
  let best = points.length - 1;
  for (let index = 0; index < points.length; index += 1) {
    if (Math.abs(points[index].at_ms - at_ms) < Math.abs(points[best].at_ms - at_ms)) best = index;
  }
  return best;
}
