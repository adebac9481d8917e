// One chart in its figure: the plot, the crosshair that all charts share, zoom, keys, legend and tools. What is drawn, its kinds say.
import { fullMoment, count, moment } from "./maths.js";

const CROSSHAIR = uPlot.sync("run");
const FONT = "11px system-ui, sans-serif";
const STEPS = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 2500, 5000, 10000, 20000, 25000, 50000, 100000, 1e6, 1e7, 1e8, 1e9];

// Colours are tokens of the style sheet, resolved for the canvas.
const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);
export const colour = (token) => {
  probe.style.color = `var(--${token})`;
  return getComputedStyle(probe).color;
};
export const faint = (painted, share) => {
  const [red, green, blue] = painted.match(/[\d.]+/g);
  return painted.startsWith("rgb") ? `rgba(${red}, ${green}, ${blue}, ${share})` : `color-mix(in srgb, ${painted} ${share * 100}%, transparent)`;
};

const painted = (plot, series) => plot.series[series].stroke(plot, series);

export class Panel {
  constructor(figure, desk) {
    this.figure = figure;
    this.desk = desk; // store, view, facts of the run, and what to do on zoom, click and speech
    this.kind = figure.dataset.chart;
    this.title = figure.querySelector("h2").textContent;
    this.body = figure.querySelector(".chart-body");
    this.at = figure.querySelector(".chart-at");
    this.legend = figure.querySelector(".chart-legend");
    this.plot = null;
    this.shape = "";
    this.seen = false;
    this.stale = true;
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.body);
    new IntersectionObserver(([entry]) => {
      this.seen = entry.isIntersecting;
      if (this.seen && this.stale) this.draw();
    }, { rootMargin: "1500px" }).observe(figure);
    this.body.addEventListener("keydown", (event) => this.key(event));
    for (const button of figure.querySelectorAll("[data-do]")) button.addEventListener("click", () => this.desk.tool(button.dataset.do, this));
  }

  get store() { return this.desk.store; }
  get view() { return this.desk.view; }
  size() { return { width: Math.max(120, this.body.clientWidth - 8), height: Math.max(80, this.body.clientHeight) }; }

  // Draw when it can be seen; what changes while it cannot is drawn when it comes into sight.
  update({ afresh = false } = {}) {
    this.stale = true;
    if (afresh) this.shape = "";
    if (this.seen) this.draw();
  }

  draw() {
    this.stale = false;
    const log = this.figure.querySelector("[data-do='log']");
    log?.setAttribute("aria-pressed", String(this.view.log.has(this.kind)));
    const made = this.make();
    if (!made) return;
    if (this.plot && made.shape === this.shape) this.plot.setData(made.data);
    else this.build(made);
    this.tell(null);
  }

  hidden(label) { return this.view.hidden.has(`${this.kind}:${label}`); }

  // ---- the plot ----
  build({ shape, data, options = {} }) {
    this.plot?.destroy();
    this.shape = shape;
    this.body.replaceChildren();
    const line = colour("line");
    const axis = { stroke: colour("ink-3"), font: FONT, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
    const wide = (_plot, values) => Math.max(44, 16 + 7 * Math.max(0, ...(values ?? []).map((text) => text?.length ?? 0)));
    this.plot = new uPlot({
      ...this.size(),
      padding: [12, 20, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: CROSSHAIR.key, setSeries: false, filters: { pub: (kind) => kind === "mousemove" || kind === "mouseleave", sub: () => true } },
        points: { size: 7, width: 1.5, stroke: painted, fill: painted, ...(options.cursorPoints ?? {}) },
        y: false,
        drag: { x: true, y: false, setScale: false, dist: 4 },
        bind: { dblclick: () => () => { clearTimeout(this.timer); this.desk.zoom(null); return null; } },
      },
      scales: { x: { time: false, range: () => this.desk.span() }, ...options.scales },
      axes: [{ ...axis, size: 28, space: 62, ...this.xAxis() }, { ...axis, size: wide, space: 32, ...options.yAxis }],
      series: options.series ?? [{}],
      bands: options.bands ?? [],
      hooks: {
        setCursor: [(plot) => this.tell(plot.cursor.idx)],
        setSelect: [(plot) => this.selected(plot)],
        drawClear: [(plot) => this.rounds(plot), ...(options.under ?? [])],
        draw: options.over ?? [],
        ready: [(plot) => this.listen(plot)],
      },
    }, data, this.body);
    this.buttons();
  }

  xAxis() {
    if (this.view.axis === "time") {
      const spacing = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000];
      return { incrs: spacing, space: 64, values: (_plot, splits) => splits.map((value) => moment(value, splits.at(-1) - splits[0])) };
    }
    return { incrs: STEPS, values: (_plot, splits) => splits.map((value) => (Number.isInteger(value) ? (value >= 1e6 ? `${value / 1e6} M` : count(value)) : "")) };
  }

  // Where rounds end, as far as there is room to say it.
  rounds(plot) {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    let last = -Infinity;
    ctx.save();
    ctx.strokeStyle = colour("line-strong");
    ctx.fillStyle = colour("ink-3");
    ctx.font = `${9.5 * ratio}px system-ui, sans-serif`;
    ctx.textAlign = "right";
    ctx.textBaseline = "bottom";
    ctx.globalAlpha = 0.55;
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    for (const [round, x] of this.desk.roundEnds()) {
      const place = Math.round(plot.valToPos(x, "x", true));
      if (place < bbox.left + 1 || place > bbox.left + bbox.width + 1 || place - last < 15 * ratio) continue;
      last = place;
      ctx.beginPath();
      ctx.moveTo(place, bbox.top);
      ctx.lineTo(place, bbox.top + bbox.height);
      ctx.stroke();
      ctx.fillText(String(round), place - 2 * ratio, bbox.top - 1 * ratio);
    }
    ctx.restore();
  }

  selected(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.dragged = true;
    this.desk.zoom([plot.posToVal(left, "x"), plot.posToVal(left + width, "x")]);
  }

  // A click that is no drag opens the exchanges of that place.
  listen(plot) {
    let pressed = 0;
    plot.over.addEventListener("mousedown", (event) => { pressed = event.clientX; this.dragged = false; });
    plot.over.addEventListener("click", (event) => {
      if (this.dragged || Math.abs(event.clientX - pressed) > 3 || event.detail > 1) return;
      const box = plot.over.getBoundingClientRect();
      const address = this.exchanges(plot.posToVal(event.clientX - box.left, "x"), event.clientY - box.top);
      if (address) this.timer = setTimeout(() => this.desk.open(address, event), 240);
    });
  }

  // ---- keys: along the points, into their exchanges, closer and farther ----
  key(event) {
    if (!this.plot || event.ctrlKey || event.metaKey || event.altKey || event.target !== this.body) return;
    const [low, high] = this.desk.span();
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity, PageUp: -20, PageDown: 20 }[event.key];
    const middle = this.pointed ?? (low + high) / 2;
    if (move !== undefined) this.point(move);
    else if (event.key === "Enter") { const address = this.exchanges(this.pointed ?? middle, this.plot.bbox.height / devicePixelRatio / 2); if (address) this.desk.open(address, event); }
    else if (event.key === "+" || event.key === "=") this.desk.zoom([middle - (high - low) / 4, middle + (high - low) / 4]);
    else if (event.key === "-") this.desk.zoom([low - (high - low) / 2, high + (high - low) / 2]);
    else if (event.key === "Escape" && this.view.zoomed && !this.figure.closest("dialog")) this.desk.zoom(null);
    else return;
    event.preventDefault();
  }

  point(move) {
    const xs = this.plot.data[0];
    const [low, high] = this.desk.span();
    const inside = xs.filter((x) => x >= low && x <= high);
    if (!inside.length) return;
    const here = this.pointed === undefined ? (move > 0 ? -1 : inside.length) : inside.findIndex((x) => x >= this.pointed);
    const next = Math.min(inside.length - 1, Math.max(0, (here < 0 ? inside.length : here) + move));
    this.pointed = inside[next];
    this.plot.setCursor({ left: this.plot.valToPos(this.pointed, "x"), top: 10 });
    const said = [...this.legend.querySelectorAll("button")].map((button) => `${button.dataset.label} ${button.querySelector(".value").textContent || "nothing"}`);
    this.desk.say(`${this.at.textContent}: ${said.join(", ")}`);
  }

  where(x) {
    if (this.view.axis === "time") return fullMoment(x);
    return this.view.axis === "tokens" ? `${count(x)} tokens` : `Step ${count(x)}`;
  }

  // ---- the legend: what each series is, its value there, and whether it is shown ----
  buttons() {
    const focused = this.legend.contains(document.activeElement) ? document.activeElement.dataset.label : null;
    this.legend.replaceChildren(...this.entries().map((one) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.label = one.label;
      button.setAttribute("aria-pressed", String(!this.hidden(one.label)));
      button.append(sample(one), one.label, Object.assign(document.createElement("span"), { className: "value" }));
      button.addEventListener("click", () => this.view.toggle("hidden", `${this.kind}:${one.label}`));
      return button;
    }));
    if (focused) [...this.legend.children].find((button) => button.dataset.label === focused)?.focus();
  }

  values(texts) {
    this.legend.querySelectorAll(".value").forEach((slot, index) => { if (slot.textContent !== texts[index]) slot.textContent = texts[index] ?? ""; });
  }

  note(text) { if (this.at.textContent !== text) this.at.textContent = text; }
}

export function sample(one) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 12");
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(svg.namespaceURI, one.fill ? "rect" : "path");
  shape.style.stroke = `var(--${one.token})`;
  if (one.fill) {
    for (const [name, value] of Object.entries({ x: 5, y: 1, width: 12, height: 10, rx: 2 })) shape.setAttribute(name, value);
    shape.style.fill = `var(--${one.token})`;
  } else {
    shape.setAttribute("d", "M1 6H23");
    shape.setAttribute("stroke-width", "2.5");
    if (one.dash?.length) shape.setAttribute("stroke-dasharray", one.dash.map((value) => value * 0.8).join(" "));
  }
  svg.append(shape);
  return svg;
}
