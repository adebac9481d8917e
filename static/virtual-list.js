// A list of any length in a scrolling box: parts are asked for by key as one nears them, and far ones are let go.
const MOST_PARTS = 6;
const NEAR = 1.5; // box heights

export class VirtualList {
  constructor(box, address) {
    this.box = box;
    this.address = address;
    this.busy = { previous: false, next: false };
    this.generation = 0;
    box.addEventListener("scroll", () => {
      if (this.waiting) return;
      this.waiting = true;
      requestAnimationFrame(() => { this.waiting = false; this.fill(); });
    }, { passive: true });
    this.fill();
  }

  get parts() { return [...this.box.querySelectorAll(":scope > .chunk")]; }
  get items() { return [...this.box.querySelectorAll(".entry")]; }
  item(id) { return this.box.querySelector(`.entry[data-id="${id}"]`); }

  // What stands beyond either end, if one is near enough to see it soon.
  fill() {
    const { scrollTop, scrollHeight, clientHeight } = this.box;
    if (scrollTop < NEAR * clientHeight) this.extend("previous");
    if (scrollHeight - scrollTop - clientHeight < NEAR * clientHeight) this.extend("next");
  }

  async extend(side) {
    const edge = side === "next" ? this.parts.at(-1) : this.parts[0];
    const query = edge?.dataset[side];
    if (!query || this.busy[side]) return false;
    this.busy[side] = true;
    const generation = this.generation;
    try {
      const part = await this.ask(query);
      if (!part || generation !== this.generation || !edge.isConnected) return false;
      const { scrollTop } = this.box;
      if (!edge.querySelector(".entry")) { // nothing found so far: looked on from there
        const other = side === "next" ? "previous" : "next";
        part.dataset[other] = edge.dataset[other] ?? "";
        if (side === "next") this.lookedFrom = query;
        edge.replaceWith(part);
      } else if (side === "next") {
        edge.after(part);
        while (this.parts.length > MOST_PARTS && this.parts[0].offsetHeight + this.parts[0].offsetTop < scrollTop) {
          const gone = this.parts[0].offsetHeight;
          this.parts[0].remove();
          this.box.scrollTop -= gone;
        }
      } else {
        edge.before(part);
        this.box.scrollTop = scrollTop + part.offsetHeight;
        while (this.parts.length > MOST_PARTS) this.parts.at(-1).remove();
      }
      this.box.dispatchEvent(new CustomEvent("list:changed"));
    } finally {
      this.busy[side] = false;
    }
    this.fill();
    return true;
  }

  // The whole list anew from another place.
  async go(query, end = false) {
    const generation = ++this.generation;
    this.lookedFrom = undefined;
    const part = await this.ask(query);
    if (!part || generation !== this.generation) return;
    this.box.replaceChildren(part);
    this.box.scrollTop = end ? this.box.scrollHeight : 0;
    this.box.dispatchEvent(new CustomEvent("list:changed"));
    this.fill();
  }

  // Where the list has ended and the run has not: what came since.
  async follow(query) {
    const last = this.parts.at(-1);
    const newest = this.items.at(-1);
    if (!newest) {
      const from = this.lookedFrom; // all before it was looked through
      if (!last?.dataset.next) await this.go(from ?? query);
      this.lookedFrom ??= from;
      return this.items.length > 0;
    }
    if (last.dataset.next || this.busy.next) return false;
    const part = await this.ask(`${query}${query ? "&" : "?"}after=${newest.dataset.id}`);
    if (!part?.querySelector(".entry") || !last.isConnected) return false;
    last.after(part);
    this.box.dispatchEvent(new CustomEvent("list:changed"));
    return true;
  }

  async ask(query) {
    const answer = await fetch(`${this.address}/rows${query}`, { headers: { "HX-Request": "true" } });
    if (!answer.ok) { location.reload(); return null; }
    const made = document.createElement("template");
    made.innerHTML = await answer.text();
    return made.content.querySelector(".chunk");
  }

  async beside(id, step) {
    const find = () => { const all = this.items; return all[all.findIndex((item) => item.dataset.id === String(id)) + step]; };
    if (!this.item(id)) return undefined;
    return find() ?? ((await this.extend(step > 0 ? "next" : "previous")) ? find() : undefined);
  }
}
