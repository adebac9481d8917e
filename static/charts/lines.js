// Curves: a line for each series, its range as a band where points were summed up, the raw line faint behind a smoothed one, 95 % intervals as bars.
import { count, ema, quantile, short } from "./maths.js";
import { Panel, colour, faint } from "./panel.js";

const FEW = 40; // so few points are marked as points

export class LinePanel extends Panel {
  constructor(figure, desk, spec) {
    super(figure, desk);
    this.spec = spec; // series() and how they are shown: percent, zero, stepped, intervals
  }

  entries() { return this.series; }
  get log() { return this.view.log.has(this.kind); }
  get smooth() { return this.spec.rounds ? 0 : this.view.smooth; }

  make() {
    const series = this.spec.series(this.desk).filter((one) => one.x.length);
    if (!series.length) return null;
    this.series = series;
    const xs = [...new Set(series.flatMap((one) => one.x))].sort((a, b) => a - b);
    const row = new Map(xs.map((x, index) => [x, index]));
    this.lines = series.map((one) => this.line(one, xs.length, row));
    const columns = [];
    const plots = [];
    const bands = [];
    series.forEach((one, index) => {
      const line = this.lines[index];
      const stroke = colour(one.token);
      const show = !this.hidden(one.label);
      const bridged = this.view.axis === "time" ? { spanGaps: false, gaps: (plot) => this.pauses(plot, one) } : { spanGaps: true };
      const quiet = { show, stroke: "transparent", width: 0, points: { show: false }, ...bridged };
      if (line.banded) {
        bands.push({ series: [columns.length + 2, columns.length + 1], fill: faint(stroke, this.smooth ? 0.1 : 0.17) });
        columns.push(line.low, line.high);
        plots.push(quiet, quiet);
      }
      const points = { show: !one.plain && !this.smooth && one.x.length < FEW, size: 6, fill: colour("surface"), stroke };
      const drawn = { show, ...bridged, dash: one.dash ?? [], label: one.label };
      if (this.smooth) {
        columns.push(line.mean, line.smooth);
        plots.push({ ...drawn, stroke: faint(stroke, 0.3), width: 1, points: { show: false } }, { ...drawn, stroke, width: 2, points: { show: false } });
      } else {
        columns.push(line.mean);
        plots.push({ ...drawn, stroke, width: one.plain ? 1.5 : 2, points });
      }
    });
    const shape = JSON.stringify([series.map((one, index) => [one.label, this.lines[index].banded, this.hidden(one.label), one.x.length < FEW]), Boolean(this.smooth), this.log, this.view.axis]);
    const scale = this.log ? { distr: 3, log: 10 } : {};
    return {
      shape,
      data: [xs, ...columns],
      options: {
        series: [{}, ...plots],
        bands,
        scales: { y: { ...scale, range: (plot, low, high) => this.range(plot, low, high) } },
        yAxis: { values: (_plot, splits) => splits.map((value) => (this.log && !/^[15]/.test(Number(value).toExponential()) ? "" : short(value))) },
        over: [(plot) => this.intervals(plot)],
      },
    };
  }

  // A series on the common x: what a logarithm cannot show is left out, and said.
  line(one, length, row) {
    const scale = this.spec.scale ?? 1;
    const column = () => new Array(length).fill(null);
    const line = { mean: column(), low: column(), high: column(), counts: new Array(length).fill(1), entry: column(), lost: 0, banded: false };
    one.x.forEach((x, index) => {
      const at = row.get(x);
      const value = one.mean[index] * scale;
      line.entry[at] = index;
      if (this.log && value <= 0) { line.lost += 1; return; }
      line.mean[at] = value;
      line.low[at] = Math.max(this.log ? value * 1e-6 : -Infinity, (one.low?.[index] ?? one.mean[index]) * scale);
      line.high[at] = (one.high?.[index] ?? one.mean[index]) * scale;
      line.counts[at] = one.count?.[index] ?? 1;
      if (line.counts[at] > 1) line.banded = true;
    });
    if (this.smooth) line.smooth = ema(line.mean, line.counts, this.smooth);
    return line;
  }

  // Where time went by in which the student was not taught: no line there. In pixels, for the plot.
  pauses(plot, one) {
    if (this.spec.rounds || one.x.length < 4) return [];
    const steps = one.x.slice(1).map((x, index) => x - one.x[index]);
    const usual = [...steps].sort((a, b) => a - b)[steps.length >> 1];
    const found = [];
    steps.forEach((step, index) => {
      if (step > 6 * usual) found.push([plot.valToPos(one.x[index], "x", true), plot.valToPos(one.x[index + 1], "x", true)].map(Math.round));
    });
    return found;
  }

  // ---- the y axis ----
  range(plot, low, high) {
    this.beyond = 0;
    if (low === null || high === null || !Number.isFinite(low) || !Number.isFinite(high)) return this.log ? [0.1, 1] : [0, 1];
    let [from, to] = [low, high];
    const seen = this.visible(plot);
    if (this.view.clip && !this.spec.rounds) {
      const values = seen.flatMap(([line, rows]) => rows.flatMap((row) => [line.low[row], line.high[row]])).sort((a, b) => a - b);
      if (values.length > 20) {
        [from, to] = [quantile(values, 0.01), quantile(values, 0.99)];
        this.beyond = seen.reduce((sum, [line, rows]) => sum + rows.filter((row) => line.low[row] < from || line.high[row] > to).length, 0);
      }
    }
    if (this.log) return from === to ? [from / 2, to * 2] : [from * (from / to) ** 0.06, to * (to / from) ** 0.06];
    for (const one of this.series) {
      if (!one.spread || this.hidden(one.label)) continue;
      const [left, right] = this.desk.span();
      one.x.forEach((x, index) => { if (x >= left && x <= right) { from = Math.min(from, one.low[index]); to = Math.max(to, one.high[index]); } });
    }
    const pad = (to - from) * 0.08 || Math.abs(to) * 0.1 || 0.5;
    const floor = this.spec.zero || (low >= 0 && from - pad < 0) ? 0 : from - pad;
    return [floor, to + pad];
  }

  visible(plot) {
    const [left, right] = this.desk.span();
    const xs = plot.data[0];
    return this.lines.filter((_, index) => !this.hidden(this.series[index].label))
      .map((line) => [line, xs.map((_, row) => row).filter((row) => line.mean[row] !== null && xs[row] >= left && xs[row] <= right)]);
  }

  // 95 % intervals as thin bars, set beside each other so that they can be told apart.
  intervals(plot) {
    const { ctx } = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
    ctx.clip();
    this.series.forEach((one, index) => {
      if (!one.spread || this.hidden(one.label)) return;
      ctx.strokeStyle = faint(colour(one.token), 0.45);
      ctx.lineWidth = 1.5 * ratio;
      const shift = (index - (this.series.length - 1) / 2) * 3 * ratio;
      ctx.beginPath();
      one.x.forEach((x, place) => {
        const left = plot.valToPos(x, "x", true) + shift;
        ctx.moveTo(left, plot.valToPos(one.low[place], "y", true));
        ctx.lineTo(left, plot.valToPos(one.high[place], "y", true));
      });
      ctx.stroke();
    });
    ctx.restore();
  }

  // ---- what the legend says: the figures under the crosshair, or the latest that can be seen ----
  tell(row) {
    if (!this.plot || !this.lines) return;
    const xs = this.plot.data[0];
    const [low, high] = this.desk.span();
    let place = row;
    if (row === null || row === undefined) {
      place = xs.length - 1;
      while (place > 0 && xs[place] > high) place -= 1;
    }
    const said = this.lines.map((line, index) => {
      let at = place;
      while (at > 0 && line.mean[at] === null && xs[at] >= low) at -= 1;
      if (line.mean[at] === null) return "";
      const one = this.series[index];
      const range = one.spread || line.counts[at] > 1 ? ` (${short(one.spread ? one.low[line.entry[at]] : line.low[at])}–${short(one.spread ? one.high[line.entry[at]] : line.high[at])})` : "";
      return this.smooth ? `${short(line.smooth[at])} (${short(line.mean[at])})` : `${short(line.mean[at])}${row === null || row === undefined ? "" : range}`;
    });
    this.values(said);
    this.note(row === null || row === undefined ? this.remark() : this.whereAt(place));
  }

  whereAt(place) {
    const x = this.plot.data[0][place];
    if (this.view.axis !== "step") return this.where(x);
    const line = this.lines.find((one) => one.entry[place] !== null);
    const one = this.series[this.lines.indexOf(line)];
    const entry = line?.entry[place];
    if (this.spec.rounds) return one?.round ? `${this.spec.rounds} ${one.round[entry]}` : "";
    return one?.last && one.last[entry] > one.first[entry] ? `Steps ${count(one.first[entry])} to ${count(one.last[entry])}` : this.where(x);
  }

  remark() {
    const lost = this.lines.reduce((sum, line) => sum + line.lost, 0);
    const width = Math.max(...this.lines.map((line) => (line.banded ? Math.max(...line.counts) : 1)));
    return [
      this.beyond ? `${count(this.beyond)} beyond this range` : "",
      lost ? `${count(lost)} at or below 0 have no logarithm` : "",
      width > 1 ? `up to ${count(width)} steps a point; the band is their range` : "",
    ].filter(Boolean).join(" · ");
  }

  exchanges(x) {
    const shown = this.series.filter((one) => !this.hidden(one.label));
    let best = null;
    for (const one of shown) {
      one.x.forEach((at, entry) => { if (!best || Math.abs(at - x) < Math.abs(best.at - x)) best = { at, one, entry }; });
    }
    if (!best) return null;
    const { one, entry } = best;
    if (this.spec.rounds) return `?round=${Math.max(1, one.round[entry])}`;
    if (this.view.axis === "step") return `?step=${Math.min(one.last[entry], Math.max(one.first[entry], Math.round(x)))}`;
    return `?step=${one.last[entry]}&tutee=${encodeURIComponent(one.student)}`;
  }

  // Every point as a table. Curves have an export of their own, which sums nothing up.
  table() {
    const rows = [["series", this.spec.rounds ? "round" : "step", "value", "low", "high"]];
    for (const one of this.series) {
      one.x.forEach((_, entry) => rows.push([one.label, (one.round ?? one.last)[entry], one.mean[entry], one.spread ? one.low[entry] : "", one.spread ? one.high[entry] : ""]));
    }
    return rows;
  }
}
