// Runs before the first paint, so that a chosen theme does not flash the other one. Everything else is in app.js.
try {
  const chosen = localStorage.getItem("highwater.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; the system's preference counts then.
}
