// How the charts are looked at: axis, smoothing, zoom, hidden series. It lives in the page's address, so that a copied link shows the same.
const AXES = ["step", "time", "tokens"];

export class View {
  constructor() {
    const given = new URLSearchParams(location.search);
    const number = (name) => (given.get(name) !== null && Number.isFinite(Number(given.get(name))) ? Number(given.get(name)) : null);
    this.axis = AXES.includes(given.get("axis")) ? given.get("axis") : "step";
    this.smooth = Math.min(0.99, Math.max(0, number("smooth") ?? 0));
    this.clip = given.get("clip") === "1";
    this.from = number("from");
    this.to = number("to");
    if (this.from === null || this.to === null || this.from >= this.to) this.from = this.to = null;
    this.log = new Set(given.getAll("log"));
    this.hidden = new Set(given.getAll("hide"));
    this.full = given.get("full");
    this.more = given.get("more") === "1";
    this.quantity = ["feedback_characters", "divergence"].includes(given.get("sizes")) ? given.get("sizes") : "response_tokens";
    this.heard = [];
  }

  get zoomed() { return this.from !== null; }
  get zoom() { return this.zoomed ? [this.from, this.to] : null; }

  listen(told) { this.heard.push(told); }

  // Change some of it, say so in the address, and tell everybody what changed.
  set(changes) {
    Object.assign(this, changes);
    this.write();
    for (const told of this.heard) told(new Set(Object.keys(changes)));
  }

  toggle(name, key) {
    const set = new Set(this[name]);
    if (!set.delete(key)) set.add(key);
    this.set({ [name]: set });
  }

  write() {
    const said = new URLSearchParams(location.search);
    const one = (name, value, plain) => { if (value === plain || value === null) said.delete(name); else said.set(name, value); };
    const many = (name, values) => { said.delete(name); for (const value of values) said.append(name, value); };
    one("axis", this.axis, "step");
    one("smooth", this.smooth ? String(this.smooth) : null, null);
    one("clip", this.clip ? "1" : null, null);
    one("from", this.from === null ? null : this.round(this.from), null);
    one("to", this.to === null ? null : this.round(this.to), null);
    many("log", this.log);
    many("hide", this.hidden);
    one("full", this.full, null);
    one("more", this.more ? "1" : null, null);
    one("sizes", this.quantity, "response_tokens");
    const query = said.toString();
    history.replaceState(history.state, "", `${location.pathname}${query ? `?${query}` : ""}${location.hash}`);
  }

  round(value) { return String(this.axis === "time" ? Math.round(value) : Number(value.toFixed(this.axis === "step" ? 2 : 0))); }
}
