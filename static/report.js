// A report prints whole: what is folded is unfolded for the paper, and folded again afterwards.
const folded = () => document.querySelectorAll("#report details:not([open])");
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...folded()];
  for (const part of opened) part.open = true;
});
addEventListener("afterprint", () => { for (const part of opened) part.open = false; });
document.querySelector("[data-print]").addEventListener("click", () => print());
