// The token lens: a rollout's tokens coloured by what student and self-teacher made of them. Texts go in as text, never as markup.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u{e0000}-\u{e007f}]/gu;
const shown = (text) => text.replace(HIDDEN, (mark) => `⟨U+${mark.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
const visible = (text) => (text === "" ? "⋯" : shown(text).replaceAll("\n", "↵\n").replaceAll("\t", "⇥\t"));
const named = (text) => (text === "" ? "part of a character" : `“${shown(text).replaceAll("\n", "↵").replaceAll("\t", "⇥")}”`);
const percent = (value) => (value >= 0.9995 ? "100 %" : value < 0.0005 ? "< 0.1 %" : `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`);
const figure = (value) => Number(value.toPrecision(3)).toString();
const times = (ratio) => (ratio >= 1000 ? "> 1000×" : ratio < 0.001 ? "< 0.001×" : `${figure(ratio)}×`);
const STRONGEST = 12;

// Each quantity: its value at a token, the bin that colours it, how it is told, how strong it is, from what strength on it is listed, its legend.
const LEAST_TOP = 0.01; // nats: less than this is never painted as if it were much
const cuts = (value, limits) => limits.findIndex((limit) => value >= limit);
const chances = [0.9, 0.5, 0.2, 0.05, 0.01, 0];
const chance = (column) => ({
  value: (data, at) => Math.exp(data[column][at]),
  bin: (value) => `s${cuts(value, chances)}`,
  tell: percent,
  strength: (value) => 1 - value,
  least: 0.1,
  legend: () => ["90 % or more", "50 %", "20 %", "5 %", "1 %", "less"].map((text, bin) => [`s${bin}`, text]),
  note: "The darker, the less likely.",
});
const sides = (limits) => (distance) => Math.sign(distance) * limits.filter((limit) => Math.abs(distance) >= limit - 1e-9).length;
const ratioSide = sides([1.1, 2, 10].map(Math.log));
const weightSide = sides([0.02, 0.1, 0.5]);
const QUANTITIES = {
  divergence: {
    name: "Divergence",
    value: (data, at) => data.divergence[at],
    bin: (value, top) => `s${value <= 0 ? 0 : Math.min(5, Math.ceil(5 * Math.sqrt(value / top) - 0.5))}`,
    tell: (value) => `${figure(value)} nats`,
    strength: (value) => value,
    legend: (top) => [0, 1, 2, 3, 4, 5].map((bin) => [`s${bin}`, bin ? `${Number((top * ((bin - 0.5) / 5) ** 2).toPrecision(2))}` : "0"]),
    least: 1e-3,
    note: "How far the self-teacher’s next token is from the student’s, in nats: what the update worked on. Each colour from its number up.",
  },
  ratio: {
    name: "Teacher ÷ student",
    value: (data, at) => Math.exp(data.teacher[at] - data.student[at]),
    bin: (value) => `d${ratioSide(Math.log(value))}`,
    tell: times,
    strength: (value) => Math.abs(Math.log(value)),
    least: Math.log(1.1),
    legend: () => [["d-3", "a tenth"], ["d-2", "half"], ["d-1", "less"], ["d0", "alike"], ["d1", "more"], ["d2", "twice"], ["d3", "ten times"]],
    note: "How much likelier the self-teacher finds the token. Blue, marked below: it was encouraged. Orange, marked above: discouraged.",
  },
  student: { name: "Student", ...chance("student") },
  teacher: { name: "Self-teacher", ...chance("teacher") },
  weight: {
    name: "Importance weight",
    value: (data, at) => data.weight[at],
    bin: (value) => `d${weightSide(value - 1)}`,
    tell: figure,
    strength: (value) => Math.abs(value - 1),
    least: 0.02,
    legend: () => [["d-3", "0.5 or less"], ["d-2", "0.9"], ["d-1", "0.98"], ["d0", "1"], ["d1", "1.02"], ["d2", "1.1"], ["d3", "1.5 or more"]],
    note: "How much likelier the student finds the token now than when it was sampled. On policy it is 1.",
  },
  in_loss: {
    name: "In loss",
    value: (data, at) => Number(data.in_loss[at]),
    bin: (value) => (value ? "s3" : "s0"),
    tell: (value) => (value ? "counted" : "left out"),
    strength: () => 0,
    least: 1,
    legend: () => [["s3", "counted"], ["s0", "left out"]],
    note: "The tokens that the loss counted.",
  },
};
const COLUMNS = { ratio: "teacher" };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

let count = 0;
class TokenLens extends HTMLElement {
  static observedAttributes = ["data-source"];

  connectedCallback() {
    this.settled = () => { if (this.data && !this.tokens?.[0]?.isConnected) this.draw(); }; // a morph of the page put its own children here
    document.addEventListener("htmx:afterSettle", this.settled);
    if (!this.data) this.read();
  }

  disconnectedCallback() { document.removeEventListener("htmx:afterSettle", this.settled); }

  attributeChangedCallback(name, before) { if (before !== null && this.isConnected) this.read(); }

  async read() {
    const source = this.dataset.source;
    try {
      const answer = await fetch(source, { headers: { accept: "application/json" } });
      if (!answer.ok) throw new Error(answer.statusText);
      const data = await answer.json();
      if (source !== this.dataset.source || !this.isConnected) return;
      this.data = data;
      this.draw();
    } catch {
      const again = make("button", { type: "button", class: "button slim" }, "Try again");
      again.addEventListener("click", () => this.read());
      this.replaceChildren(make("p", { class: "row small" }, "The tokens could not be read.", again));
    }
  }

  draw() {
    const { data } = this;
    this.id ||= `token-lens-${++count}`;
    this.quantities = Object.keys(QUANTITIES).filter((key) => data[COLUMNS[key] ?? key] !== null);
    this.text = make("div", { class: "lens-text", role: "listbox", tabindex: "0", "aria-label": "Tokens of the rollout", "aria-describedby": `${this.id}-keys` });
    this.tokens = data.texts.map((text, at) => make("span", { role: "option", id: `${this.id}-${at}` }, visible(text)));
    this.tokens.forEach((token, at) => { token.at = at; });
    this.text.append(...this.tokens);
    this.detail = make("div", { class: "lens-detail" });
    this.legend = make("div", { class: "lens-legend" });
    this.summary = make("p", { class: "lens-summary" });
    this.list = make("ol", { class: "lens-strongest" });
    this.replaceChildren(
      make("div", { class: "lens-bar" }, this.choice(), this.legend),
      this.summary,
      make("div", { class: "lens-body" },
        make("div", {}, this.text, make("p", { class: "quiet small lens-keys", id: `${this.id}-keys` },
          make("kbd", {}, "←"), " ", make("kbd", {}, "→"), " walk the tokens, ", make("kbd", {}, "↑"), " ", make("kbd", {}, "↓"), " the strongest ones")),
        make("div", { class: "lens-side" }, this.detail, make("h4", {}, "Strongest tokens"), this.list)),
    );
    this.text.addEventListener("pointerover", (event) => { if (event.target.at !== undefined) this.tell(event.target.at); });
    this.text.addEventListener("pointerleave", () => this.tell(this.here));
    this.text.addEventListener("click", (event) => { if (event.target.at !== undefined) this.go(event.target.at); });
    this.text.addEventListener("keydown", (event) => this.walk(event));
    this.paint(this.quantities.includes(this.quantity) ? this.quantity : this.quantities[0]);
    this.go(this.strongest[0] ?? 0, false);
  }

  choice() {
    const box = make("fieldset", { class: "lens-choice" }, make("legend", { class: "visually-hidden" }, "Colour the tokens by"));
    for (const key of this.quantities) {
      const input = make("input", { type: "radio", name: `${this.id}-by`, value: key, class: "visually-hidden" });
      input.checked = key === (this.quantity ?? this.quantities[0]);
      input.addEventListener("change", () => this.paint(key));
      box.append(make("label", {}, input, QUANTITIES[key].name));
    }
    return box;
  }

  paint(key) {
    const { data } = this;
    const quantity = QUANTITIES[key];
    this.quantity = key;
    const values = this.tokens.map((_, at) => quantity.value(data, at));
    const top = Math.max(LEAST_TOP, ...values);
    values.forEach((value, at) => { this.tokens[at].dataset.bin = quantity.bin(value, top); });
    const order = values.map((value, at) => [quantity.strength(value), at]).filter(([strength]) => strength >= quantity.least);
    this.strongest = order.sort((a, b) => b[0] - a[0] || a[1] - b[1]).slice(0, STRONGEST).map(([, at]) => at);
    this.legend.replaceChildren(
      make("ul", {}, ...quantity.legend(top).map(([bin, text]) => make("li", {}, make("span", { class: "lens-swatch", "data-bin": bin }), text))),
      make("p", { class: "quiet small" }, quantity.note),
    );
    this.list.replaceChildren(...this.strongest.map((at) => this.entry(at, quantity.tell(values[at]))));
    if (!this.strongest.length) this.list.append(make("li", { class: "quiet small" }, "None stands out."));
    this.summary.textContent = this.summarise();
  }

  entry(at, value) {
    const { data } = this;
    const change = data.teacher ? `${percent(Math.exp(data.student[at]))} → ${percent(Math.exp(data.teacher[at]))}` : "";
    const button = make("button", { type: "button" }, make("bdi", {}, shown(data.texts[at]).trim() || named(data.texts[at])), make("span", { class: "quiet" }, change), make("span", {}, value));
    button.addEventListener("click", () => this.go(at));
    return make("li", {}, button);
  }

  summarise() {
    const { data } = this;
    if (!data.divergence) return "No self-teacher taught this rollout; these are the student’s own probabilities as it was sampled.";
    const sorted = [...data.divergence].sort((a, b) => b - a);
    const total = sorted.reduce((sum, value) => sum + value, 0);
    if (total < 1e-4) return "Student and self-teacher agree on every token: there was nothing to learn from this rollout.";
    let sum = 0;
    const half = sorted.findIndex((value) => { sum += value; return sum >= total / 2; }) + 1;
    return `Half of what this rollout taught lies in ${half === 1 ? "one token" : `${half} tokens`} of ${sorted.length}.`;
  }

  go(at, focus = true) {
    if (!this.tokens.length) return;
    const before = this.tokens[this.here];
    if (before) { before.removeAttribute("aria-selected"); }
    this.here = at;
    const token = this.tokens[at];
    token.setAttribute("aria-selected", "true");
    token.setAttribute("aria-label", this.words(at));
    this.text.setAttribute("aria-activedescendant", token.id);
    this.tell(at);
    const box = token.getBoundingClientRect();
    const frame = this.text.getBoundingClientRect();
    if (box.top < frame.top || box.bottom > frame.bottom) this.text.scrollTop += box.top - frame.top - frame.height / 3;
    if (focus) this.text.focus();
  }

  walk(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inOrder = [...this.strongest].sort((a, b) => a - b);
    const next = {
      ArrowRight: () => this.here + 1,
      ArrowLeft: () => this.here - 1,
      ArrowDown: () => inOrder.find((at) => at > this.here) ?? this.here,
      ArrowUp: () => inOrder.findLast((at) => at < this.here) ?? this.here,
      Home: () => 0,
      End: () => this.tokens.length - 1,
    }[event.key];
    if (!next) return;
    event.preventDefault();
    this.go(Math.min(this.tokens.length - 1, Math.max(0, next())));
  }

  words(at) {
    const told = this.quantities.map((key) => `${QUANTITIES[key].name} ${QUANTITIES[key].tell(QUANTITIES[key].value(this.data, at))}`);
    return `${named(this.data.texts[at])}, ${told.join(", ")}`;
  }

  tell(at) {
    const { data } = this;
    if (at === undefined || at === this.told) return;
    this.told = at;
    const facts = make("dl", {}, ...this.quantities.map((key) => make("div", {}, make("dt", {}, QUANTITIES[key].name), make("dd", {}, QUANTITIES[key].tell(QUANTITIES[key].value(data, at))))));
    this.detail.replaceChildren(make("p", { class: "lens-token" }, make("bdi", {}, named(data.texts[at])), make("span", { class: "quiet small" }, `token ${at + 1} of ${data.texts.length}`)), facts);
    if (data.alternatives) this.detail.append(this.table(data.alternatives[at], data.texts[at]));
  }

  table(seen, sampled) {
    if (!seen.length) return make("p", { class: "quiet small" }, "No other token was likely, or none was recorded.");
    const row = (one) => make("tr", one.text === sampled ? { "data-sampled": "" } : {},
      make("th", { scope: "row" }, make("bdi", {}, named(one.text)), ...(one.text === sampled ? [make("span", { class: "visually-hidden" }, " (sampled)")] : [])),
      ...["student", "teacher"].map((who) => make("td", {}, this.gauge(who, one[who]))));
    return make("table", { class: "lens-table" }, make("caption", { class: "visually-hidden" }, "Likely next tokens"),
      make("thead", {}, make("tr", {}, ...["Next token", "Student", "Self-teacher"].map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...seen.map(row)));
  }

  gauge(who, value) {
    const bar = make("span", { class: "lens-gauge", "data-who": who, "aria-hidden": "true" });
    bar.style.setProperty("--share", `${100 * value}%`);
    return make("span", { class: "lens-chance" }, bar, percent(value));
  }
}
customElements.define("token-lens", TokenLens);
