// A run's charts. Points come from the run's series address, only those after the last one that was drawn,
// and are appended; the live stream says when to ask. A student is a hue, a domain is a dash.
const section = document.querySelector("[data-charts]");
const students = JSON.parse(section.dataset.students);
const domains = JSON.parse(section.dataset.domains);
const OUTCOMES = [["kept", "Kept"], ["no_concept_tag", "No concept tag"], ["no_match", "No match"], ["empty", "Empty concept"], ["all_generic", "All generic"], ["fb_none", "Nothing said"]];
const DASHES = [[], [6, 4], [2, 3], [9, 3, 2, 3]];
const STEPS = uPlot.sync("steps");
const ROUNDS = uPlot.sync("rounds");

// ---- what has arrived ----
const store = { metrics: new Map(), accuracy: new Map(), gap: new Map(), threshold: new Map(), outcomes: new Map(), breaks: new Map() };
const put = (map, key, x, value) => {
  if (!map.has(key)) map.set(key, new Map());
  map.get(key).set(x, value);
};
function take(part) {
  for (const [index, step, value] of part.metrics) put(store.metrics, part.names[index], step, value);
  for (const [student, domain, split, round, score, low, high] of part.evaluations) {
    if (split === "validation") put(store.accuracy, `${student}\n${domain}`, round, { score: 100 * score, low: 100 * low, high: 100 * high });
  }
  for (const [student, round, gap, threshold] of part.gates) {
    put(store.gap, student, round, gap);
    put(store.threshold, "threshold", round, threshold);
  }
  for (const [, step, outcome, count] of part.outcomes) put(store.outcomes, outcome, step, (store.outcomes.get(outcome)?.get(step) ?? 0) + count);
  for (const [tutee, tutor, round, broken, rescued] of part.break_rescue) {
    const pair = students.length > 2 ? `${tutee}\n${tutor}` : `${tutee}\n`;
    if (broken !== null) put(store.breaks, `${pair}\nbreak`, round, 100 * broken);
    if (rescued !== null) put(store.breaks, `${pair}\nrescue`, round, 100 * rescued);
  }
}

// ---- colours: tokens of the style sheet, resolved for the canvas ----
const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);
const colour = (token) => {
  probe.style.color = `var(--${token})`;
  return getComputedStyle(probe).color;
};
const hue = (student) => `student-${(Math.max(0, students.indexOf(student)) % 6) + 1}`;
const dash = (domain) => DASHES[Math.max(0, domains.indexOf(domain)) % DASHES.length];
const short = (value) => (value === null || value === undefined ? "" : Math.abs(value) >= 1000 ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : Number(value.toPrecision(3)).toString());

// ---- what each chart shows: series as {label, token, dash, points: Map} ----
const byStudent = (suffix) => students
  .map((student) => ({ label: student, token: hue(student), points: store.metrics.get(`${student}/${suffix}`) }))
  .filter((series) => series.points);
const charts = {
  loss: { x: "step", series: () => byStudent("train/loss") },
  accuracy: {
    x: "round",
    series: () => students.flatMap((student) => domains.map((domain) => {
      const found = store.accuracy.get(`${student}\n${domain}`);
      if (!found) return null;
      const points = new Map([...found].map(([x, value]) => [x, value.score]));
      return { label: `${student} ${domain}`, token: hue(student), dash: dash(domain), points, spread: found };
    }).filter(Boolean)),
  },
  gap: {
    x: "round",
    series: () => [
      ...students.filter((student) => store.gap.has(student)).map((student) => ({ label: student, token: hue(student), points: store.gap.get(student) })),
      ...(store.threshold.size ? [{ label: "threshold", token: "ink-3", dash: [4, 4], points: store.threshold.get("threshold"), plain: true }] : []),
    ],
    zero: true,
  },
  outcomes: { x: "step", stacked: true, series: () => OUTCOMES.filter(([key]) => store.outcomes.has(key)).map(([key, label]) => ({ label, token: `outcome-${key}`, points: store.outcomes.get(key), fill: true })) },
  break: {
    x: "round",
    series: () => [...store.breaks.keys()].sort().map((key) => {
      const [tutee, tutor, what] = key.split("\n");
      return { label: `${tutee}${tutor ? ` by ${tutor}` : ""} ${what}`, token: hue(tutee), dash: what === "break" ? [5, 4] : [], points: store.breaks.get(key) };
    }),
    zero: true,
  },
  rollouts: { x: "step", percent: true, series: () => byStudent(accuracyName()) },
};
const ACCURACY_NAMES = ["train/accuracy", "rollout/accuracy", "self_distillation/success_sample_fraction"];
const accuracyName = () => ACCURACY_NAMES.find((name) => students.some((student) => store.metrics.has(`${student}/${name}`))) ?? ACCURACY_NAMES[0];

// ---- drawing ----
class Chart {
  constructor(figure, spec) {
    this.figure = figure;
    this.spec = spec;
    this.body = figure.querySelector(".chart-body");
    this.legend = figure.querySelector(".chart-legend");
    this.off = new Set();
    this.plot = null;
    this.shape = "";
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.body);
  }

  size() {
    return { width: Math.max(120, this.body.clientWidth - 8), height: this.body.clientHeight };
  }

  draw() {
    const series = this.spec.series().filter((one) => one.points.size);
    if (!series.length) return;
    const shape = series.map((one) => one.label).join("|");
    const data = this.table(series);
    if (this.plot && shape === this.shape) this.plot.setData(data);
    else this.build(series, data, shape);
    this.values(null);
  }

  // One column of x for all series; gaps are null. Stacked series are summed from the first on.
  table(series) {
    const xs = [...new Set(series.flatMap((one) => [...one.points.keys()]))].sort((a, b) => a - b);
    const scale = this.spec.percent ? 100 : 1;
    const columns = series.map((one) => xs.map((x) => (one.points.has(x) ? one.points.get(x) * scale : null)));
    this.plain = columns;
    this.xs = xs;
    this.spreads = series.map((one) => (one.spread ? xs.map((x) => one.spread.get(x) ?? null) : null));
    if (!this.spec.stacked) return [xs, ...columns];
    const sums = xs.map(() => 0);
    return [xs, ...columns.map((column, index) => column.map((value, row) => {
      if (this.off.has(series[index].label)) return null;
      sums[row] += value ?? 0;
      return sums[row];
    }))];
  }

  build(series, data, shape) {
    this.plot?.destroy();
    this.shape = shape;
    this.series = series;
    this.body.replaceChildren();
    const line = colour("line");
    const ink = colour("ink-3");
    const font = "11px system-ui, sans-serif";
    const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
    const whole = (_plot, splits) => splits.map((value) => (Number.isInteger(value) ? value : ""));
    // The largest stack is drawn first, so that each smaller one covers it up to its own height.
    const order = this.spec.stacked ? series.map((_, index) => index).reverse() : series.map((_, index) => index);
    this.order = order;
    const arranged = [data[0], ...order.map((index) => data[index + 1])];
    this.plot = new uPlot({
      ...this.size(),
      padding: [10, 14, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: (this.spec.x === "step" ? STEPS : ROUNDS).key, setSeries: false }, points: { size: 7 }, y: false, drag: { x: true, y: false } },
      scales: { x: { time: false, range: (_plot, low, high) => this.span(low, high) }, y: { range: (_plot, low, high) => this.range(low, high) } },
      axes: [{ ...axis, size: 28, space: 46, incrs: [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10000], values: whole }, { ...axis, size: (_plot, values) => Math.max(46, 18 + 7 * Math.max(0, ...(values ?? []).map((text) => text.length))), space: 34, values: (_plot, splits) => splits.map(short) }],
      series: [{}, ...order.map((index) => this.lineOf(series[index]))],
      hooks: {
        setCursor: [(plot) => this.values(plot.cursor.idx)],
        draw: [(plot) => this.drawSpread(plot)],
        ready: [(plot) => this.listen(plot)],
      },
    }, arranged, this.body);
    this.setData = undefined;
    const own = this.plot;
    const set = own.setData.bind(own);
    own.setData = (fresh) => set([fresh[0], ...order.map((index) => fresh[index + 1])]);
    this.buttons(series);
    for (const one of series) if (this.off.has(one.label)) this.show(one.label, false);
  }

  lineOf(one) {
    const stroke = colour(one.token);
    if (one.fill) return { label: one.label, stroke, fill: stroke, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.86, 40, 1], gap: 0 }) };
    const few = one.points.size < 40;
    return { label: one.label, stroke, width: 2, dash: one.dash ?? [], spanGaps: true, points: { show: !one.plain && few, size: 6, fill: colour("surface"), stroke } };
  }

  // Room at the ends for bars and intervals; a single point gets some of its own.
  span(low, high) {
    if (!this.xs?.length) return [0, 1];
    if (this.xs.length === 1) return [this.xs[0] - 0.5, this.xs[0] + 0.5];
    const room = this.spec.stacked || low === high ? 0.5 : this.spec.x === "round" ? 0.03 * (high - low) + 0.02 : 0;
    return [low - room, high + room];
  }

  range(low, high) {
    if (low === null || high === null) return [0, 1];
    let [from, to] = [low, high];
    for (const [index, spread] of (this.spreads ?? []).entries()) {
      if (!spread || this.off.has(this.series?.[index]?.label)) continue;
      for (const value of spread) if (value) { from = Math.min(from, value.low); to = Math.max(to, value.high); }
    }
    const pad = (to - from) * 0.08 || Math.abs(to) * 0.1 || 0.5;
    const floor = this.spec.zero || this.spec.stacked || (low >= 0 && from - pad < 0) ? 0 : from - pad;
    return [this.spec.stacked || this.spec.zero ? 0 : Math.max(floor, low >= 0 ? 0 : floor), to + pad];
  }

  // 95 % intervals as thin bars, set beside each other so that they can be told apart.
  drawSpread(plot) {
    const { ctx } = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    this.spreads?.forEach((spread, index) => {
      if (!spread || this.off.has(this.series[index].label)) return;
      ctx.strokeStyle = colour(this.series[index].token);
      ctx.globalAlpha = 0.45;
      ctx.lineWidth = 1.5 * ratio;
      const shift = (index - (this.series.length - 1) / 2) * 3 * ratio;
      ctx.beginPath();
      spread.forEach((value, row) => {
        if (!value) return;
        const x = plot.valToPos(this.xs[row], "x", true) + shift;
        ctx.moveTo(x, plot.valToPos(value.low, "y", true));
        ctx.lineTo(x, plot.valToPos(value.high, "y", true));
      });
      ctx.stroke();
    });
    ctx.restore();
  }

  buttons(series) {
    this.legend.replaceChildren(...series.map((one) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!this.off.has(one.label)));
      button.append(sample(one), one.label, Object.assign(document.createElement("span"), { className: "value" }));
      button.addEventListener("click", () => {
        const shown = this.off.has(one.label);
        if (shown) this.off.delete(one.label); else this.off.add(one.label);
        button.setAttribute("aria-pressed", String(shown));
        if (this.spec.stacked) this.draw();
        this.show(one.label, shown);
      });
      return button;
    }));
  }

  show(label, shown) {
    const place = this.order.indexOf(this.series.findIndex((one) => one.label === label));
    this.plot.setSeries(place + 1, { show: shown });
  }

  // The legend's figures: under the cursor, or the latest.
  values(row) {
    if (!this.plain) return;
    const place = row ?? this.xs.length - 1;
    this.legend.querySelectorAll(".value").forEach((slot, index) => {
      let at = place;
      if (row === null) while (at > 0 && this.plain[index][at] === null) at -= 1;
      slot.textContent = short(this.plain[index]?.[at]);
    });
  }

  // A click that is no drag opens the exchanges of that step.
  listen(plot) {
    const address = this.figure.dataset.exchanges;
    if (!address) return;
    let pressed = 0;
    plot.over.dataset.tip = "Click: the exchanges of this step. Drag: zoom; double click: all of it.";
    plot.over.addEventListener("mousedown", (event) => { pressed = event.clientX; });
    plot.over.addEventListener("click", (event) => {
      const row = plot.cursor.idx;
      if (row === null || row === undefined || Math.abs(event.clientX - pressed) > 3 || event.detail > 1) return;
      this.timer = setTimeout(() => location.assign(`${address}?step=${this.xs[row]}`), 260);
    });
    plot.over.addEventListener("dblclick", () => clearTimeout(this.timer));
  }

  rebuild() {
    this.shape = "";
    this.draw();
  }
}

function sample(one) {
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

// ---- the page's charts, and one for each other measure ----
const drawn = new Map();
for (const figure of section.querySelectorAll("[data-chart]")) drawn.set(figure.dataset.chart, new Chart(figure, charts[figure.dataset.chart]));
const more = section.querySelector("[data-more]");
const moreBox = section.querySelector("#more-charts");

function drawMore() {
  const shown = new Set(["train/loss", accuracyName()]);
  const suffixes = [...new Set([...store.metrics.keys()].map((name) => name.slice(name.indexOf("/") + 1)))].filter((name) => !shown.has(name) && !/^(eval|test|gate)\//.test(name)).sort();
  section.querySelector("[data-more-count]").textContent = suffixes.length ? `${suffixes.length} charts` : "nothing measured yet";
  if (!moreBox.open) return;
  for (const suffix of suffixes) {
    if (!drawn.has(suffix)) {
      const figure = section.querySelector("[data-chart='loss']").cloneNode(true);
      figure.dataset.chart = suffix;
      figure.querySelector("h2").textContent = suffix.replaceAll("_", " ").replaceAll("/", ": ");
      figure.querySelector(".aside").textContent = "by step";
      figure.querySelector(".chart-body").replaceChildren();
      figure.querySelector(".chart-legend").replaceChildren();
      more.append(figure);
      drawn.set(suffix, new Chart(figure, { x: "step", series: () => byStudent(suffix) }));
    }
    drawn.get(suffix).draw();
  }
}
moreBox.addEventListener("toggle", drawMore);

function draw() {
  for (const kind of Object.keys(charts)) drawn.get(kind).draw();
  drawMore();
}

// ---- asking, one question at a time ----
let cursor = 0;
let asking = false;
let again = false;
async function ask() {
  if (asking) { again = true; return; }
  asking = true;
  try {
    for (let going = true; going;) {
      again = false;
      const answer = await fetch(`${section.dataset.charts}?after=${cursor}`);
      if (!answer.ok) throw new Error(`series: ${answer.status}`);
      const part = await answer.json();
      take(part);
      cursor = part.cursor;
      going = part.more || again;
    }
    draw();
    section.dataset.cursor = String(cursor);
  } catch { setTimeout(ask, 2000); } finally { asking = false; }
}
for (const name of ["sse:step", "sse:results", "sse:exchanges"]) section.addEventListener(name, ask);
document.addEventListener("htmx:sseOpen", ask);
const repaint = () => { for (const chart of drawn.values()) if (chart.plot) chart.rebuild(); };
document.addEventListener("themechange", repaint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
ask();
