// Numbers for charts: averages, quantiles, places between points, and how values are written.

// Exponential moving average with bias correction. A value that stands for n points weighs as n of them do.
export function ema(values, counts, weight) {
  let sum = 0;
  let norm = 0;
  return values.map((value, index) => {
    if (value === null) return null;
    const decay = weight ** (counts?.[index] ?? 1);
    sum = decay * sum + (1 - decay) * value;
    norm = decay * norm + (1 - decay);
    return sum / norm;
  });
}

export function quantile(sorted, share) {
  const place = (sorted.length - 1) * share;
  const below = Math.floor(place);
  return sorted[below] + (place - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}

// The value at x of a line through (xs, ys), xs rising; its ends go on level.
export function between(xs, ys, x) {
  if (!xs.length) return null;
  let low = 0;
  let high = xs.length - 1;
  if (x <= xs[0]) return ys[0];
  if (x >= xs[high]) return ys[high];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle; else high = middle;
  }
  return ys[low] + ((x - xs[low]) / (xs[high] - xs[low])) * (ys[high] - ys[low]);
}

export function short(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))} M`;
  if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 }).replaceAll(",", "\u2009");
  return size > 0 && size < 1e-3 ? value.toExponential(1).replace("e-", "e−").replace("-", "−") : Number(value.toPrecision(3)).toString().replace("-", "−");
}

export const count = (value) => Math.round(value).toLocaleString("en").replaceAll(",", "\u2009");

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const clockSeconds = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

// A moment (seconds since 1970) as an axis of this span writes it: midnights and long spans by their day.
export function moment(seconds, span) {
  const date = new Date(seconds * 1000);
  if (span >= 6 * 86_400 || (span >= 7200 && date.getHours() === 0 && date.getMinutes() === 0)) return day.format(date);
  return (span < 600 ? clockSeconds : clock).format(date);
}
export const fullMoment = (seconds) => `${day.format(new Date(seconds * 1000))}, ${clockSeconds.format(new Date(seconds * 1000))}`;
