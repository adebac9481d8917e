// A run's log: read in parts while it is open, appended as text.
const box = document.querySelector("[data-log]");
const pane = box.querySelector(".log");
const MOST = 400_000;
let after = null;
let busy = false;

async function read() {
  if (!box.open || busy || document.hidden) return;
  busy = true;
  try {
    for (;;) {
      const answer = await fetch(after === null ? box.dataset.log : `${box.dataset.log}?after=${after}`);
      if (!answer.ok) break;
      const part = await answer.json();
      after = part.next_cursor;
      if (part.text) {
        const atEnd = pane.scrollHeight - pane.scrollTop - pane.clientHeight < 40;
        pane.textContent = (pane.textContent + part.text).slice(-MOST);
        if (atEnd) pane.scrollTop = pane.scrollHeight;
      }
      if (!part.text || Number(part.next_cursor) >= part.size) break;
    }
    if (!pane.textContent) pane.dataset.empty = document.querySelector("#run-head .chip")?.dataset.status === "queued" ? "The log begins when a worker takes the run." : "Nothing written yet.";
    else delete pane.dataset.empty;
  } catch { /* the connection is away: the next round asks again */ } finally { busy = false; }
}

box.addEventListener("toggle", read);
// A run that has ended writes no more: one last look, then only when the pane is opened again.
const ended = () => ["completed", "stopped", "failed"].includes(document.querySelector("#run-head .chip")?.dataset.status);
let over = false;
setInterval(() => {
  const now = ended();
  if (!now || !over) read();
  over = now;
}, 2000);
read();
