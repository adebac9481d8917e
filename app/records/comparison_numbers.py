"""Numbers that each run has one of, so that any of them can be set against any other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from sqlalchemy import func, tuple_
from sqlmodel import Session, col, select

from app import shapes
from app.records.comparison_shapes import ComparedNumber, ComparedScore
from app.records.tallies import OUTCOMES
from app.tables import BreakRescueRow, GateDecisionRow, MetricRow, StepRow, StepTallyRow

Values = dict[int, float]
"""Run -> its value; runs that have none are left out."""


def numbers(
    session: Session,
    runs: Sequence[shapes.Run],
    scores: Sequence[ComparedScore],
    seconds: Mapping[int, float],
    settings: Mapping[str, Sequence[Any]],
) -> list[ComparedNumber]:
    """Every number that at least one of the runs has, those that say most first."""
    ids = [run.id for run in runs]
    found = [
        *_of_scores(scores),
        *_of_settings(settings),
        *_of_time(runs, seconds),
        *_of_feedback(session, ids),
        *_of_metrics(session, runs),
    ]
    return [number for number in found if any(value is not None for value in number.values)]


def _number(key: str, label: str, unit: str, ids: Sequence[int], values: Mapping[int, float]) -> ComparedNumber:
    return ComparedNumber(key=key, label=label, unit=unit, values=[values.get(run_id) for run_id in ids])


def _of_scores(scores: Sequence[ComparedScore]) -> list[ComparedNumber]:
    found: list[ComparedNumber] = []
    changes: list[list[float | None]] = []
    for score in scores:
        of = f"{score.student}/{score.domain}"
        words = f"{score.student} on {score.domain}"
        latest = [100 * one.score if one else None for one in score.latest]
        initial = [100 * one.score if one else None for one in score.initial]
        change = [b - a if a is not None and b is not None else None for a, b in zip(initial, latest, strict=True)]
        changes.append(change)
        found += [
            ComparedNumber(key=f"score/{of}", label=f"Score of {words}", unit="%", values=latest),
            ComparedNumber(key=f"change/{of}", label=f"Change of {words}", unit="points", values=change),
            ComparedNumber(key=f"initial/{of}", label=f"Initial score of {words}", unit="%", values=initial),
        ]
    if changes:
        by_run = [[value for value in column if value is not None] for column in zip(*changes, strict=True)]
        mean = [fmean(values) if len(values) == len(changes) else None for values in by_run]
        worst = [min(values) if len(values) == len(changes) else None for values in by_run]
        found = [
            ComparedNumber(key="change/mean", label="Mean change of all scores", unit="points", values=mean),
            ComparedNumber(key="change/worst", label="Smallest change of all scores", unit="points", values=worst),
            *found,
        ]
    return found


def _of_settings(settings: Mapping[str, Sequence[Any]]) -> list[ComparedNumber]:
    return [
        ComparedNumber(key=f"setting/{path}", label=path, unit="", values=[None if value is None else float(value) for value in values])
        for path, values in settings.items()
        if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)
    ]


def _of_time(runs: Sequence[shapes.Run], seconds: Mapping[int, float]) -> list[ComparedNumber]:
    ids = [run.id for run in runs]
    steps = {run.id: float(run.progress.step) for run in runs}
    a_step = {run_id: value / steps[run_id] for run_id, value in seconds.items() if steps[run_id]}
    return [
        _number("time/wall_seconds", "Time held by workers", "s", ids, seconds),
        _number("time/seconds_a_step", "Time held by workers, a step", "s", ids, a_step),
        _number("progress/steps", "Steps done", "", ids, steps),
    ]


def _of_feedback(session: Session, ids: Sequence[int]) -> list[ComparedNumber]:
    tally: Any = StepTallyRow
    kinds = [func.sum(getattr(tally, outcome)) for outcome in OUTCOMES]
    counted = select(tally.run_id, *kinds).where(tally.run_id.in_(ids)).group_by(tally.run_id)
    counts = {run_id: dict(zip(OUTCOMES, sums, strict=True)) for run_id, *sums in session.exec(counted).all()}
    kept = {run_id: float(100 * of["kept"] / sum(of.values())) for run_id, of in counts.items() if sum(of.values())}
    row = BreakRescueRow
    changed = select(row.run_id, row.broken, row.correct_before, row.rescued, row.wrong_before)  # type: ignore[call-overload]
    totals: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for run_id, *found in session.exec(changed.where(col(row.run_id).in_(ids), col(row.difficulty_low).is_(None))).all():
        totals[run_id] = [total + count for total, count in zip(totals[run_id], found, strict=True)]
    broken = {run_id: 100 * breaks / right for run_id, (breaks, right, _, _) in totals.items() if right}
    rescued = {run_id: 100 * rescues / wrong for run_id, (_, _, rescues, wrong) in totals.items() if wrong}
    gates = select(GateDecisionRow.run_id, GateDecisionRow.domains).where(col(GateDecisionRow.run_id).in_(ids))
    opened: defaultdict[int, list[bool]] = defaultdict(list)
    for run_id, domains in session.exec(gates).all():
        opened[run_id].append(bool(domains))
    share = {run_id: 100 * fmean(decisions) for run_id, decisions in opened.items()}
    return [
        _number("feedback/kept", "Feedback kept", "%", ids, kept),
        _number("feedback/break_rate", "Break rate", "%", ids, broken),
        _number("feedback/rescue_rate", "Rescue rate", "%", ids, rescued),
        _number("gate/open", "Gates open", "%", ids, share),
    ]


def _of_metrics(session: Session, runs: Sequence[shapes.Run]) -> list[ComparedNumber]:
    """The metrics of each student's newest step."""
    ids = [run.id for run in runs]
    last = [(run.id, student.name, student.steps) for run in runs for student in run.students if student.steps]
    if not last:
        return []
    steps = select(StepRow.run_id, StepRow.seq).where(tuple_(col(StepRow.run_id), col(StepRow.student), col(StepRow.step)).in_(last))
    places = [tuple(place) for place in session.exec(steps).all()]
    rows = select(MetricRow.name, MetricRow.run_id, MetricRow.value).where(tuple_(col(MetricRow.run_id), col(MetricRow.seq)).in_(places))
    newest: defaultdict[str, Values] = defaultdict(dict)
    for name, run_id, value in session.exec(rows).all():
        newest[name][run_id] = value
    return [_number(f"metric/{name}", f"{name}, last step", "", ids, newest[name]) for name in sorted(newest)]
