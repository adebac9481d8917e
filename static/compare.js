// Curves of many runs on common grids, one chart each. What is drawn in one colour is a configuration or a run; its legend is
// one for all charts. Charts load when they come into sight. Smoothing, what is hidden and the zoom stand in the address.
const section = document.querySelector("[data-curves]");
const legend = section.querySelector("[data-legend]");
const byRun = section.dataset.by === "run";
const DASHES = [[], [6, 4], [2, 3], [9, 3, 2, 3], [12, 4], [4, 2, 1, 2], [1, 4]];
const BANDS = 12; // with more series than this their bands would hide each other
const address = new URL(location.href);
const state = {
  smooth: Number(address.searchParams.get("smooth") ?? 0) || 0,
  off: new Set((address.searchParams.get("hide") ?? "").split(",").filter(Boolean)),
  zoom: Object.fromEntries(["step", "round"].map((axis) => [axis, readZoom(address.searchParams.get(`zoom-${axis}`))])),
};
function readZoom(text) {
  const [low, high] = (text ?? "").split("~").map(Number);
  return text && Number.isFinite(low) && Number.isFinite(high) && low < high ? [low, high] : null;
}
function remember() {
  const here = new URL(location.href);
  const put = (name, value) => { if (value) here.searchParams.set(name, value); else here.searchParams.delete(name); };
  put("smooth", state.smooth ? String(state.smooth) : "");
  put("hide", [...state.off].join(","));
  for (const axis of ["step", "round"]) put(`zoom-${axis}`, state.zoom[axis] ? state.zoom[axis].map((value) => Number(value.toPrecision(4))).join("~") : "");
  history.replaceState(history.state, "", here.href.replaceAll("%2C", ",").replaceAll("%2F", "/"));
}

// ---- colours: tokens of the style sheet, resolved for the canvas ----
const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);
const colour = (token) => {
  probe.style.color = `var(--${token})`;
  return getComputedStyle(probe).color;
};
const faint = (text, alpha) => `rgba(${text.match(/[\d.]+/g).slice(0, 3).join(", ")}, ${alpha})`;
const short = (value) => (value === null || value === undefined ? "–" : Math.abs(value) >= 1000 ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : Number(value.toPrecision(3)).toString());

// Exponential moving average without the pull towards its first value (as Adam corrects its moments); gaps stay gaps.
function smoothed(values, weight) {
  if (!weight) return values;
  let [sum, count] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    count += 1;
    return sum / (1 - weight ** count);
  });
}

const buttons = [...legend.querySelectorAll("button")];
const known = buttons.map((button) => ({ key: button.dataset.key, index: Number(button.dataset.index), label: button.dataset.label }));
const lineOf = (found, key) => (byRun ? found.runs.find((run) => `run-${run.run_id}` === key) : found.groups.find((one) => `group-${one.index}` === key));

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.body = figure.querySelector(".chart-body");
    this.told = figure.querySelector("[data-told]");
    this.hint = this.told.textContent;
    this.axis = figure.dataset.axis;
    this.scale = "percent" in figure.dataset ? 100 : 1;
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.body);
  }

  size() { return { width: Math.max(120, this.body.clientWidth - 8), height: this.body.clientHeight }; }

  async load() {
    const query = new URLSearchParams({ name: this.figure.dataset.curve, points: this.axis === "step" ? section.dataset.points : "1000" });
    try {
      const answer = await fetch(`${section.dataset.curves}&${query}`);
      if (!answer.ok) throw new Error(String(answer.status));
      this.data = await answer.json();
      this.draw();
    } catch { this.say("This curve could not be loaded; reload the page to try again."); }
  }

  say(text) {
    this.plot?.destroy();
    this.plot = null;
    this.body.replaceChildren(Object.assign(document.createElement("div"), { className: "chart-wait", textContent: text }));
  }

  draw() {
    const found = known.map((entry) => ({ ...entry, line: lineOf(this.data, entry.key) })).filter((entry) => entry.line);
    if (!this.data.x.length || !found.length) { this.say("Nothing measured yet."); return; }
    const bands = found.length <= BANDS;
    const columns = [];
    const series = [{}];
    const uBands = [];
    this.lines = [];
    const scaled = (values) => values.map((value) => (value === null ? null : value * this.scale));
    for (const entry of found) {
      const stroke = colour(`series-${((entry.index - 1) % 8) + 1}`);
      const dash = DASHES[Math.floor((entry.index - 1) / 8) % DASHES.length];
      const show = !state.off.has(entry.key);
      const raw = scaled(entry.line.mean);
      const spread = entry.line.low.some((value, row) => value !== entry.line.high[row]);
      if (bands && spread) {
        columns.push(scaled(entry.line.high), scaled(entry.line.low));
        for (let edge = 0; edge < 2; edge += 1) series.push({ label: entry.label, show, stroke: "transparent", width: 0, points: { show: false }, spanGaps: true });
        uBands.push({ series: [series.length - 2, series.length - 1], fill: faint(stroke, 0.13) });
      } else if (state.smooth && bands) {
        columns.push(raw);
        series.push({ label: entry.label, show, stroke: faint(stroke, 0.3), width: 1, points: { show: false }, spanGaps: true });
      }
      columns.push(smoothed(raw, this.axis === "step" ? state.smooth : 0));
      series.push({ label: entry.label, show, stroke, dash, width: 1.8, spanGaps: true, points: { show: this.data.x.length < 25, size: 5, fill: stroke } });
      this.lines[series.length - 1] = entry;
    }
    this.build([this.data.x, ...columns], series, uBands);
  }

  build(data, series, bands) {
    this.plot?.destroy();
    this.body.replaceChildren();
    const line = colour("line");
    const font = "11px system-ui, sans-serif";
    const axis = { stroke: colour("ink-3"), font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
    const whole = (_plot, splits) => splits.map((value) => (Number.isInteger(value) ? value : ""));
    this.plot = new uPlot({
      ...this.size(),
      padding: [10, 14, 0, 0],
      legend: { show: false },
      focus: { alpha: 0.25 },
      cursor: { focus: { prox: 24 }, sync: { key: `compare-${this.axis}`, setSeries: false, scales: ["x", null] }, y: false, drag: { x: true, y: false, setScale: false }, points: { show: false } },
      scales: { x: { time: false, range: (_plot, low, high) => this.span(low, high) }, y: { range: (_plot, low, high) => this.range(low, high) } },
      axes: [{ ...axis, size: 28, space: 46, incrs: [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10000], values: whole }, { ...axis, size: (_plot, values) => Math.max(46, 18 + 7 * Math.max(0, ...(values ?? []).map((text) => text.length))), space: 34, values: (_plot, splits) => splits.map(short) }],
      series,
      bands,
      hooks: {
        setCursor: [() => this.tell()],
        setSeries: [(_plot, index) => { this.focus = index; this.tell(); }],
        setSelect: [(plot) => this.zoom(plot)],
        ready: [(plot) => plot.over.addEventListener("dblclick", () => setZoom(this.axis, null))],
      },
    }, data, this.body);
  }

  span(low, high) {
    if (state.zoom[this.axis]) return state.zoom[this.axis];
    if (low === null || low === high) return [(low ?? 0) - 0.5, (low ?? 0) + 0.5];
    return this.axis === "round" ? [low - 0.02 * (high - low), high + 0.02 * (high - low)] : [low, high];
  }

  range(low, high) {
    if (low === null || high === null) return [0, 1];
    const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 0.5;
    return [low >= 0 ? Math.max(0, low - pad) : low - pad, high + pad];
  }

  zoom(plot) {
    const { left, width } = plot.select;
    if (width < 5) return;
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    setZoom(this.axis, [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")]);
  }

  // Whose line is nearest to the cursor, and its figures there.
  tell() {
    const row = this.plot?.cursor.idx;
    const entry = this.lines[this.focus];
    if (row === null || row === undefined || !this.plot.cursor.event) { this.told.textContent = this.hint; return; }
    const where = `${this.axis} ${short(this.data.x[row])}`;
    if (!entry || entry.line.mean[row] === null) { this.told.textContent = where; return; }
    const [mean, low, high] = ["mean", "low", "high"].map((part) => entry.line[part][row] * this.scale);
    const runs = entry.line.runs?.[row] > 1 ? `, ${entry.line.runs[row]} runs` : "";
    this.told.textContent = `${entry.label}: ${short(mean)}${low === high ? "" : ` (${short(low)} to ${short(high)}${runs})`} at ${where}`;
  }
}

const charts = new Map([...section.querySelectorAll("[data-curve]")].map((figure) => [figure, new Chart(figure)]));
const drawn = () => [...charts.values()].filter((chart) => chart.data);
const redraw = () => { for (const chart of drawn()) chart.draw(); };

function setZoom(axis, zoom) {
  state.zoom[axis] = zoom;
  remember();
  for (const chart of drawn()) if (chart.axis === axis && chart.plot) chart.plot.setData(chart.plot.data);
}

// ---- the legend, for all charts and the pictures below ----
function showOff() {
  for (const button of buttons) button.setAttribute("aria-pressed", String(!state.off.has(button.dataset.key)));
  for (const mark of document.querySelectorAll(".plot g[data-key]")) mark.classList.toggle("off", state.off.has(mark.dataset.key));
}
legend.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { key } = button.dataset;
  if (event.altKey || event.shiftKey) { // this one alone; again: all
    const alone = !state.off.has(key) && state.off.size === known.length - 1;
    state.off = new Set(alone ? [] : known.map((entry) => entry.key).filter((other) => other !== key));
  } else if (state.off.has(key)) state.off.delete(key);
  else state.off.add(key);
  remember();
  showOff();
  redraw();
});
document.addEventListener("htmx:afterSwap", showOff);
const slider = section.querySelector("[data-smooth]");
slider.value = String(state.smooth);
slider.addEventListener("input", () => {
  state.smooth = Number(slider.value);
  section.querySelector("#smooth-value").textContent = slider.value;
  remember();
  redraw();
});

// ---- loading: what is in sight, two at a time ----
const waiting = [];
let busy = 0;
function next() {
  while (busy < 2 && waiting.length) {
    busy += 1;
    waiting.shift().load().finally(() => { busy -= 1; next(); });
  }
}
const ask = (chart) => { if (!waiting.includes(chart)) waiting.push(chart); next(); };
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    watcher.unobserve(entry.target);
    ask(charts.get(entry.target));
  }
}, { rootMargin: "300px" });
for (const figure of charts.keys()) watcher.observe(figure);

// Runs under way: what was drawn is asked for again, at most every few seconds.
let again;
section.addEventListener("sse:runs", () => { again ??= setTimeout(() => { again = undefined; drawn().forEach(ask); }, 3000); });
document.addEventListener("themechange", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
showOff();
