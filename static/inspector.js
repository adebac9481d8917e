// The inspector: a list that is walked by keys, and the exchange beside it. Without scripts every link opens a page of its own.
import { listen } from "./exchange.js";
import { VirtualList } from "./virtual-list.js";

const root = document.querySelector("#inspector");
const pane = document.querySelector("#exchange-pane");
const narrow = matchMedia("(max-width: 60rem)");
const list = new VirtualList(document.querySelector("#exchange-list"), root.dataset.address);
const FOLLOW = 3000; // ms
const DEBOUNCE = 70; // ms: keys held down walk the list, and only where they stop an exchange is opened
let current = document.querySelector("#exchange")?.dataset.id;
let asked;
let soon;

// ---- the exchange ----
async function open(address, { keep = false, push = false } = {}) {
  asked?.abort();
  asked = new AbortController();
  const url = new URL(address, location.href);
  const id = url.pathname.split("/").at(-1);
  mark(id);
  pane.setAttribute("aria-busy", "true");
  let answer;
  try {
    answer = await fetch(url, { headers: { "HX-Request": "true" }, signal: asked.signal });
    if (!answer.ok) { location.assign(url); return; }
    const text = await answer.text();
    const { scrollTop } = pane;
    htmx.swap(pane.querySelector("#exchange") ?? pane.firstElementChild, text, { swapStyle: "outerHTML" });
    pane.scrollTop = keep ? scrollTop : 0;
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    return;
  } finally {
    pane.removeAttribute("aria-busy");
  }
  const own = new URLSearchParams(url.search);
  own.set("exchange", id);
  history[push ? "pushState" : "replaceState"](null, "", `${root.dataset.address}?${own}`);
}

function mark(id) {
  current = id;
  for (const link of list.box.querySelectorAll("a[aria-current]")) link.removeAttribute("aria-current");
  const item = list.item(id);
  item?.querySelector("a").setAttribute("aria-current", "true");
  item?.scrollIntoView({ block: "nearest" });
  return item;
}
list.box.addEventListener("list:changed", () => list.item(current)?.querySelector("a").setAttribute("aria-current", "true"));

function choose(item) {
  if (!item) return;
  const link = item.querySelector("a");
  mark(item.dataset.id);
  link.focus({ preventScroll: true });
  if (narrow.matches) return;
  clearTimeout(soon);
  soon = setTimeout(() => open(link.href), DEBOUNCE);
}

root.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.defaultPrevented) return;
  if (link.matches('[data-key="first"], [data-key="last"]')) {
    event.preventDefault();
    const end = link.dataset.key === "last";
    list.go(new URL(link.href).search, end).then(() => choose(list.items.at(end ? -1 : 0)));
    return;
  }
  if (link.matches('[data-key="next-page"]')) { event.preventDefault(); list.extend("next"); return; }
  if (narrow.matches || link.matches("[data-own-page]") || !/^\/exchanges\/\d+$/.test(link.pathname)) return;
  event.preventDefault();
  if (list.box.contains(link) && link.pathname.endsWith(`/${current}`)) return; // open already, with whatever was typed there
  clearTimeout(soon);
  open(link.href, { keep: link.matches("[data-keep-scroll]"), push: true });
});

root.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-pane]") || narrow.matches) return;
  event.preventDefault();
  const query = new URLSearchParams([...new FormData(event.target)].filter(([, value]) => value !== ""));
  open(`${event.target.getAttribute("action")}?${query}`, { keep: true });
});
addEventListener("popstate", () => location.reload());

// ---- a place in the run, and what comes while one looks ----
const place = document.querySelector("#exchange-place");
const { low, high } = root.dataset;
place.hidden = Number(high) - Number(low) < 500;
place.addEventListener("change", () => list.go(`${root.dataset.query}${root.dataset.query ? "&" : "?"}at=${place.value}`).then(() => choose(list.items[0])));
let told = 0;
list.box.addEventListener("scroll", () => {
  if (place.hidden || performance.now() - told < 100) return;
  told = performance.now();
  const top = list.items.find((item) => item.offsetTop + item.offsetHeight > list.box.scrollTop);
  if (top) place.value = String(1000 * (top.dataset.id - low) / (high - low));
}, { passive: true });

async function followRun() {
  if (!document.hidden && (await list.follow(root.dataset.query))) {
    const answer = await fetch(`/api/v1${root.dataset.address}/facets${root.dataset.query}`);
    if (answer.ok) document.querySelector("#inspector-total strong").textContent = (await answer.json()).total.toLocaleString("en").replaceAll(",", "\u2009");
  }
  setTimeout(followRun, FOLLOW);
}
if (root.dataset.live === "true") setTimeout(followRun, FOLLOW);

// ---- picking ----
const picked = new Set();
const bar = document.querySelector("#picked");
function showPicked() {
  bar.hidden = picked.size === 0;
  document.querySelector("#picked-count").textContent = `${picked.size} picked`;
  const query = new URLSearchParams([...picked].map((id) => ["id", id]));
  const file = `/api/v1${root.dataset.address}/export?${query}`;
  document.querySelector("#picked-export").href = file;
  document.querySelector("#picked-tokens").href = `${file}&tokens=true`;
}
list.box.addEventListener("change", (event) => {
  if (!event.target.matches(".pick")) return;
  const { id } = event.target.closest(".entry").dataset;
  if (event.target.checked) picked.add(id); else picked.delete(id);
  showPicked();
});
list.box.addEventListener("list:changed", () => { for (const item of list.items) item.querySelector(".pick").checked = picked.has(item.dataset.id); });
document.querySelector("#picked-clear").addEventListener("click", () => {
  picked.clear();
  for (const box of list.box.querySelectorAll(".pick")) box.checked = false;
  showPicked();
});

// ---- keys ----
const walk = (step) => async () => choose((await list.beside(current, step)) ?? (list.item(current) ? undefined : list.items[0]));
listen({
  j: walk(1),
  k: walk(-1),
  x: () => list.item(current)?.querySelector(".pick").click(),
  Enter: (event) => {
    const own = document.querySelector("#exchange [data-own-page]");
    const link = event.target.closest?.("a[href], button, summary, [type='checkbox']");
    if (link && !link.matches("[data-row-link]")) link.click();
    else if (narrow.matches && link) location.assign(link.href);
    else if (own) location.assign(own.href);
  },
});
if (narrow.matches) document.querySelector("#exchange-filters").open = false;
list.item(current)?.scrollIntoView({ block: "center" });
