"""A run's report as a page to print or share: the same document that the files hold, with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sqlmodel import Session, col, select

from app import shapes
from app.records import configurations, queries, reports
from app.records.comparison import known
from app.records.report_text import range_of
from app.records.tallies import OUTCOMES
from app.tables import SweepPointRow
from app.web.contexts import hue_of
from app.web.plots import Axis, Tick, axis
from opcod.config import leaves

PLOT = (900, 44)
"""Width of the picture of scores, and height of one of its rows."""
LEFT, TOP, RIGHT, BOTTOM = 190, 10, 24, 40
BAR = 1000
PAPER = (("initial", "before training"), ("grpo", "GRPO"), ("sdpo", "SDPO"), ("opcod", "OPCoD"))


@dataclass(frozen=True, slots=True)
class PaperMark:
    """What the paper measured, as a mark on a row. `kind` is `initial`, `grpo`, `sdpo` or `opcod`."""

    kind: str
    x: float
    label: str


@dataclass(frozen=True, slots=True)
class PlotRow:
    """A student on a domain: before, after with its interval, what always giving the most frequent answer scores, and the paper's."""

    student: str
    domain: str
    hue: int
    y: float
    initial: float | None
    latest: float | None
    low: float
    high: float
    majority: float | None
    paper: tuple[PaperMark, ...]
    label: str


@dataclass(frozen=True, slots=True)
class ScorePlot:
    """All scores on one axis."""

    rows: tuple[PlotRow, ...]
    ticks: tuple[Tick, ...]
    width: int
    height: int
    left: int
    right_edge: int
    top: int
    bottom_edge: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a bar, in thousandths of its width."""

    name: str
    x: int
    width: int
    share: float | None
    """None where nothing is told of it."""
    count: int


@dataclass(frozen=True, slots=True)
class OutcomeBar:
    """What became of the feedback of a round, or of all; `count` is None for the paper's shares."""

    label: str
    pieces: tuple[Piece, ...]
    count: int | None


@dataclass(frozen=True, slots=True)
class DifficultyLine:
    """A row of the table of break and rescue rates, with bars in thousandths of the largest rate there is."""

    difficulty: str
    tutors: str
    one: shapes.ReportDifficulty
    break_width: int
    rescue_width: int
    paper: shapes.ReferenceBreakRate | None
    paper_cognizant: int
    paper_incognizant: int


@dataclass(frozen=True, slots=True)
class AblationLine:
    """A run beside this one: what it has otherwise, and its scores."""

    run: shapes.ReportRun
    own: bool
    differs: tuple[str, ...]
    cells: tuple[shapes.Interval | None, ...]
    changes: tuple[float | None, ...]
    """Against this run's score."""


@dataclass(frozen=True, slots=True)
class SettingGroup:
    """A section of the settings: dotted path and value."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ReportPage:
    """The whole document."""

    report: shapes.Report
    hues: dict[str, int]
    verdict: str
    plot: ScorePlot | None
    paper: dict[tuple[str, str], shapes.ReferenceScore]
    ablation: tuple[AblationLine, ...]
    sweep_id: int | None
    """The sweep that the other runs come from; None where they were chosen."""
    gates: tuple[tuple[int, tuple[shapes.GateDecisionShape, ...]], ...]
    outcomes: tuple[OutcomeBar, ...]
    difficulty: tuple[DifficultyLine, ...]
    settings: tuple[SettingGroup, ...]
    query: str
    """What the files are asked for with, so that they say what the page says."""
    compare: str
    """The page that compares the same runs."""


def report_page(session: Session, run_id: int, compare: Sequence[int] | None) -> ReportPage:
    """The report of a run beside others; None: beside the other points of its sweep.

    Raises:
        NotFound: the run, or one of those to compare it with, is not there.
    """
    sweep_id = None
    if compare is None:
        sweep_id = queries.run(session, run_id).sweep_id
        compare = _points(session, sweep_id, run_id) if sweep_id else []
    others = list(dict.fromkeys(other for other in compare if other != run_id))[: reports.MOST_COMPARED]
    report = reports.report(session, run_id, compare=others)
    names = [student.name for student in report.run.students]
    hues = {score.student: hue_of(score.student, names) for score in report.table.scores}
    paper = {(one.student, one.domain): one for one in (report.reference.scores if report.reference else ())}
    by_round: dict[int, list[shapes.GateDecisionShape]] = {}
    for gate in report.gate_decisions:
        by_round.setdefault(gate.round, []).append(gate)
    return ReportPage(
        report=report,
        hues=hues,
        verdict=_verdict(report),
        plot=_plot(report, hues, paper),
        paper=paper,
        ablation=_ablation(report),
        sweep_id=sweep_id if others else None,
        gates=tuple((number, tuple(found)) for number, found in by_round.items()),
        outcomes=_outcomes(report),
        difficulty=_difficulty(report),
        settings=_settings(report.config),
        query=urlencode([("compare", other) for other in others]),
        compare=f"/compare?runs={','.join(str(one.run_id) for one in report.table.runs)}",
    )


def _points(session: Session, sweep_id: int, run_id: int) -> list[int]:
    rows = select(col(SweepPointRow.run_id)).where(col(SweepPointRow.sweep_id) == sweep_id, col(SweepPointRow.run_id).is_not(None))
    found = [number for number in session.exec(rows.order_by(col(SweepPointRow.place))).all() if number not in (None, run_id)]
    there = known(session, [number for number in found if number is not None])
    return [number for number in found if number in there]


def _verdict(report: shapes.Report) -> str:
    """The first sentence that a reader wants."""
    run = report.run
    improved = [name for name, value in run.verdict.students.items() if value]
    failed = [name for name, value in run.verdict.students.items() if value is False]
    if run.verdict.mutual_improvement:
        return "Every student ended no worse on any domain and better on at least one: mutual Pareto improvement."
    if run.verdict.mutual_improvement is False:
        others = f"; {_names(improved)} improved" if improved else ""
        return f"No mutual Pareto improvement: {_names(failed)} did not improve on every domain without losing on another{others}."
    return f"No verdict: the run is {run.status}, and its final test is not in. What follows is as far as it has come."


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _plot(report: shapes.Report, hues: dict[str, int], paper: dict[tuple[str, str], shapes.ReferenceScore]) -> ScorePlot | None:
    lines = [line for line in report.table.scores if line.initial or line.latest[0]]
    if not lines:
        return None
    values = [100 * value for line in lines for one in (line.initial, line.latest[0]) if one for value in (one.low, one.high)]
    values += [100 * getattr(one, kind) for one in paper.values() for kind, _ in PAPER]
    values += [100 * line.majority_baseline for line in lines if line.majority_baseline is not None]
    across = axis(values, LEFT, PLOT[0] - RIGHT, least=5)
    across = Axis(max(0.0, across.low), min(100.0, across.high), across.start, across.end)
    rows = []
    for place, line in enumerate(lines):
        now, before = line.latest[0], line.initial
        newest = now or before
        assert newest is not None
        told = [f"{line.student} on {line.domain}"]
        told += [f"before {100 * before.score:.1f} ({100 * before.low:.1f} to {100 * before.high:.1f})"] if before else []
        told += [f"after {100 * now.score:.1f} ({100 * now.low:.1f} to {100 * now.high:.1f})"] if now else []
        theirs = paper.get((line.student, line.domain))
        marks = [
            PaperMark(
                kind,
                across.place(100 * getattr(theirs, kind)),
                f"The paper, {words}: {100 * getattr(theirs, kind):.1f} (not measured here)",
            )
            for kind, words in (PAPER if theirs else ())
        ]
        rows.append(
            PlotRow(
                student=line.student,
                domain=line.domain,
                hue=hues[line.student],
                y=TOP + PLOT[1] * (place + 0.5),
                initial=across.place(100 * before.score) if before else None,
                latest=across.place(100 * now.score) if now else None,
                low=across.place(100 * newest.low),
                high=across.place(100 * newest.high),
                majority=across.place(100 * line.majority_baseline) if line.majority_baseline is not None else None,
                paper=tuple(marks),
                label="\n".join(told),
            )
        )
    bottom = TOP + PLOT[1] * len(rows)
    return ScorePlot(tuple(rows), across.ticks(10), PLOT[0], bottom + BOTTOM, LEFT, PLOT[0] - RIGHT, TOP, bottom)


def _ablation(report: shapes.Report) -> tuple[AblationLine, ...]:
    table = report.table
    if len(table.runs) < 2:
        return ()
    lines = []
    for place, run in enumerate(table.runs):
        cells = tuple(line.latest[place] for line in table.scores)
        own = [line.latest[0] for line in table.scores]
        changes = tuple(a.score - b.score if place and a and b else None for a, b in zip(cells, own, strict=True))
        differs = tuple(f"{item.setting.rpartition('.')[2]} {configurations.text_of(item.there, 60)}" for item in run.differences[:6])
        more = (f"and {len(run.differences) - 6} more",) if len(run.differences) > 6 else ()
        lines.append(AblationLine(run, place == 0, differs + more, cells, changes))
    return tuple(lines)


def _outcomes(report: shapes.Report) -> tuple[OutcomeBar, ...]:
    """All rounds, the first and the last; then the paper's where the run is made from its preset."""
    if not report.outcomes:
        return ()
    rounds = report.outcomes_by_round
    counted = [("all rounds", report.outcomes)]
    if len(rounds) > 1:
        counted += [(f"round {rounds[0].round}", rounds[0].outcomes), (f"round {rounds[-1].round}", rounds[-1].outcomes)]
    order = [name for name in OUTCOMES if name in report.outcomes or (report.reference and name in report.reference.outcomes_first_round)]
    bars = []
    for label, counts in counted:
        whole = sum(counts.values())
        bars.append(OutcomeBar(label, _pieces(order, {name: count / whole for name, count in counts.items()}, counts), whole))
    if report.reference:
        for label, shares in (
            ("the paper, first round", report.reference.outcomes_first_round),
            ("the paper, last round", report.reference.outcomes_last_round),
        ):
            bars.append(OutcomeBar(label, _pieces(order, shares, {}), None))
    return tuple(bars)


def _pieces(order: Sequence[str], shares: dict[str, float], counts: dict[str, int]) -> tuple[Piece, ...]:
    pieces, place = [], 0.0
    for name in order:
        share = shares.get(name, 0.0)
        start = round(BAR * place)
        place += share
        told = share if name in shares or counts else None
        pieces.append(Piece(name, start, max(0, round(BAR * min(1.0, place)) - start), told, counts.get(name, 0)))
    return tuple(pieces)


def _difficulty(report: shapes.Report) -> tuple[DifficultyLine, ...]:
    paper = {one.difficulty: one for one in report.reference.break_rates} if report.reference else {}
    rates = [rate for one in report.difficulty for rate in (one.break_rate, one.rescue_rate) if rate is not None]
    rates += [value for one in paper.values() for value in (one.cognizant, one.incognizant)]
    most = max([*rates, 0.01])
    words = {None: "all", True: "cognizant", False: "not cognizant"}
    lines = []
    for one in report.difficulty:
        theirs = paper.get(one.difficulty)
        lines.append(
            DifficultyLine(
                range_of(one.difficulty),
                words[one.cognizant],
                one,
                round(BAR * (one.break_rate or 0) / most),
                round(BAR * (one.rescue_rate or 0) / most),
                theirs,
                round(BAR * theirs.cognizant / most) if theirs else 0,
                round(BAR * theirs.incognizant / most) if theirs else 0,
            )
        )
    return tuple(lines)


def _settings(config: dict[str, Any]) -> tuple[SettingGroup, ...]:
    sections: dict[str, list[tuple[str, str]]] = {}
    for path, value in leaves(config):
        section, _, rest = path.partition(".")
        title, name = (section, rest) if rest else ("general", section)
        sections.setdefault(title, []).append((name, configurations.text_of(value, 400)))
    ordered = sorted(sections.items(), key=lambda item: item[0] != "general")
    return tuple(SettingGroup(title, tuple(rows)) for title, rows in ordered)
