"""What the page of comparisons shows. Everything that was chosen stands in its address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlencode

from sqlmodel import Session, col, select

from app.records import configurations, queries
from app.records.comparison import MOST_RUNS, comparison, known
from app.records.comparison_shapes import ComparedRun, Comparison
from app.tables import RunRow
from app.web.compare_plots import ComparePlane, Scatter, Series, planes, scatter
from opcod.evaluation.pareto import undominated

Grouping = Literal["configuration", "run"]
MEASURES: Mapping[str, str] = {
    "score": "Validation score",
    "train/loss": "Loss",
    "train/accuracy": "Correct rollouts",
    "gap": "Cognizance gap",
    "feedback/kept_fraction": "Feedback kept",
    "response/length_mean": "Response length",
    "train/entropy": "Entropy",
    "self_distillation/divergence_mean": "Divergence",
    "train/gradient_norm": "Gradient norm",
    "timing_s/step": "Time a step",
}
"""Curves to choose from; every other metric that the runs have follows under its own name."""
FIRST_MEASURES = ("score", "train/loss", "train/accuracy")
MOST_MEASURES = 12
NO_MEASURE = "none"
"""In the address, where all have been taken away."""
OFFERED = 30


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for."""

    runs: tuple[int, ...] = ()
    by: Grouping = "configuration"
    split: str = ""
    measures: tuple[str, ...] = FIRST_MEASURES
    x: str = ""
    y: str = ""
    sort: str = ""
    """A number's key, after a minus for the largest first."""
    smooth: float = 0.0

    @classmethod
    def read(cls, given: Sequence[tuple[str, str]]) -> Asked:
        """From an address's query; what makes no sense is left out. Runs may be a list or be repeated."""
        one = dict(given)
        numbers = [part.strip() for name, value in given if name == "runs" for part in value.split(",")]
        runs = tuple(dict.fromkeys(int(part) for part in numbers if part.isascii() and part.isdigit() and len(part) < 10))
        measures = [part for name, value in given if name == "measures" for part in value.split(",") if part]
        smooth = one.get("smooth", "")
        return cls(
            runs=runs[:MOST_RUNS],
            by="run" if one.get("by") == "run" else "configuration",
            split=one["split"] if one.get("split") in ("test", "validation") else "",
            measures=tuple(dict.fromkeys(measures))[:MOST_MEASURES] if "measures" in one else FIRST_MEASURES,
            x=one.get("x", "")[:200],
            y=one.get("y", "")[:200],
            sort=one.get("sort", "")[:200],
            smooth=min(0.99, max(0.0, float(smooth))) if smooth.replace(".", "", 1).isdigit() and smooth.isascii() else 0.0,
        )

    @property
    def query(self) -> str:
        """The address's query that asks for this, as short as it can be."""
        named = {
            "runs": ",".join(map(str, self.runs)),
            "by": "run" if self.by == "run" else "",
            "split": self.split,
            "measures": ",".join(self.measures) if self.measures != FIRST_MEASURES else "",
            "x": self.x,
            "y": self.y,
            "sort": self.sort,
            "smooth": f"{self.smooth:g}" if self.smooth else "",
        }
        return urlencode({name: value for name, value in named.items() if value}, safe=",/")

    def but(self, **changes: Any) -> str:
        """The address with something changed."""
        return f"/compare?{replace(self, **changes).query}"


@dataclass(frozen=True, slots=True)
class ScoreCell:
    """A score in the table: of a run with its interval, of a configuration the mean with the lowest and highest."""

    score: float
    low: float
    high: float
    change: float | None
    best: bool


@dataclass(frozen=True, slots=True)
class CompareLine:
    """A row of the table of scores."""

    series: Series
    runs: tuple[ComparedRun, ...]
    cells: tuple[ScoreCell | None, ...]
    front: bool | None
    fronts: tuple[bool | None, ...]
    """One for each student."""
    improved: int
    judged: int
    removal: str
    """The page without it; empty where it is all there is."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of scores: a domain of a student, and the address that sorts by it."""

    student: str
    domain: str
    first: bool
    """Of its student's."""
    sort: str
    order: Literal["ascending", "descending", "none"]


@dataclass(frozen=True, slots=True)
class DifferenceLine:
    """A setting, with a value for each row of the table of scores."""

    setting: str
    values: tuple[str, ...]
    sets_apart: bool


@dataclass(frozen=True, slots=True)
class Measure:
    """A curve to choose: the address with it added or taken away."""

    key: str
    title: str
    chosen: bool
    address: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One curve of every run."""

    name: str
    title: str
    student: str
    percent: bool
    axis: str


@dataclass(frozen=True, slots=True)
class ComparePage:
    """The whole page; empty where fewer than one of the runs is there."""

    asked: Asked
    found: Comparison | None
    series: tuple[Series, ...]
    students: tuple[tuple[str, int], ...]
    """With how many domains each has."""
    columns: tuple[Column, ...]
    lines: tuple[CompareLine, ...]
    differences: tuple[DifferenceLine, ...]
    beside: tuple[str, ...]
    """Settings that differ within configurations."""
    measures: tuple[Measure, ...]
    charts: tuple[Chart, ...]
    planes: tuple[ComparePlane, ...]
    scatter: Scatter | None
    missing: tuple[int, ...]
    others: tuple[tuple[int, str], ...]
    """Number and name of the newest runs that could be added."""
    cursor: int

    @property
    def points(self) -> int:
        """About how many a curve is drawn with: the more runs there are, the fewer of each can be told apart."""
        return max(200, 400 - 4 * len(self.asked.runs))

    @property
    def live(self) -> bool:
        """Whether anything may still change."""
        return self.found is not None and any(run.status not in ("completed", "failed", "stopped") for run in self.found.runs)


def compare_page(session: Session, asked: Asked) -> ComparePage:
    """The page of these runs; those that are there no more are named, not refused."""
    cursor = queries.newest_arrival(session)
    there = known(session, asked.runs)
    missing = tuple(number for number in asked.runs if number not in there)
    asked = replace(asked, runs=tuple(number for number in asked.runs if number in there))
    others = _others(session, there)
    if not asked.runs:
        return ComparePage(asked, None, (), (), (), (), (), (), (), (), (), None, missing, others, cursor)
    found = comparison(session, asked.runs, asked.split or None)  # type: ignore[arg-type]
    series = _series(found, asked.by)
    by_student: dict[str, list[str]] = {}
    for score in found.scores:
        by_student.setdefault(score.student, []).append(score.domain)
    lines = _lines(found, series, asked)
    differences, beside = _differences(found, [line.series for line in lines], asked.by)
    names = [number.key.removeprefix("metric/") for number in found.numbers if number.key.startswith("metric/")]
    measures = _measures(names, list(by_student), asked)
    return ComparePage(
        asked=asked,
        found=found,
        series=series,
        students=tuple((student, len(domains)) for student, domains in by_student.items()),
        columns=_columns(by_student, asked),
        lines=lines,
        differences=differences,
        beside=beside,
        measures=measures,
        charts=_charts(asked.measures, by_student, names),
        planes=planes(found, series),
        scatter=scatter(found, series, asked.x, asked.y),
        missing=missing,
        others=others,
        cursor=cursor,
    )


def _others(session: Session, there: set[int]) -> tuple[tuple[int, str], ...]:
    rows = select(col(RunRow.id), RunRow.name).where(col(RunRow.deleted_at).is_(None), col(RunRow.archived).is_(False))
    newest = session.exec(rows.order_by(col(RunRow.id).desc()).limit(OFFERED)).all()
    return tuple((key, name) for key, name in newest if key is not None and key not in there)


def _series(found: Comparison, by: Grouping) -> tuple[Series, ...]:
    places = {run.run_id: place for place, run in enumerate(found.runs)}
    if by == "run":
        return tuple(
            Series(f"run-{run.run_id}", place + 1, f"{run.name}, run {run.run_id}", (place,)) for place, run in enumerate(found.runs)
        )
    only = len(found.groups) == 1
    return tuple(
        Series(
            f"group-{index}",
            index + 1,
            found.runs[places[group.run_ids[0]]].name if only and len(group.run_ids) == 1 else group.label,
            tuple(places[run_id] for run_id in group.run_ids),
        )
        for index, group in enumerate(found.groups)
    )


def _lines(found: Comparison, series: Sequence[Series], asked: Asked) -> tuple[CompareLine, ...]:
    students = list(dict.fromkeys(score.student for score in found.scores))
    rows: list[list[ScoreCell | None]] = [[_cell(found, column, one) for column in range(len(found.scores))] for one in series]
    for column in range(len(found.scores)):
        known_cells = [cell.score for row in rows if (cell := row[column])]
        if len(known_cells) > 1:
            top = max(known_cells)
            for row in rows:
                if (cell := row[column]) and cell.score == top:
                    row[column] = replace(cell, best=True)
    every = _fronts(rows, range(len(found.scores)))
    of_students = [_fronts(rows, [place for place, score in enumerate(found.scores) if score.student == student]) for student in students]
    lines = []
    for line, (one, cells) in enumerate(zip(series, rows, strict=True)):
        runs = tuple(found.runs[place] for place in one.places)
        verdicts = [run.mutual_improvement for run in runs]
        left = tuple(number for number in asked.runs if number not in {run.run_id for run in runs})
        lines.append(
            CompareLine(
                one,
                runs,
                tuple(cells),
                every[line],
                tuple(of_student[line] for of_student in of_students),
                verdicts.count(True),
                len(verdicts) - verdicts.count(None),
                asked.but(runs=left) if left else "",
            )
        )
    return _sorted(found, lines, asked.sort)


def _cell(found: Comparison, column: int, one: Series) -> ScoreCell | None:
    score = found.scores[column]
    latest = [interval for place in one.places if (interval := score.latest[place])]
    if not latest:
        return None
    changes = [b.score - a.score for place in one.places if (a := score.initial[place]) and (b := score.latest[place])]
    change = sum(changes) / len(changes) if changes else None
    if len(latest) == 1:
        return ScoreCell(latest[0].score, latest[0].low, latest[0].high, change, False)
    values = [interval.score for interval in latest]
    return ScoreCell(sum(values) / len(values), min(values), max(values), change, False)


def _fronts(rows: Sequence[Sequence[ScoreCell | None]], columns: Sequence[int]) -> list[bool | None]:
    """Of each row whether no other is at least as good in all of these columns and better in one.

    None where scores are missing, or nothing else is to be chosen from.
    """
    scores = [[cell.score for column in columns if (cell := row[column])] for row in rows]
    whole = [own for own in scores if len(own) == len(columns)]
    best = iter(undominated(whole))
    return [next(best) if len(own) == len(columns) and len(whole) > 1 else None for own in scores]


def _sorted(found: Comparison, lines: Sequence[CompareLine], sort: str) -> tuple[CompareLine, ...]:
    numbers = {number.key: number.values for number in found.numbers}
    values = numbers.get(sort.removeprefix("-"))
    if values is None:
        return tuple(lines)

    def mean(line: CompareLine) -> float | None:
        known_values = [value for place in line.series.places if (value := values[place]) is not None]
        return sum(known_values) / len(known_values) if known_values else None

    sign = -1 if sort.startswith("-") else 1
    keyed = [(mean(line), line) for line in lines]
    ordered = sorted((pair for pair in keyed if pair[0] is not None), key=lambda pair: sign * (pair[0] or 0.0))
    return (*(line for _, line in ordered), *(line for value, line in keyed if value is None))


def _columns(by_student: Mapping[str, Sequence[str]], asked: Asked) -> tuple[Column, ...]:
    found = []
    for student, domains in by_student.items():
        for place, domain in enumerate(domains):
            key = f"score/{student}/{domain}"
            down = asked.sort == f"-{key}"
            order: Literal["ascending", "descending", "none"] = "descending" if down else "ascending" if asked.sort == key else "none"
            found.append(Column(student, domain, place == 0, asked.but(sort=key if down else f"-{key}"), order))
    return tuple(found)


def _differences(found: Comparison, series: Sequence[Series], by: Grouping) -> tuple[tuple[DifferenceLine, ...], tuple[str, ...]]:
    """Settings that differ between rows, and the names of those that differ only within them."""
    lines, beside = [], []
    for setting in found.settings:
        values = [[setting.values[place] for place in one.places] for one in series]
        if by == "configuration" and not setting.sets_apart:
            beside.append(setting.setting)
        else:
            texts = tuple(configurations.text_of(value[0], 200) for value in values)
            lines.append(DifferenceLine(setting.setting, texts, setting.sets_apart))
    return tuple(lines), tuple(beside)


def _measures(names: Sequence[str], students: Sequence[str], asked: Asked) -> tuple[Measure, ...]:
    suffixes = {name.partition("/")[2] for name in names if name.partition("/")[0] in students}
    offered = [key for key in MEASURES if key in ("score", "gap") or key in suffixes]
    offered += sorted(suffix for suffix in suffixes - MEASURES.keys())
    wanted = tuple(key for key in asked.measures if key != NO_MEASURE)
    offered += [key for key in wanted if key not in offered]
    found = []
    for key in offered:
        chosen = key in wanted
        left = tuple(one for one in wanted if one != key) if chosen else (*wanted, key)
        found.append(Measure(key, MEASURES.get(key, _words(key)), chosen, asked.but(measures=left[-MOST_MEASURES:] or (NO_MEASURE,))))
    return tuple(found)


def _charts(measures: Sequence[str], by_student: Mapping[str, Sequence[str]], names: Sequence[str]) -> tuple[Chart, ...]:
    charts = []
    for key in measures:
        title = MEASURES.get(key, _words(key))
        for student, domains in by_student.items():
            if key == "score":
                charts += [Chart(f"{student}/eval/{domain}", f"{title}, {domain}", student, True, "round") for domain in domains]
            elif key == "gap":
                charts.append(Chart(f"{student}/gate/gap", title, student, False, "round"))
            elif f"{student}/{key}" in names:
                percent = key.endswith(("fraction", "accuracy")) or "/accuracy/" in key
                charts.append(Chart(f"{student}/{key}", title, student, percent, "step"))
    return tuple(charts)


def _words(key: str) -> str:
    return key.replace("_", " ").replace("/", ": ")
