// The YAML box: numbered lines, marks on those at fault, and a way to them.
const box = () => document.querySelector("#yaml");

function draw() {
  const text = box();
  const gutter = document.querySelector("#yaml-lines");
  if (!text || !gutter) return;
  const faults = new Map();
  for (const item of document.querySelectorAll("#launch-check [data-line]")) {
    const line = Number(item.dataset.line);
    faults.set(line, [faults.get(line), item.dataset.message].filter(Boolean).join(" "));
  }
  const count = text.value.split("\n").length;
  while (gutter.children.length > count) gutter.lastChild.remove();
  while (gutter.children.length < count) gutter.append(document.createElement("span"));
  for (const [index, mark] of [...gutter.children].entries()) {
    const message = faults.get(index + 1) ?? "";
    mark.textContent = String(index + 1);
    mark.classList.toggle("at-fault", Boolean(message));
    if (message) mark.dataset.tip = message; else delete mark.dataset.tip;
  }
  follow();
}

function follow() {
  const gutter = document.querySelector("#yaml-lines");
  if (gutter && box()) gutter.scrollTop = box().scrollTop;
}

// Selects a line, and brings it into view.
export function toLine(line) {
  const text = box();
  if (!text) return;
  text.focus();
  if (!line) return;
  const lines = text.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
  text.setSelectionRange(start, start + (lines[line - 1] ?? "").length);
  text.scrollTop = Math.max(0, (text.scrollHeight / lines.length) * (line - 1) - text.clientHeight / 3);
  follow();
}

document.addEventListener("input", (event) => { if (event.target.id === "yaml") draw(); });
document.addEventListener("scroll", (event) => { if (event.target.id === "yaml") follow(); }, { capture: true, passive: true });
document.addEventListener("htmx:afterSettle", draw);
draw();
