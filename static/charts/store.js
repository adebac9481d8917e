// What has arrived of a run. One question a poll: what has changed since the last one. Entries (runs of `width` steps) that
// come again take the place of those that are there, so that nothing is counted twice and nothing is left out.
import { between } from "./maths.js";

const MOST_ENTRIES = 2400; // of a curve that grew while it was watched; then all is asked for again, in wider entries
const DETAIL_POINTS = 1500;

// The server could not be asked, or had no answer: to be asked again.
export class Unreachable extends Error {}

async function ask(address) {
  let answer;
  try { answer = await fetch(address); } catch (error) { throw new Unreachable(String(error)); }
  if (!answer.ok) throw new Unreachable(`${address}: ${answer.status}`);
  return answer.json();
}

export class Store {
  constructor(address, api, facts) {
    Object.assign(this, { address, api, ...facts });
    this.clear();
  }

  clear() {
    this.cursor = -1;
    this.names = [];
    this.accuracy = new Map();
    this.gaps = new Map();
    this.breaks = new Map();
    this.curves = new Map();
    this.detail = null;
    this.tallies = new Map();
    this.rounds = new Map();
    this.heat = new Map();
    this.widths = { curves: 0, tallies: 0, heat: 0 };
  }

  // ---- asking ----
  async ask(names, quantity) {
    const known = names.filter((name) => this.curves.has(name));
    const unknown = names.filter((name) => !this.curves.has(name));
    const first = this.cursor < 0;
    await this.get(first ? names : known, quantity, true);
    if (!first && unknown.length) await this.get(unknown, null, false);
    for (const name of names) if (!this.curves.has(name)) this.curves.set(name, empty());
    if ([...this.curves.values()].some((curve) => curve.first.length > MOST_ENTRIES)) {
      this.widths.curves = 0;
      this.curves.clear();
      await this.get(names, null, false);
    }
  }

  async get(names, quantity, moves) {
    const query = new URLSearchParams({ after: moves ? this.cursor : -1, curves: this.widths.curves });
    for (const name of names) query.append("name", name);
    if (moves) query.set("tallies", this.widths.tallies);
    if (quantity) {
      query.set("quantity", quantity);
      query.set("heat", this.heatOf === quantity ? this.widths.heat : 0);
    }
    this.take(await ask(`${this.address}?${query}`), moves);
  }

  // The curves again, in as many entries as fit the steps that are looked at.
  async look(names, from, to) {
    const query = new URLSearchParams({ first: Math.max(0, Math.floor(from)), last: Math.max(0, Math.ceil(to)), points: DETAIL_POINTS });
    for (const name of names) query.append("name", name);
    const part = await ask(`${this.api}/curves?${query}`);
    const curves = new Map(part.items.map((curve) => [curve.name, { ...curve, at: curve.at.map((at) => Date.parse(at)) }]));
    this.detail = { from, to, width: part.width, curves };
  }

  async sizes(quantity) {
    const query = new URLSearchParams({ after: -1, quantity, heat: 0 });
    const part = await ask(`${this.address}?${query}`);
    if (part.heat) this.takeHeat(part.heat);
  }

  // ---- taking ----
  take(part, moves) {
    if (part.names) this.names = part.names;
    for (const [student, domain, split, round, score, low, high, at] of part.evaluations) {
      if (split === "validation") put(this.accuracy, `${student}\n${domain}`, round, { value: 100 * score, low: 100 * low, high: 100 * high, at });
    }
    for (const [student, round, gap, threshold, open, at] of part.gates) put(this.gaps, student, round, { value: gap, threshold, open, at });
    for (const [tutee, tutor, round, broken, rescued, at] of part.break_rescue) {
      const pair = this.students.length > 2 ? `${tutee}\n${tutor}` : `${tutee}\n`;
      if (broken !== null) put(this.breaks, `${pair}\nbreak`, round, { value: 100 * broken, at });
      if (rescued !== null) put(this.breaks, `${pair}\nrescue`, round, { value: 100 * rescued, at });
    }
    if (part.curves) this.takeCurves(part.curves);
    if (part.tallies) {
      if (part.tallies.width !== this.widths.tallies) this.tallies.clear();
      this.widths.tallies = part.tallies.width;
      merge(this.tallies, part.tallies.items, (item) => Math.floor(item[1] / part.tallies.width));
      if ([...this.tallies.values()].some((entries) => entries.length > 1200)) this.widths.tallies = 0;
    }
    if (part.rounds) merge(this.rounds, part.rounds.items, (item) => item[3]);
    if (part.heat) this.takeHeat(part.heat);
    if (moves) this.cursor = part.cursor;
    this.places = null;
  }

  takeCurves({ width, items }) {
    this.widths.curves = width;
    for (const [name, fresh] of Object.entries(items)) {
      if (!fresh.last) Object.assign(fresh, { last: fresh.first, count: fresh.first.map(() => 1), low: fresh.mean, high: fresh.mean });
      const known = this.curves.get(name);
      if (!known?.first.length) {
        this.curves.set(name, fresh);
        continue;
      }
      const begin = Math.floor(fresh.first[0] / width);
      let keep = known.first.length;
      while (keep && Math.floor(known.first[keep - 1] / width) >= begin) keep -= 1;
      for (const column of COLUMNS) known[column] = known[column].slice(0, keep).concat(fresh[column]);
    }
  }

  takeHeat(part) {
    if (part.width !== this.widths.heat || part.quantity !== this.heatOf) this.heat.clear();
    this.widths.heat = part.width;
    this.heatOf = part.quantity;
    merge(this.heat, part.items, (item) => Math.floor(item[1] / part.width));
    if ([...this.heat.values()].some((entries) => entries.length > 300)) this.widths.heat = 0;
  }

  // ---- reading ----
  curve(name) {
    const whole = this.curves.get(name);
    if (!this.detail) return whole;
    return this.detail.curves.get(name) ?? whole;
  }

  // Where a student's step lies on an axis. Time and tokens come from its exchanges' counts, between two of which both rise evenly.
  place(axis, student, step) {
    if (axis === "step") return step;
    this.places ??= new Map();
    const key = `${axis}\n${student}`;
    if (!this.places.has(key)) this.places.set(key, this.ladder(axis, student));
    const { steps, values } = this.places.get(key);
    return between(steps, values, step);
  }

  ladder(axis, student) {
    const steps = [];
    const values = [];
    for (const [, first, last, , , , , , tokens, before, , begun, at] of this.tallies.get(student) ?? []) {
      if (axis === "tokens") {
        if (!steps.length) { steps.push(first - 1); values.push(before); }
        steps.push(last);
        values.push(before + tokens);
      } else {
        if (last > first) { steps.push(first); values.push(begun / 1000); }
        steps.push(last);
        values.push(at / 1000);
      }
    }
    return { steps, values };
  }

  // The steps that lie between two places of an axis: the first and the last of any student.
  steps(axis, from, to) {
    if (axis === "step") return [from, to];
    const found = [];
    for (const student of this.tallies.keys()) {
      const { steps, values } = this.ladder(axis, student);
      if (!steps.length || values[0] > to || values.at(-1) < from) continue;
      found.push(between(values, steps, from), between(values, steps, to));
    }
    return found.length ? [Math.min(...found), Math.max(...found)] : [0, 0];
  }

  get lastStep() { return Math.max(0, ...[...this.tallies.values()].map((entries) => entries.at(-1)?.[2] ?? 0), ...[...this.curves.values()].map((curve) => curve.last.at(-1) ?? 0)); }
}

const COLUMNS = ["first", "last", "count", "mean", "low", "high", "at"];
const empty = () => Object.fromEntries(COLUMNS.map((column) => [column, []]));

function put(map, key, x, value) {
  if (!map.has(key)) map.set(key, new Map());
  map.get(key).set(x, value);
}

// Entries by student, each in the place of the one with the same key.
function merge(map, items, keyOf) {
  const fresh = new Map();
  for (const item of items) {
    if (!fresh.has(item[0])) fresh.set(item[0], []);
    fresh.get(item[0]).push(item);
  }
  for (const [student, entries] of fresh) {
    const begin = keyOf(entries[0]);
    map.set(student, [...(map.get(student) ?? []).filter((item) => keyOf(item) < begin), ...entries]);
  }
}
