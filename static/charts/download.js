// A chart as a file: its points as CSV, what is seen as a picture.
import { colour } from "./panel.js";

function save(name, address) {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}

function saveBlob(name, blob) {
  const address = URL.createObjectURL(blob);
  save(name, address);
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// A cell that a spreadsheet takes as text or a number, never as a formula.
const cell = (value) => {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? "");
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

// `of` is a run's number, or the name of what else is drawn.
const named = (of) => (/^\d/.test(of) ? `run-${of}` : of);

export function csv(panel, of, api) {
  const name = `${named(of)}-${panel.kind.replaceAll("/", "-")}.csv`;
  const metrics = panel.spec?.metrics?.(panel.desk) ?? [];
  if (!metrics.length) {
    saveBlob(name, new Blob([panel.table().map((row) => row.map(cell).join(",")).join("\r\n"), "\r\n"], { type: "text/csv" }));
    return;
  }
  const query = new URLSearchParams({ format: "csv" });
  for (const metric of metrics) query.append("name", metric);
  save(name, `${api}/metrics/export?${query}`);
}

export function png(panel, of) {
  const plot = panel.plot.ctx.canvas;
  const ratio = devicePixelRatio;
  const entries = panel.entries().filter((one) => !panel.hidden(one.label));
  const canvas = document.createElement("canvas");
  const margin = 14 * ratio;
  const rows = layout(entries, canvas.getContext("2d"), plot.width, ratio);
  canvas.width = plot.width + 2 * margin;
  canvas.height = plot.height + (44 + 22 * rows.length) * ratio + margin;
  const ctx = canvas.getContext("2d");
  ctx.fillStyle = colour("surface");
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  ctx.fillStyle = colour("ink");
  ctx.font = `600 ${15 * ratio}px system-ui, sans-serif`;
  ctx.textBaseline = "middle";
  ctx.fillText(panel.title, margin, 20 * ratio);
  const wide = ctx.measureText(panel.title).width;
  ctx.fillStyle = colour("ink-3");
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  ctx.fillText(`${panel.figure.querySelector(".aside").textContent} · ${named(of).replace("-", " ")}`, margin + wide + 10 * ratio, 21 * ratio);
  ctx.drawImage(plot, margin, 36 * ratio);
  rows.forEach((row, index) => {
    const y = 36 * ratio + plot.height + (14 + 22 * index) * ratio;
    for (const { one, x } of row) {
      ctx.strokeStyle = ctx.fillStyle = colour(one.token);
      ctx.lineWidth = 2.5 * ratio;
      ctx.setLineDash((one.dash ?? []).map((value) => value * ratio));
      ctx.beginPath();
      if (one.fill) ctx.fillRect(margin + x, y - 5 * ratio, 14 * ratio, 10 * ratio);
      else { ctx.moveTo(margin + x, y); ctx.lineTo(margin + x + 22 * ratio, y); ctx.stroke(); }
      ctx.fillStyle = colour("ink");
      ctx.font = `${12 * ratio}px system-ui, sans-serif`;
      ctx.fillText(one.label, margin + x + 28 * ratio, y);
    }
  });
  canvas.toBlob((blob) => saveBlob(`${named(of)}-${panel.kind.replaceAll("/", "-")}.png`, blob), "image/png");
}

function layout(entries, ctx, width, ratio) {
  ctx.font = `${12 * ratio}px system-ui, sans-serif`;
  const rows = [[]];
  let x = 0;
  for (const one of entries) {
    const need = ctx.measureText(one.label).width + 44 * ratio;
    if (x + need > width && rows.at(-1).length) { rows.push([]); x = 0; }
    rows.at(-1).push({ one, x });
    x += need;
  }
  return rows;
}
