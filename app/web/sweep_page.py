"""What the pages of sweeps show: the list, one sweep with its points, and the form that launches one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sqlmodel import Session

from app import shapes
from app.errors import Fault, Invalid
from app.experiments import sweeps
from app.experiments.ablations import ABLATIONS, Ablation
from app.experiments.sweep_points import MOST_POINTS, Point, SweepPlan, points
from app.records import queries
from app.records.page_queries import RunLine, run_lines
from opcod.config import parse_yaml, preset_names
from opcod.errors import UserError

PAGE = 50
LONGEST_VALUE = 80


@dataclass(frozen=True, slots=True)
class SweepsList:
    """The list of sweeps. `cursor` is the place in the live stream that it already shows."""

    sweeps: tuple[shapes.Sweep, ...]
    before: int | None
    next_before: str | None
    cursor: int


@dataclass(frozen=True, slots=True)
class Axis:
    """A varied setting: its last word, and the whole path."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class PointLine:
    """A point of a sweep: the varied values as text, its run, and the mean change of all its students' scores since the start."""

    place: int
    values: tuple[str, ...]
    line: RunLine | None
    change: float | None
    best: bool


@dataclass(frozen=True, slots=True)
class SweepPage:
    """A sweep as a table of values against scores and verdict."""

    sweep: shapes.SweepDetail
    axes: tuple[Axis, ...]
    lines: tuple[PointLine, ...]
    improved: int
    """Points whose students all improved."""
    judged: int
    """Points that have a verdict."""
    cursor: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Planned:
    """A point that would be made."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SweepCheck:
    """What the form comes to: the points, or what is wrong. Both empty: nothing was asked yet."""

    points: tuple[Planned, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class SweepForm:
    """The form that launches a sweep, as it was filled in."""

    name: str
    preset: str
    vary: str
    """An ablation's name, or ``grid``."""
    grid: str
    config: str
    key: str
    presets: tuple[str, ...]
    ablations: tuple[Ablation, ...]
    most: int
    check: SweepCheck


EXAMPLE_GRID = "method.gate.threshold: [0.05, 0.1, 0.2, 0.4]\n"


def sweeps_list(session: Session, *, before: int | None = None) -> SweepsList:
    """The newest sweeps; `before` pages to older ones."""
    cursor = queries.newest_arrival(session)
    listing = sweeps.listing(session, before=before, limit=PAGE)
    return SweepsList(tuple(listing.items), before, listing.next_cursor, cursor)


def sweep_page(session: Session, sweep_id: int) -> SweepPage:
    """One sweep.

    Raises:
        NotFound
    """
    cursor = queries.newest_arrival(session)
    sweep = sweeps.read(session, sweep_id)
    found = {line.run.id: line for line in run_lines(session, [point.run for point in sweep.points if point.run is not None])}
    rows = [(point, found.get(point.run.id) if point.run else None) for point in sweep.points]
    changes = {point.place: _change(line) for point, line in rows if line is not None}
    over = {point.place: changes[point.place] for point, line in rows if line is not None and line.run.status == "completed"}
    best = max((change for change in over.values() if change is not None), default=None)
    lines = tuple(
        PointLine(
            place=point.place + 1,
            values=tuple(_text(point.values.get(path)) for path in sweep.axes),
            line=line,
            change=changes.get(point.place),
            best=len(over) > 1 and best is not None and over.get(point.place) == best,
        )
        for point, line in rows
    )
    verdicts = [line.run.verdict.mutual_improvement for _, line in rows if line is not None]
    runs = [line.run for _, line in rows if line is not None]
    return SweepPage(
        sweep=sweep,
        axes=tuple(Axis(path.rpartition(".")[2], path) for path in sweep.axes),
        lines=lines,
        improved=verdicts.count(True),
        judged=len(verdicts) - verdicts.count(None),
        cursor=cursor,
        fraction=fmean(run.progress.fraction for run in runs) if runs else 0.0,
    )


def sweep_form(sent: Mapping[str, str], *, key: str, check: SweepCheck | None = None) -> SweepForm:
    """The form as it was filled in, or as it begins."""
    known = (*(one.name for one in ABLATIONS), "grid")
    return SweepForm(
        name=sent.get("name", "")[:120],
        preset=sent["preset"] if sent.get("preset") in preset_names() else "demo",
        vary=sent["vary"] if sent.get("vary") in known else "gates",
        grid=sent.get("grid", EXAMPLE_GRID),
        config=sent.get("config", ""),
        key=sent.get("key") or key,
        presets=tuple(preset_names()),
        ablations=ABLATIONS,
        most=MOST_POINTS,
        check=check or SweepCheck((), ()),
    )


def judge(form: SweepForm) -> tuple[SweepPlan, list[Point], SweepCheck]:
    """The plan of a filled-in form with its points, or none and what is wrong."""
    faults = []
    name = "".join(character if character.isprintable() else " " for character in form.name).strip()
    if not name:
        faults.append(Fault("name", "The sweep has no name.", "Name it by what you want to know."))
    grid, config = None, None
    try:
        config = parse_yaml(form.config) if form.config.strip() else None
    except UserError as error:
        faults.append(Fault("config", error.message, error.advice))
    if form.vary == "grid":
        try:
            grid = parse_yaml(form.grid)
            listless = [str(path) for path, values in grid.items() if not isinstance(values, list)]
            faults += [Fault(f"grid.{path}", "These are no values.", "Write a list: [0.1, 0.2].") for path in listless]
        except UserError as error:
            faults.append(Fault("grid", error.message, error.advice))
    plan = SweepPlan(name, form.preset, config, {str(path): values for path, values in grid.items()} if grid else grid)
    if form.vary != "grid":
        plan = SweepPlan(name, form.preset, config, ablation=form.vary)
    if faults:
        return plan, [], SweepCheck((), tuple(faults))
    try:
        found = points(plan)
    except Invalid as invalid:
        return plan, [], SweepCheck((), invalid.faults)
    return (
        plan,
        found,
        SweepCheck(tuple(Planned(one.config.name, tuple(_text(value) for value in one.values.values())) for one in found), ()),
    )


def _change(line: RunLine) -> float | None:
    changes = [cell.change for student in line.students for cell in student.cells if cell.change is not None]
    return fmean(changes) if changes else None


def _text(value: Any) -> str:
    text = "–" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
