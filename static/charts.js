// A run's charts: which there are, the bar above them that says how all are looked at, and when to ask for news.
// A student is a hue, a domain is a dash; one crosshair and one zoom for all.
import { BarPanel } from "./charts/bars.js";
import { csv, png } from "./charts/download.js";
import { HeatPanel } from "./charts/heat.js";
import { LinePanel } from "./charts/lines.js";
import { count } from "./charts/maths.js";
import { Store, Unreachable } from "./charts/store.js";
import { View } from "./charts/view.js";

const section = document.querySelector("[data-charts]");
const run = section.dataset.run;
const api = `/api/v1/runs/${run}`;
const students = JSON.parse(section.dataset.students);
const domains = JSON.parse(section.dataset.domains);
const length = Number(section.dataset.steps);
const store = new Store(section.dataset.charts, api, { students });
const view = new View();
const hue = (student) => `student-${(Math.max(0, students.indexOf(student)) % 6) + 1}`;
const DASHES = [[], [6, 4], [2, 3], [9, 3, 2, 3]];
const dash = (domain) => DASHES[Math.max(0, domains.indexOf(domain)) % DASHES.length];

// ---- what the panels share ----
let span = [0, 1];
let ends = [];
const desk = {
  store, view, students, hue,
  span: () => view.zoom ?? span,
  roundEnds: () => ends,
  zoom,
  say: (text) => { section.querySelector("[data-say]").textContent = text; },
  open: (query, event) => {
    const address = `/runs/${run}/exchanges${query}`;
    if (event.ctrlKey || event.metaKey || event.shiftKey) window.open(address, "_blank", "noopener"); else location.assign(address);
  },
  tool: (name, panel) => {
    if (name === "log") view.toggle("log", panel.kind);
    else if (name === "full") view.set({ full: view.full === panel.kind ? null : panel.kind });
    else if (panel.plot && name === "csv") csv(panel, run, api);
    else if (panel.plot && name === "png") png(panel, run);
  },
};

// ---- which charts there are: series as columns x, mean, low, high, count, first, last or round ----
function curve(student, suffix) {
  const found = store.curve(`${student}/${suffix}`);
  if (!found?.first.length) return null;
  const x = found.first.map((first, index) => {
    const last = found.last[index];
    if (view.axis === "time") return found.at[index] / 1000;
    return view.axis === "step" ? (first + last) / 2 : store.place("tokens", student, (first + last) / 2);
  });
  return { ...found, label: student, student, token: hue(student), x };
}
const byStudent = (suffix, more = {}) => ({
  names: () => students.map((student) => `${student}/${suffix}`),
  metrics: () => students.map((student) => `${student}/${suffix}`),
  series: () => students.map((student) => curve(student, suffix)).filter(Boolean),
  ...more,
});

// What is measured once a round, at the step where it was measured: `shift` rounds before the round's own end.
function measured(points, student, shift, facts) {
  const entries = [...points].sort(([a], [b]) => a - b);
  const x = entries.map(([round, { at }]) => {
    const step = Math.max(0, round - shift) * length;
    return view.axis === "time" ? at / 1000 : store.place(view.axis, student, step);
  });
  const column = (name) => entries.map(([, value]) => value[name] ?? value.value);
  return { ...facts, student, x, mean: column("value"), low: column("low"), high: column("high"), round: entries.map(([round]) => round) };
}
const specs = {
  loss: byStudent("train/loss"),
  rollouts: byStudent("train/accuracy", { scale: 100, zero: true }),
  kept: byStudent("feedback/kept_fraction", { scale: 100, zero: true }),
  entropy: byStudent("train/entropy"),
  divergence: byStudent("self_distillation/divergence_mean"),
  speed: byStudent("throughput/rollout_tokens_per_s", { zero: true }),
  memory: byStudent("memory/peak_bytes", { scale: 2 ** -30, zero: true }),
  accuracy: {
    rounds: "After round",
    metrics: () => store.names.filter((name) => students.some((student) => name.startsWith(`${student}/eval/`))),
    series: () => students.flatMap((student) => domains.map((domain) => {
      const found = store.accuracy.get(`${student}\n${domain}`);
      return found ? measured(found, student, 0, { label: `${student} ${domain}`, token: hue(student), dash: dash(domain), spread: true }) : null;
    }).filter(Boolean)),
  },
  gap: {
    rounds: "Before round",
    zero: true,
    metrics: () => store.names.filter((name) => students.some((student) => name === `${student}/gate/gap`)),
    series: () => {
      const gaps = students.filter((student) => store.gaps.has(student)).map((student) => measured(store.gaps.get(student), student, 1, { label: student, token: hue(student) }));
      const longest = gaps.reduce((best, one) => (one.x.length > (best?.x.length ?? 0) ? one : best), null);
      if (!longest) return [];
      const limits = longest.round.map((round) => store.gaps.get(longest.student).get(round).threshold);
      return [...gaps, { ...longest, label: "threshold", token: "ink-3", dash: [4, 4], plain: true, mean: limits, low: limits, high: limits }];
    },
  },
  break: {
    rounds: "Round",
    zero: true,
    series: () => [...store.breaks.keys()].sort().map((key) => {
      const [tutee, tutor, what] = key.split("\n");
      return measured(store.breaks.get(key), tutee, 0, { label: `${tutee}${tutor ? ` by ${tutor}` : ""} ${what}`, token: hue(tutee), dash: what === "break" ? [5, 4] : [] });
    }),
  },
};

const panels = new Map();
function add(figure, spec) {
  const kind = figure.dataset.chart;
  const made = kind === "outcomes" ? new BarPanel(figure, desk) : kind === "heat" ? new HeatPanel(figure, desk) : new LinePanel(figure, desk, spec ?? specs[kind]);
  panels.set(kind, made);
  return made;
}
for (const figure of section.querySelectorAll("[data-chart]")) add(figure);

// ---- one chart for each other measure, made when they are asked for ----
const more = section.querySelector("[data-more]");
const moreBox = section.querySelector("#more-charts");
const template = section.querySelector("[data-chart-template]");
const charted = () => new Set(Object.values(specs).flatMap((spec) => spec.names?.() ?? []));
const SCALES = [[/_fraction$|accuracy/, { scale: 100, zero: true }, "%"], [/^timing_s\//, { zero: true }, "seconds"], [/_bytes$/, { scale: 2 ** -30, zero: true }, "GiB"], [/length|tokens|count/, { zero: true }, "by step"]];

function others() {
  const shown = charted();
  const names = store.names.filter((name) => !shown.has(name) && students.some((student) => name.startsWith(`${student}/`)));
  const suffixes = [...new Set(names.map((name) => name.slice(name.indexOf("/") + 1)))].filter((name) => !/^(eval|test|gate)\//.test(name)).sort();
  section.querySelector("[data-more-count]").textContent = suffixes.length ? `${suffixes.length} charts` : "nothing measured yet";
  if (!moreBox.open) return;
  for (const suffix of suffixes) {
    if (panels.has(suffix)) continue;
    const figure = template.content.firstElementChild.cloneNode(true);
    const title = suffix.replaceAll("_", " ").replaceAll("/", ": ");
    const [, scale, unit] = SCALES.find(([pattern]) => pattern.test(suffix)) ?? [null, {}, "by step"];
    figure.dataset.chart = suffix;
    figure.querySelector("h2").textContent = title;
    figure.querySelector(".aside").textContent = unit;
    figure.querySelector("[data-do='full']").setAttribute("aria-label", `Full screen: ${title}`);
    const body = figure.querySelector(".chart-body");
    body.setAttribute("aria-label", `${title}${body.getAttribute("aria-label")}`);
    figure.querySelector(".chart-legend").setAttribute("aria-label", `Series of ${title}`);
    more.append(figure);
    add(figure, byStudent(suffix, scale));
  }
}
moreBox.open = view.more;
moreBox.addEventListener("toggle", () => { if (moreBox.open !== view.more) view.set({ more: moreBox.open }); });

// ---- the bar above them ----
const bar = section.querySelector(".chart-bar");
const slider = bar.querySelector("[name='smooth']");
const reset = bar.querySelector("[data-reset]");
const choice = section.querySelector("[data-quantity]");
function showBar() {
  for (const radio of bar.querySelectorAll("[name='axis']")) radio.checked = radio.value === view.axis;
  bar.querySelector("[value='tokens']").disabled = store.cursor >= 0 && !store.tallies.size;
  slider.value = String(view.smooth);
  bar.querySelector("output").textContent = view.smooth ? view.smooth.toFixed(2) : "off";
  bar.querySelector("[name='clip']").checked = view.clip;
  reset.disabled = !view.zoomed;
  choice.value = view.quantity;
  const width = store.detail?.width ?? store.widths.curves;
  bar.querySelector("[data-note]").textContent = width > 1 ? `${count(width)} steps a point, with their range. Zoom in for every step.` : "";
}
bar.addEventListener("change", (event) => {
  if (event.target.name === "axis") {
    const steps = view.zoomed ? store.steps(view.axis, view.from, view.to) : null;
    const [from, to] = steps ? reach(event.target.value, steps) : [null, null];
    view.set({ axis: event.target.value, from, to });
  }
  if (event.target.name === "clip") view.set({ clip: event.target.checked });
});
slider.addEventListener("input", () => view.set({ smooth: Number(slider.value) }));
reset.addEventListener("click", () => zoom(null));
choice.addEventListener("change", () => view.set({ quantity: choice.value }));

// Steps as places of an axis: from the first student that gets there to the last.
function reach(axis, [first, last]) {
  const places = [...store.tallies.keys()].flatMap((student) => [store.place(axis, student, first), store.place(axis, student, last)]).filter((place) => place !== null);
  const found = [Math.min(...places), Math.max(...places)];
  return places.length && found[0] < found[1] ? found : [null, null];
}

// ---- zoom: the same for all charts, in as many points as the steps have ----
let looking = 0;
function zoom(range) {
  if (!range) { view.set({ from: null, to: null }); return; }
  const whole = extent();
  const [from, to] = [Math.max(range[0], whole[0]), Math.min(range[1], whole[1])];
  if (to > from) view.set(from <= whole[0] && to >= whole[1] ? { from: null, to: null } : { from, to });
}
async function look() {
  const mine = (looking += 1);
  if (!view.zoomed || store.widths.curves <= 1) {
    store.detail = null;
    return;
  }
  const steps = store.steps(view.axis, view.from, view.to);
  try {
    await store.look(wanted(), ...steps);
  } catch (error) {
    if (error instanceof Unreachable) return; // the coarse points stay
    throw error;
  }
  if (mine !== looking) return;
  if (!view.zoomed) store.detail = null;
  draw();
}

// From the first place to the last of everything that is drawn, with a little room.
function extent() {
  const places = [...store.tallies.keys()].flatMap((student) => (view.axis === "step" ? [0, store.lastStep] : store.ladder(view.axis, student).values));
  if (view.axis === "step") places.push(0, store.lastStep);
  if (view.axis === "time") for (const { at } of store.curves.values()) if (at.length) places.push(at[0] / 1000, at.at(-1) / 1000);
  if (view.axis === "time") for (const points of [...store.accuracy.values(), ...store.gaps.values()]) for (const { at } of points.values()) places.push(at / 1000);
  if (view.axis === "tokens") places.push(0);
  let [low, high] = [Infinity, -Infinity];
  for (const place of places) { low = Math.min(low, place); high = Math.max(high, place); }
  if (!(high > low)) [low, high] = Number.isFinite(low) ? [low - 0.5, low + 0.5] : [0, 1];
  const room = (high - low) * 0.015;
  return [low - room, high + room];
}
function endsOfRounds() {
  const found = new Map();
  for (const [student, entries] of store.rounds) {
    for (const [, , last, round] of entries) found.set(round, Math.max(found.get(round) ?? -Infinity, store.place(view.axis, student, last)));
  }
  return [...found].sort(([a], [b]) => a - b);
}

// ---- drawing ----
function draw(afresh = false) {
  span = extent();
  ends = endsOfRounds();
  others();
  showBar();
  for (const panel of panels.values()) panel.update({ afresh });
}

// ---- full screen ----
const dialog = section.querySelector("#chart-full");
const holder = document.createElement("div");
holder.className = "card chart";
function showFull() {
  const inside = dialog.querySelector("figure");
  if (inside && inside.dataset.chart !== view.full) holder.replaceWith(inside);
  const figure = view.full && panels.get(view.full)?.figure;
  if (!figure) { if (dialog.open) dialog.close(); return; }
  if (!dialog.contains(figure)) {
    figure.replaceWith(holder);
    dialog.append(figure);
  }
  for (const [kind, panel] of panels) panel.figure.querySelector("[data-do='full']").setAttribute("aria-pressed", String(kind === view.full));
  if (!dialog.open) dialog.showModal();
  figure.querySelector(".chart-body").focus();
}
dialog.addEventListener("close", () => {
  const inside = dialog.querySelector("figure");
  if (inside) holder.replaceWith(inside);
  const was = view.full;
  if (was) view.set({ full: null });
  inside?.querySelector("[data-do='full']").setAttribute("aria-pressed", "false");
  inside?.querySelector("[data-do='full']").focus();
});

view.listen((changed) => {
  showBar();
  if (changed.has("full")) { showFull(); return; }
  if (changed.has("more")) { others(); void ask(); return; }
  if (changed.has("from") || changed.has("axis")) void look();
  if (changed.has("quantity")) { void store.sizes(view.quantity).then(() => draw()); return; }
  draw(changed.has("log"));
});

// ---- asking, one question at a time ----
// Names without a point yet are asked for too: the first points of a student that has just begun must not be missed.
const wanted = () => [...panels.values()].flatMap((panel) => panel.spec?.names?.() ?? []);
let asking = false;
let again = false;
async function ask() {
  if (asking) { again = true; return; }
  asking = true;
  try {
    do {
      again = false;
      await store.ask(wanted(), view.quantity);
      others();
    } while (again);
    if (view.zoomed && store.widths.curves > 1 && (!store.detail || store.detail.to >= store.lastStep - store.widths.curves)) await look();
    draw();
    if (view.full && !dialog.open) showFull();
    section.dataset.cursor = String(store.cursor);
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error;
    setTimeout(ask, 2000);
  } finally { asking = false; }
}
for (const name of ["sse:step", "sse:results", "sse:exchanges"]) section.addEventListener(name, ask);
document.addEventListener("htmx:sseOpen", ask);
document.addEventListener("themechange", () => draw(true));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(true));
showBar();
void ask();
