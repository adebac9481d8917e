// Keys of an exchange. Each presses a control that stands on the page, so that nothing needs a key; off while typing.
const PRESSED = {
  j: "next", k: "previous", l: "sibling-next", h: "sibling-previous", n: "question-next", p: "question-previous",
  s: "star", r: "raw", "?": "help", G: "last", gg: "first",
};
const TYPING = "input:not([type='checkbox']), select, textarea, [contenteditable], dialog";
let before = "";

export const control = (name) => document.querySelector(`[data-key="${name}"]`);

// `own` handles keys by itself: name of a key -> what to do.
export function listen(own = {}) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.(TYPING)) return;
    const key = event.key === "g" && before === "g" ? "gg" : event.key;
    before = key === "gg" ? "" : event.key;
    if (own[key]) own[key](event);
    else if (PRESSED[key]) control(PRESSED[key])?.click();
    else return;
    event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest?.('[data-key="help"]')) document.querySelector("#keys-help")?.showModal();
  });
}

// A star is put on by one form and shown in several places.
document.addEventListener("htmx:afterSwap", () => {
  const notes = document.querySelector("#exchange-notes");
  const article = document.querySelector("#exchange");
  if (!notes || !article) return;
  const starred = notes.dataset.starred === "true";
  const button = article.querySelector(".star-button");
  if (button) {
    button.setAttribute("aria-pressed", String(starred));
    button.firstElementChild.textContent = starred ? "★" : "☆";
    button.form.elements.on.value = starred ? "" : "1";
  }
  const mark = document.querySelector(`.entry[data-id="${article.dataset.id}"] .star`);
  if (mark) mark.hidden = !starred;
});

if (!document.querySelector("#inspector")) {
  listen({ Escape: () => document.activeElement?.blur() });
}
