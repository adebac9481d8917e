// What became of the feedback: a stacked bar for each round and tutee.
import { count } from "./maths.js";
import { Panel, colour } from "./panel.js";

const OUTCOMES = [["kept", "Kept"], ["no_concept_tag", "No concept tag"], ["no_match", "No match"], ["empty", "Empty concept"], ["all_generic", "All generic"], ["fb_none", "Nothing said"]];

export class BarPanel extends Panel {
  entries() { return OUTCOMES.filter(([key]) => this.occurs.has(key)).map(([key, label]) => ({ label, token: `outcome-${key}`, fill: true, key })); }

  make() {
    const { axis } = this.view;
    const students = this.desk.students;
    this.bars = [];
    this.occurs = new Set();
    students.forEach((student, index) => {
      for (const [, first, last, round, , , , , , , outcomes] of this.store.rounds.get(student) ?? []) {
        const total = Object.values(outcomes).reduce((sum, value) => sum + value, 0);
        if (!total) continue;
        for (const key of Object.keys(outcomes)) this.occurs.add(key);
        let [low, high] = [this.store.place(axis, student, axis === "step" ? first - 1 : first), this.store.place(axis, student, last)];
        if (axis !== "time") {
          const share = (high - low) / students.length;
          [low, high] = [low + share * index, low + share * (index + 1)];
        }
        this.bars.push({ student, round, outcomes, total, low, high });
      }
    });
    if (!this.bars.length) return null;
    this.bars.sort((a, b) => a.low - b.low);
    const xs = this.bars.map((bar) => (bar.low + bar.high) / 2);
    const shown = this.entries().map((one) => [one.label, this.hidden(one.label)]);
    return {
      shape: JSON.stringify([shown, axis]),
      data: [xs, xs.map(() => null)],
      options: {
        series: [{}, { show: true, points: { show: false } }],
        cursorPoints: { show: false },
        scales: { y: { range: () => [0, 100] } },
        yAxis: { values: (_plot, splits) => splits.map(String) },
        over: [(plot) => this.paint(plot)],
      },
    };
  }

  shares(bar) {
    const shown = this.entries().filter((one) => !this.hidden(one.label));
    const total = shown.reduce((sum, one) => sum + (bar.outcomes[one.key] ?? 0), 0);
    return shown.map((one) => [one, total ? (100 * (bar.outcomes[one.key] ?? 0)) / total : 0]);
  }

  paint(plot) {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const bar of this.bars) {
      const [left, right] = [plot.valToPos(bar.low, "x", true), plot.valToPos(bar.high, "x", true)];
      const gap = Math.min(2 * ratio, (right - left) * 0.1);
      const wide = Math.min(140 * ratio, Math.max(1.5, right - left - 2 * gap));
      const start = (left + right - wide) / 2;
      let below = 0;
      for (const [one, share] of this.shares(bar)) {
        const [top, bottom] = [plot.valToPos(below + share, "y", true), plot.valToPos(below, "y", true)];
        ctx.fillStyle = colour(one.token);
        ctx.fillRect(start, top, wide, Math.max(0, bottom - top - (share > 2 && wide > 6 ? ratio : 0)));
        below += share;
      }
      if (wide > 5 * ratio) { // whose bar it is, in the tutee's own colour
        ctx.fillStyle = colour(this.desk.hue(bar.student));
        ctx.fillRect(start, bbox.top + bbox.height - 3 * ratio, wide, 3 * ratio);
      }
    }
    ctx.restore();
  }

  tell(row) {
    if (!this.plot || !this.bars?.length) return;
    const hovered = row !== null && row !== undefined;
    const bar = this.bars[hovered ? row : this.bars.length - 1];
    if (!bar) return;
    const entries = this.entries();
    this.values(entries.map((one) => `${Math.round((100 * (bar.outcomes[one.key] ?? 0)) / bar.total)} %`));
    this.note(`${hovered ? "" : "Latest: "}round ${bar.round}, ${bar.student}: ${count(bar.total)} feedbacks`);
  }

  nearest(x) { return this.bars.find((bar) => x >= bar.low && x < bar.high) ?? this.bars.reduce((best, bar) => (Math.abs(bar.low + bar.high - 2 * x) < Math.abs(best.low + best.high - 2 * x) ? bar : best)); }

  exchanges(x, top) {
    const bar = this.nearest(x);
    let below = 0;
    const value = this.plot.posToVal(top, "y");
    const hit = this.shares(bar).find(([, share]) => { below += share; return value <= below; });
    return `?round=${bar.round}&tutee=${encodeURIComponent(bar.student)}${hit ? `&outcome=${hit[0].key}` : ""}`;
  }

  table() {
    return [["tutee", "round", "feedbacks", ...OUTCOMES.map(([key]) => key)], ...this.bars.map((bar) => [bar.student, bar.round, bar.total, ...OUTCOMES.map(([key]) => bar.outcomes[key] ?? 0)])];
  }
}
