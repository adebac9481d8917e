// Ages go on while the page stands: "just now" becomes "3 min ago", in the words of app/templating.py.
const EVERY_MS = 5000;
const seen = new WeakMap();

function duration(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) {
    const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60;
    return minutes && hours < 10 ? `${hours} h ${minutes} min` : `${hours} h`;
  }
  return `${Math.floor(seconds / 86400)} d`;
}

// Counted from when the server said it: the browser's clock may be another one.
function tick() {
  const now = performance.now();
  for (const time of document.querySelectorAll("time[data-age]")) {
    const known = seen.get(time);
    const first = known?.said === time.dataset.age ? known : { said: time.dataset.age, at: now };
    if (first !== known) seen.set(time, first);
    const seconds = Math.round(Number(first.said) + (now - first.at) / 1000);
    const text = seconds < 5 ? "just now" : `${duration(seconds)} ago`;
    if (time.textContent !== text) time.textContent = text;
  }
}
tick();
setInterval(tick, EVERY_MS);
document.addEventListener("htmx:afterSettle", tick);
