// Choosing runs to compare. The choice outlives the table, which is replaced as runs go on, and the page, as lists are paged;
// it ends with the tab.
const bar = document.querySelector("[data-pick]");
const MOST = 50;
const KEY = "runs-to-compare";
const chosen = new Set((sessionStorage.getItem(KEY) ?? "").split(",").filter(Boolean));
const boxes = () => document.querySelectorAll("#runs-table input[name='runs']");

function show() {
  for (const box of boxes()) {
    box.checked = chosen.has(box.value);
    box.disabled = !box.checked && chosen.size >= MOST;
  }
  bar.hidden = chosen.size === 0;
  bar.querySelector("[data-pick-count]").textContent = `${chosen.size} ${chosen.size === 1 ? "run" : "runs"} chosen${chosen.size >= MOST ? ", no more fit" : ""}`;
  sessionStorage.setItem(KEY, [...chosen].join(","));
}
document.addEventListener("change", (event) => {
  if (!event.target.matches?.("#runs-table input[name='runs']")) return;
  if (event.target.checked) chosen.add(event.target.value); else chosen.delete(event.target.value);
  show();
});
bar.querySelector("[data-pick-clear]").addEventListener("click", () => {
  chosen.clear();
  show();
  boxes()[0]?.focus();
});
bar.addEventListener("submit", (event) => {
  event.preventDefault();
  location.assign(`/compare?runs=${[...chosen].sort((a, b) => a - b).join(",")}`);
});
document.addEventListener("htmx:afterSwap", show);
addEventListener("pageshow", show); // back from another page: the browser may have put back boxes of its own
show();
