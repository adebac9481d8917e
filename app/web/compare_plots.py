"""What is drawn of a comparison on the server: a Pareto plane for each student and pair of domains, and any number against any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from app.records.comparison_shapes import ComparedNumber, ComparedScore, Comparison
from app.shapes import Interval
from app.templating import number
from app.web.pareto_plane import MOST_DOMAINS
from app.web.plots import Axis, Tick, axis, front, marker

PLANE = (440, 380)
SCATTER = (900, 420)
LEFT, TOP, RIGHT, BOTTOM = 62, 14, 16, 46


@dataclass(frozen=True, slots=True)
class Frame:
    """An SVG with its two axes."""

    width: int
    height: int
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    left: int = LEFT
    top: int = TOP

    @property
    def right_edge(self) -> int:
        return self.width - RIGHT

    @property
    def bottom_edge(self) -> int:
        return self.height - BOTTOM


@dataclass(frozen=True, slots=True)
class Mark:
    """A run or a configuration in a picture. `start` is where it began; `cross` its intervals as two lines, x1 y1 x2 y2."""

    key: str
    series: int
    label: str
    href: str
    x: float
    y: float
    path: str
    start: tuple[float, float] | None = None
    cross: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ComparePlane:
    """One student's scores on two domains, of every run or configuration."""

    student: str
    frame: Frame
    marks: tuple[Mark, ...]
    front: str
    """Points of the line through those that no other is better than."""


@dataclass(frozen=True, slots=True)
class Scatter:
    """One number against another, a mark for each run. `missing`: runs that lack one of the two."""

    x: ComparedNumber
    y: ComparedNumber
    frame: Frame
    marks: tuple[Mark, ...]
    missing: int


@dataclass(frozen=True, slots=True)
class Series:
    """What is drawn in one colour: a configuration, or a run by itself. `places` are those of its runs."""

    key: str
    index: int
    """From 1; its colour and shape."""
    label: str
    places: tuple[int, ...]


def planes(found: Comparison, series: Sequence[Series]) -> tuple[ComparePlane, ...]:
    """A plane for each student and pair of domains; none where pairs are too few or too many."""
    students = list(dict.fromkeys(score.student for score in found.scores))
    made = []
    for student in students:
        mine = [score for score in found.scores if score.student == student]
        if 2 <= len(mine) <= MOST_DOMAINS:
            made += [_plane(student, x, y, found, series) for x, y in combinations(mine, 2)]
    return tuple(plane for plane in made if plane.marks)


def _plane(student: str, x: ComparedScore, y: ComparedScore, found: Comparison, series: Sequence[Series]) -> ComparePlane:
    ends = {one.key: _pair(x.latest, y.latest, one.places) for one in series}
    starts = {one.key: _pair(x.initial, y.initial, one.places) for one in series}
    shown = [pair for pair in (*ends.values(), *starts.values()) if pair]
    across = axis((value for pair in shown for value in pair[0]), LEFT, PLANE[0] - RIGHT, least=4)
    up = axis((value for pair in shown for value in pair[1]), PLANE[1] - BOTTOM, TOP, least=4)
    marks = []
    for one in series:
        end, start = ends[one.key], starts[one.key]
        if end is None:
            continue
        (low_x, mid_x, high_x), (low_y, mid_y, high_y) = end
        px, py = across.place(mid_x), up.place(mid_y)
        label = f"{one.label}\n{x.domain} {mid_x:.1f} ({low_x:.1f} to {high_x:.1f})\n{y.domain} {mid_y:.1f} ({low_y:.1f} to {high_y:.1f})"
        marks.append(
            Mark(
                one.key,
                one.index,
                label,
                f"/runs/{found.runs[one.places[0]].run_id}" if len(one.places) == 1 else "",
                px,
                py,
                marker(one.index, px, py, 5.5),
                (across.place(start[0][1]), up.place(start[1][1])) if start else None,
                ((across.place(low_x), py, across.place(high_x), py), (px, up.place(low_y), px, up.place(high_y))),
            )
        )
    best = front([(pair[0][1], pair[1][1]) for pair in ends.values() if pair])
    frame = Frame(*PLANE, f"{x.domain}, %", f"{y.domain}, %", across.ticks(), up.ticks())
    return ComparePlane(student, frame, tuple(marks), _staircase(best, across, up) if len(marks) > 1 else "")


def _pair(
    x: Sequence[Interval | None], y: Sequence[Interval | None], places: Sequence[int]
) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """(low, middle, high) on both domains in percent: of one run its interval, of several their mean and range."""
    both = [(a, b) for place in places if (a := x[place]) and (b := y[place])]
    if not both:
        return None
    return _spread([a for a, _ in both]), _spread([b for _, b in both])


def _spread(scores: Sequence[Interval]) -> tuple[float, float, float]:
    if len(scores) == 1:
        return 100 * scores[0].low, 100 * scores[0].score, 100 * scores[0].high
    values = [100 * one.score for one in scores]
    return min(values), fmean(values), max(values)


def _staircase(best: Sequence[tuple[float, float]], across: Axis, up: Axis) -> str:
    """From the left edge down the steps to the bottom edge: beyond it nothing has come yet."""
    corners: list[tuple[float, float]] = []
    for place, (x, y) in enumerate(best):
        corners.append((across.place(best[place - 1][0]) if place else across.start, up.place(y)))
        corners.append((across.place(x), up.place(y)))
    corners.append((corners[-1][0], up.start))
    return " ".join(f"{x},{y}" for x, y in corners)


def scatter(found: Comparison, series: Sequence[Series], x_key: str, y_key: str) -> Scatter | None:
    """The two numbers of these keys; other keys mean the first two that say something."""
    if len(found.numbers) < 2:
        return None
    by_key = {one.key: one for one in found.numbers}
    y = by_key.get(y_key) or found.numbers[0]
    x = by_key.get(x_key) or _partner(found, y)
    pairs = [(place, a, b) for place, (a, b) in enumerate(zip(x.values, y.values, strict=True)) if a is not None and b is not None]
    across = axis((a for _, a, _ in pairs), LEFT, SCATTER[0] - RIGHT)
    up = axis((b for _, _, b in pairs), SCATTER[1] - BOTTOM, TOP)
    of = {place: one for one in series for place in one.places}
    marks = []
    for place, a, b in pairs:
        run, one = found.runs[place], of[place]
        px, py = across.place(a), up.place(b)
        label = f"{run.name}, run {run.run_id}\n{x.label}: {_value(a, x)}\n{y.label}: {_value(b, y)}"
        marks.append(Mark(f"run-{run.run_id}", one.index, label, f"/runs/{run.run_id}", px, py, marker(one.index, px, py, 5.5)))
    frame = Frame(*SCATTER, _titled(x), _titled(y), across.ticks(9), up.ticks())
    return Scatter(x, y, frame, tuple(marks), len(found.runs) - len(pairs))


def _partner(found: Comparison, y: ComparedNumber) -> ComparedNumber:
    """A number worth setting against `y`: a setting that varies, or else the time it took."""
    others = [one for one in found.numbers if one.key != y.key]
    wanted = [one for one in others if one.key.startswith("setting/") and one.key != "setting/seed"]
    return next(iter(wanted), None) or next((one for one in others if one.key == "time/wall_seconds"), others[0])


def _value(value: float, of: ComparedNumber) -> str:
    return f"{number(float(value), 4)}{' ' + of.unit if of.unit else ''}"


def _titled(of: ComparedNumber) -> str:
    label = of.label if len(of.label) <= 60 else f"{of.label[:59]}…"
    return f"{label}, {of.unit}" if of.unit else label
