// How a size is spread, step by step: a column for each run of steps, darker where more lie; the median as a line.
import { count, short } from "./maths.js";
import { Panel, colour, faint } from "./panel.js";

const UNITS = { response_tokens: "tokens", feedback_characters: "characters", divergence: "nats" };

export class HeatPanel extends Panel {
  entries() { return this.desk.students.filter((student) => this.store.heat.has(student)).map((student) => ({ label: student, token: this.desk.hue(student), fill: true })); }

  make() {
    const { axis } = this.view;
    this.columns = [];
    const shown = this.entries().filter((one) => !this.hidden(one.label));
    const together = new Map();
    for (const { label: student } of shown) {
      for (const [, first, last, bins] of this.store.heat.get(student)) {
        const key = axis === "step" ? Math.floor(first / this.store.widths.heat) : `${student} ${first}`;
        const [low, high] = [this.store.place(axis, student, first), this.store.place(axis, student, last)];
        const half = axis === "step" ? 0.5 : 0;
        const column = together.get(key) ?? { low: low - half, high: high + half, first, last, student, bins: new Map(), total: 0 };
        column.low = Math.min(column.low, low - half);
        column.high = Math.max(column.high, high + half);
        for (const [from, to, number] of bins) {
          column.bins.set(from, { from, to, number: (column.bins.get(from)?.number ?? 0) + number });
          column.total += number;
        }
        together.set(key, column);
      }
    }
    this.columns = [...together.values()].sort((a, b) => a.low - b.low);
    if (axis !== "step") for (const { label } of shown) stretch(this.columns.filter((column) => column.student === label));
    if (!this.entries().length) return null;
    const bins = this.columns.flatMap((column) => [...column.bins.values()]).filter((bin) => bin.to > 0);
    this.low = Math.min(...bins.map((bin) => bin.from), Infinity);
    this.high = Math.max(...bins.map((bin) => bin.to), -Infinity);
    if (!Number.isFinite(this.low)) [this.low, this.high] = [1, 2];
    if (this.high < 2 * this.low) [this.low, this.high] = [this.low / 1.5, this.high * 1.5];
    this.zeros = this.columns.some((column) => column.bins.has(0));
    this.most = Math.max(...this.columns.map((column) => Math.max(...[...column.bins.values()].map((bin) => bin.number / column.total))), 0.01);
    const xs = this.columns.length ? this.columns.map((column) => (column.low + column.high) / 2) : [0];
    const median = this.columns.length ? this.columns.map((column) => quantile(column, 0.5) || null) : [null];
    const hue = colour(shown.length === 1 ? shown[0].token : "ink");
    return {
      shape: JSON.stringify([this.entries().map((one) => [one.label, this.hidden(one.label)]), axis, this.view.quantity]),
      data: [xs, median],
      options: {
        series: [{}, { stroke: hue, width: 1.5, spanGaps: true, points: { show: false } }],
        scales: { y: { distr: 3, log: 2, range: () => [this.low / (this.zeros ? 1.3 : 1.04), this.high * 1.04] } },
        yAxis: { values: (_plot, splits) => splits.map(short) },
        under: [(plot) => this.paint(plot, hue)],
      },
    };
  }

  paint(plot, hue) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const column of this.columns) {
      const [left, right] = [plot.valToPos(column.low, "x", true), plot.valToPos(column.high, "x", true)];
      for (const { from, to, number } of column.bins.values()) {
        const [top, bottom] = to > 0 ? [plot.valToPos(to, "y", true), plot.valToPos(from, "y", true)] : [bbox.top + bbox.height - 5 * devicePixelRatio, bbox.top + bbox.height];
        ctx.fillStyle = faint(hue, 0.06 + 0.62 * Math.sqrt(number / column.total / this.most));
        ctx.fillRect(Math.round(left), Math.round(top), Math.max(1, Math.round(right) - Math.round(left)), Math.max(1, Math.round(bottom) - Math.round(top)));
      }
    }
    ctx.restore();
  }

  tell(row) {
    if (!this.plot) return;
    const hovered = row !== null && row !== undefined;
    const column = this.columns[hovered ? row : this.columns.length - 1];
    if (!column) { this.values([]); this.note(""); return; }
    const said = this.entries().map((one) => {
      const entries = this.store.heat.get(one.label) ?? [];
      const entry = entries.findLast(([, first]) => first <= column.last) ?? entries[0];
      if (!entry) return "";
      return short(quantile({ bins: new Map(entry[3].map(([from, to, number]) => [from, { from, to, number }])), total: entry[3].reduce((sum, bin) => sum + bin[2], 0) }, 0.5));
    });
    this.values(said);
    const steps = column.last > column.first ? `Steps ${count(column.first)} to ${count(column.last)}` : `Step ${count(column.first)}`;
    const ends = `${short(quantile(column, 0.1))} to ${short(quantile(column, 0.9))} ${UNITS[this.view.quantity]}`;
    this.note(hovered ? `${steps}: ${count(column.total)}, the middle 80 % from ${ends}` : "the line and the figures: medians; darker: more of them");
  }

  exchanges(x) {
    if (!this.columns.length) return null;
    const column = this.columns.find((one) => x >= one.low && x < one.high) ?? this.columns.at(-1);
    const step = this.view.axis === "step" ? Math.min(column.last, Math.max(column.first, Math.round(x))) : column.last;
    return `?step=${step}`;
  }

  table() {
    const rows = [["tutee", "first step", "last step", "from", "to", "count"]];
    for (const [student, entries] of this.store.heat) {
      for (const [, first, last, bins] of entries) for (const bin of bins) rows.push([student, first, last, ...bin]);
    }
    return rows;
  }
}

// Columns of one student that only touch points reach half way to their neighbours, and no farther than is usual: between phases is a gap.
function stretch(columns) {
  const middles = columns.map((column) => (column.low + column.high) / 2);
  const gaps = middles.slice(1).map((middle, index) => middle - middles[index]).sort((a, b) => a - b);
  const usual = gaps.length ? gaps[gaps.length >> 1] : 0;
  columns.forEach((column, index) => {
    const [before, after] = [index ? middles[index] - middles[index - 1] : usual, index + 1 < middles.length ? middles[index + 1] - middles[index] : usual];
    column.low = Math.min(column.low, middles[index] - Math.min(before, 1.5 * usual) / 2);
    column.high = Math.max(column.high, middles[index] + Math.min(after, 1.5 * usual) / 2);
  });
}

// A quantile of what lies in bins, each as if it lay in its bin's (geometric) middle.
function quantile(column, share) {
  let left = share * column.total;
  for (const { from, to, number } of [...column.bins.values()].sort((a, b) => a.from - b.from)) {
    left -= number;
    if (left <= 0) return to > 0 ? Math.sqrt(from * to) : 0;
  }
  return 0;
}
