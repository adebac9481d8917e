// The launch form: faults that the server found go beside their fields, or beside their lines in the YAML.
import { toLine } from "./yaml.js";

function placeFaults() {
  const check = document.querySelector("[data-check]");
  if (!check) return;
  const messages = new Map();
  for (const item of check.querySelectorAll("[data-fault]")) {
    const path = item.dataset.fault;
    messages.set(path, [messages.get(path), item.dataset.message].filter(Boolean).join(" "));
  }
  for (const slot of document.querySelectorAll("#launch-fields [data-error]")) {
    const path = slot.dataset.error;
    const message = messages.get(path) ?? "";
    if (slot.textContent !== message) slot.textContent = message.replaceAll("`", "");
    const input = document.getElementById(`in-${path}`);
    if (message) input?.setAttribute("aria-invalid", "true"); else input?.removeAttribute("aria-invalid");
  }
  for (const section of document.querySelectorAll("#launch-fields [data-section]")) {
    const prefix = section.dataset.section === "general" ? null : section.dataset.section;
    const within = [...messages.keys()].filter((path) => (prefix ? path === prefix || path.startsWith(`${prefix}.`) : path === "name" || path === "seed"));
    section.querySelector(":scope > summary [data-count]").textContent = within.length ? `${within.length} to mend` : "";
  }
}
document.addEventListener("htmx:afterSettle", placeFaults);

// What the other settings make no use of is dimmed, and says why; it can still be changed.
function placeUnused() {
  const reasons = new Map([...document.querySelectorAll("#launch-check [data-unused]")].map((mark) => [mark.dataset.unused, mark.dataset.why]));
  for (const place of document.querySelectorAll("#launch-fields .field, #launch-fields details")) {
    const path = place.id.replace(/^(field|more|section)-/, "");
    const why = reasons.get(path) ?? "";
    place.classList.toggle("idle", Boolean(why));
    const note = place.querySelector(":scope > [data-unused-note], :scope > summary > [data-unused-note]");
    if (note) { note.textContent = why; note.hidden = !why; }
  }
}
document.addEventListener("htmx:afterSettle", placeUnused);
placeUnused();

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("[data-to-field]");
  if (!link) return;
  const field = document.getElementById(`field-${link.dataset.toField}`) ?? document.getElementById(`item-${link.dataset.toField}`) ?? document.getElementById(`group-${link.dataset.toField}`);
  event.preventDefault();
  if (!field) { toLine(Number(link.closest("[data-line]")?.dataset.line)); return; }
  for (let node = field.parentElement; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  field.scrollIntoView({ block: "center" });
  field.querySelector("input:not([type=hidden]), select, textarea")?.focus({ preventScroll: true });
});

// Folding is the reader's choice: a new version of the form keeps what is open.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target?.id !== "launch") return;
  const open = new Set([...document.querySelectorAll("#launch details[open]:not([data-menu])")].map((details) => details.id));
  const closed = new Set([...document.querySelectorAll("#launch details:not([open], [data-menu])")].map((details) => details.id));
  document.addEventListener("htmx:afterSettle", () => {
    for (const details of document.querySelectorAll("#launch details")) {
      if (open.has(details.id)) details.open = true;
      else if (closed.has(details.id) && !details.querySelector("[aria-invalid]")) details.open = false;
    }
  }, { once: true });
});
