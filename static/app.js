// What every page shares: explanations on hover and focus, the connection's state, and keys on lists.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
tip.setAttribute("role", "tooltip");
document.body.append(tip);

function showTip(target) {
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  const box = target.getBoundingClientRect();
  const own = tip.getBoundingClientRect();
  const left = Math.min(Math.max(12, box.left + box.width / 2 - own.width / 2), innerWidth - own.width - 12);
  const above = box.top - own.height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
}
const hideTip = () => { tip.hidden = true; };
for (const name of ["mouseover", "focusin"]) {
  document.addEventListener(name, (event) => {
    const target = event.target.closest?.("[data-tip]");
    if (target) showTip(target); else hideTip();
  });
}
document.addEventListener("focusout", hideTip);
document.addEventListener("scroll", hideTip, { passive: true, capture: true });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });

// A lost stream is said, never hidden: what is on the page may be old until it is back.
const offline = document.querySelector("#offline");
let lost;
document.addEventListener("htmx:sseError", () => { lost ??= setTimeout(() => { offline.hidden = false; }, 2000); });
document.addEventListener("htmx:sseOpen", () => { clearTimeout(lost); lost = undefined; offline.hidden = true; });
addEventListener("pagehide", () => clearTimeout(lost));

// Who signs out goes where that leads: what the page's live parts are refused meanwhile leads nowhere else.
let leaving = false;
document.addEventListener("submit", (event) => { leaving ||= event.target.matches("form[action='/logout']"); });
document.addEventListener("htmx:beforeOnLoad", (event) => { if (leaving) event.preventDefault(); });

// A whole row of a list is a target; its link stays the real one.
document.addEventListener("click", (event) => {
  const row = event.target.closest?.("tr[data-href]");
  if (row && !event.target.closest("a, button, input, select, label") && !getSelection().toString()) location.assign(row.dataset.href);
});

document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center", behavior: "instant" });

// A table wider than its box scrolls, by the keyboard too.
function reachScrollers() {
  for (const box of document.querySelectorAll(".scroll:not([tabindex]), .scroll[data-wide]")) {
    const wide = box.scrollWidth > box.clientWidth + 1;
    if (wide === "wide" in box.dataset) continue;
    box.toggleAttribute("data-wide", wide);
    if (wide) box.tabIndex = 0; else box.removeAttribute("tabindex");
    if (!box.hasAttribute("aria-label")) { box.setAttribute("role", "group"); box.ariaLabel = "Scrolls sideways"; }
  }
}
reachScrollers();
addEventListener("resize", reachScrollers);
document.addEventListener("toggle", reachScrollers, true);
document.addEventListener("htmx:afterSettle", reachScrollers);

// A slash goes to the search; off while typing.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea, [contenteditable]")) return;
  const search = document.querySelector("[type='search']");
  if (search) { event.preventDefault(); search.focus(); }
});

// Small habits of forms and links: selects that filter at once, buttons that work once, links that keep the place on the page.
document.addEventListener("change", (event) => { if (event.target.matches?.("[data-submit]")) event.target.form.requestSubmit(); });
document.addEventListener("formdata", (event) => {
  if (event.target.method !== "get") return;
  for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name); // an address says only what was chosen
});
document.addEventListener("submit", (event) => {
  const button = event.target.querySelector?.("[data-once]");
  if (button) setTimeout(() => { button.disabled = true; });
});
addEventListener("pageshow", () => { for (const button of document.querySelectorAll("[data-once]")) button.disabled = false; });
document.addEventListener("click", (event) => {
  if (event.target.closest?.("a[data-keep-scroll]")) sessionStorage.setItem("scroll", String(scrollY));
});
const place = sessionStorage.getItem("scroll");
if (place !== null) {
  sessionStorage.removeItem("scroll");
  scrollTo({ top: Number(place), behavior: "instant" });
}

// What is shown once can be copied: to the clipboard where the browser lets us, else it is selected.
document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  source.select();
  try {
    await navigator.clipboard.writeText(source.value);
    button.textContent = "Copied";
  } catch { button.textContent = "Press Ctrl+C"; }
});

// A menu closes when something else is pressed.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("[data-menu][open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("[data-menu][open]")) { menu.open = false; menu.querySelector("summary").focus(); }
});
