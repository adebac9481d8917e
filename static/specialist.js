// The loss of a fine-tuning while it goes on: the run page's line chart over a curve of its own.
import { csv, png } from "./charts/download.js";
import { LinePanel } from "./charts/lines.js";
import { View } from "./charts/view.js";

const section = document.querySelector("[data-specialist]");
const id = section.dataset.specialist;
const name = `specialist-${id}`;
const view = new View();
view.axis = "step";
let curve = { first: [], last: [], mean: [], low: [], high: [], width: 1 };

const whole = () => [0.5, Math.max(1, curve.last.at(-1) ?? 1) + 0.5];
const desk = {
  store: null, view,
  span: () => view.zoom ?? whole(),
  roundEnds: () => [],
  zoom: (range) => {
    const all = whole();
    const [from, to] = range ? [Math.max(range[0], all[0]), Math.min(range[1], all[1])] : all;
    if (to > from) view.set(from <= all[0] && to >= all[1] ? { from: null, to: null } : { from, to });
  },
  say: (text) => { section.querySelector("[data-say]").textContent = text; },
  open: () => {},
  tool: (tool, panel) => {
    if (tool === "log") view.toggle("log", panel.kind);
    else if (panel.plot && tool === "csv") csv(panel, name);
    else if (panel.plot && tool === "png") png(panel, name);
  },
};
const panel = new LinePanel(section.querySelector("figure"), desk, {
  series: () => [{ label: "loss", token: "student-1", x: curve.first.map((first, index) => (first + curve.last[index]) / 2), ...curve, count: curve.first.map((first, index) => curve.last[index] - first + 1) }],
});

const slider = section.querySelector("[name='smooth']");
const reset = section.querySelector("[data-reset]");
slider.value = String(view.smooth);
slider.addEventListener("input", () => view.set({ smooth: Number(slider.value) }));
reset.addEventListener("click", () => desk.zoom(null));
const draw = (afresh = false) => { reset.disabled = !view.zoomed; panel.update({ afresh }); };
view.listen((changed) => draw(changed.has("log")));
document.addEventListener("themechange", () => draw(true));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(true));

// The page's live part says when there are more steps; the curve is asked for then, one question at a time.
let drawn = "";
let asking = false;
async function ask() {
  const live = document.querySelector("#specialist-live");
  if (asking || live.dataset.step === drawn) return;
  asking = true;
  try {
    const answer = await fetch(`/api/v1/specialists/${id}`, { headers: { Accept: "application/json" } });
    if (!answer.ok) return; // the next change asks again
    const told = await answer.json();
    curve = told.curve;
    drawn = String(told.step);
    draw();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // the network is away
  } finally { asking = false; }
}
document.addEventListener("htmx:afterSettle", ask);
void ask();
