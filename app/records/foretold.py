"""What became of what pre-flights foretold: their figures beside those of the runs that were launched from the same settings."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from app import shapes
from app.experiments import preflights
from app.experiments.preflight_shapes import Foretold, ForetoldRun, ForetoldStudent
from app.records.run_summaries import summarise
from app.records.tallies import OUTCOMES
from app.tables import BreakRescueRow, EstimateRow, RunRow, StepTallyRow
from opcod.preflight.findings import StudentFindings

NEWEST = 20

Rates = Mapping[tuple[int, str], tuple[float | None, ...]]
"""(run, student) -> shares."""


def runs_of(session: Session, preflight_id: int) -> list[ForetoldRun]:
    """The newest runs that were launched from what a pre-flight had looked at, newest first.

    Raises:
        NotFound
    """
    found = preflights.read(session, preflight_id).found
    launched = select(RunRow).join(EstimateRow, col(EstimateRow.run_id) == col(RunRow.id))
    launched = launched.where(col(EstimateRow.preflight_id) == preflight_id, col(RunRow.deleted_at).is_(None))
    rows = session.exec(launched.order_by(col(RunRow.id).desc()).limit(NEWEST)).all()
    if found is None or not rows:
        return []
    ids = [row.id or 0 for row in rows]
    kept, changed = _kept(session, ids), _changed(session, ids)
    seen = {one.tutee: one for one in found.students}
    return [
        ForetoldRun(
            run_id=run.id,
            name=run.name,
            status=run.status,
            students=[_student(seen[one.name], one, run.id, kept, changed) for one in run.students if one.name in seen],
        )
        for run in summarise(session, rows)
    ]


def _student(seen: StudentFindings, student: shapes.RunStudent, run_id: int, kept: Rates, changed: Rates) -> ForetoldStudent:
    breaks, key = seen.breaks, (run_id, student.name)
    (kept_share,) = kept.get(key, (None,))
    broken, rescued = changed.get(key, (None, None))
    scores = student.scores.validation
    gains = [scores.latest[domain] - before for domain, before in scores.initial.items() if domain in scores.latest]
    return ForetoldStudent(
        student=student.name,
        kept=Foretold(predicted=seen.kept, achieved=kept_share),
        break_rate=Foretold(predicted=breaks.break_rate if breaks else None, achieved=broken),
        rescue_rate=Foretold(predicted=breaks.rescue_rate if breaks else None, achieved=rescued),
        gain=Foretold(
            predicted=seen.self_teacher.gap if seen.self_teacher else None,
            achieved=fmean(gains) if gains and student.steps else None,
        ),
    )


def _kept(session: Session, run_ids: list[int]) -> Rates:
    row: Any = StepTallyRow
    sums = select(row.run_id, row.student, func.sum(row.kept), *(func.sum(getattr(row, name)) for name in OUTCOMES))
    found = session.exec(sums.where(row.run_id.in_(run_ids)).group_by(row.run_id, row.student)).all()
    return {(run_id, student): (_share(kept, sum(counts)),) for run_id, student, kept, *counts in found}


def _changed(session: Session, run_ids: list[int]) -> Rates:
    row: Any = BreakRescueRow
    counts = (row.broken, row.correct_before, row.rescued, row.wrong_before)
    sums = select(row.run_id, row.tutee, *map(func.sum, counts)).where(row.run_id.in_(run_ids), row.difficulty_low.is_(None))
    found = session.exec(sums.group_by(row.run_id, row.tutee)).all()
    return {(run_id, tutee): (_share(broken, right), _share(rescued, wrong)) for run_id, tutee, broken, right, rescued, wrong in found}


def _share(part: float | None, whole: float | None) -> float | None:
    return (part or 0) / whole if whole else None
