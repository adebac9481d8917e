// Runs before the first paint, so that a remembered theme never flashes.
(() => {
  const root = document.documentElement;
  const order = ["auto", "light", "dark"];
  const read = () => {
    try { return localStorage.getItem("theme") ?? "auto"; } catch { return "auto"; }
  };
  const apply = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.setAttribute("aria-label", `Theme: ${theme}. Change it.`);
      button.dataset.tip = `Theme: ${theme}`;
      button.dataset.theme = theme;
    }
    for (const button of document.querySelectorAll("[data-theme-set]")) button.setAttribute("aria-pressed", String(button.dataset.themeSet === theme));
  };
  apply(read());
  document.addEventListener("DOMContentLoaded", () => apply(read()));
  document.addEventListener("click", (event) => {
    const chosen = event.target.closest?.("[data-theme-set]")?.dataset.themeSet;
    if (!chosen && !event.target.closest?.("[data-theme-toggle]")) return;
    const next = chosen ?? order[(order.indexOf(read()) + 1) % order.length];
    try { localStorage.setItem("theme", next); } catch { /* private mode: lasts for this page */ }
    apply(next);
    document.dispatchEvent(new Event("themechange"));
  });
})();
