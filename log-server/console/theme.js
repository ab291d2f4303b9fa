// Light and dark: the system's preference until somebody chooses, and their choice from then on. boot.js applies a
// choice before the first paint.

import { replace, setAttribute, svg } from "./dom.js";

const STORED = "highwater.theme";
const SYSTEM = matchMedia("(prefers-color-scheme: dark)");

const SUN =
  "M12 7.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6 19 19M19 5l-1.4 1.4M6.4 17.6 5 19";
const MOON = "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5";

/** @returns {"light" | "dark"} */
function current() {
  const chosen = document.documentElement.dataset.theme;
  if (chosen === "light" || chosen === "dark") return chosen;
  return SYSTEM.matches ? "dark" : "light";
}

/**
 * Makes a button switch between the themes.
 * @param {HTMLElement} button
 * @returns {() => void} switches
 */
export function themeSwitch(button) {
  const show = () => {
    const other = current() === "dark" ? "light" : "dark";
    setAttribute(button, "aria-label", `Use the ${other} theme`);
    setAttribute(button, "title", `Use the ${other} theme (d)`);
    const path = svg("path", {
      d: other === "light" ? SUN : MOON,
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 1.8,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
    });
    replace(button, svg("svg", { viewBox: "0 0 24 24", width: 18, height: 18, "aria-hidden": "true" }, path));
  };
  const change = () => {
    const other = current() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = other;
    try {
      localStorage.setItem(STORED, other);
    } catch {
      // Storage may be forbidden; the choice then lasts as long as the page.
    }
    show();
  };
  button.addEventListener("click", change);
  SYSTEM.addEventListener("change", show);
  show();
  return change;
}
