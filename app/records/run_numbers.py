"""Numbers that sum a run up: how long it was held, what became of its feedback, and the metrics of its students' newest steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from sqlalchemy import Integer, String, column, func, values
from sqlmodel import Session, col, select

from app.db import now
from app.records.ended import Ends, remembered
from app.records.tallies import OUTCOMES
from app.tables import AttemptRow, BreakRescueRow, GateDecisionRow, MetricRow, RunRow, StepRow, StepTallyRow


@dataclass(slots=True)
class RunNumbers:
    """None: nothing of the kind was recorded. Shares are in percent."""

    wall_seconds: float | None = None
    """How long workers have held it."""
    kept: float | None = None
    break_rate: float | None = None
    rescue_rate: float | None = None
    gates_open: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    """Of each student's newest step, by name."""


def tell(session: Session, runs: Iterable[Ends]) -> dict[int, RunNumbers]:
    """Run -> its numbers as they are now."""
    return remembered(session, runs, _read)


def _read(session: Session, run_ids: Sequence[int]) -> dict[int, RunNumbers]:
    found = {run_id: RunNumbers() for run_id in run_ids}
    _read_attempts(session, found)
    _read_feedback(session, found)
    _read_metrics(session, found)
    return found


def _read_attempts(session: Session, found: Mapping[int, RunNumbers]) -> None:
    held = select(AttemptRow.run_id, AttemptRow.started_at, AttemptRow.ended_at).where(col(AttemptRow.run_id).in_(found))
    for run_id, started_at, ended_at in session.exec(held).all():
        one = found[run_id]
        one.wall_seconds = (one.wall_seconds or 0.0) + ((ended_at or now()) - started_at).total_seconds()


def _read_feedback(session: Session, found: Mapping[int, RunNumbers]) -> None:
    tally: Any = StepTallyRow
    kinds = [func.sum(getattr(tally, outcome)) for outcome in OUTCOMES]
    counted = select(tally.run_id, *kinds).where(tally.run_id.in_(found)).group_by(tally.run_id)
    for run_id, *sums in session.exec(counted).all():
        of = dict(zip(OUTCOMES, sums, strict=True))
        if total := sum(of.values()):
            found[run_id].kept = float(100 * of["kept"] / total)
    row = BreakRescueRow
    changed: Any = [func.sum(part) for part in (row.broken, row.correct_before, row.rescued, row.wrong_before)]
    totals = select(row.run_id, *changed).where(col(row.run_id).in_(found), col(row.difficulty_low).is_(None)).group_by(col(row.run_id))
    for run_id, broken, right, rescued, wrong in session.exec(totals).all():
        found[run_id].break_rate = float(100 * broken / right) if right else None
        found[run_id].rescue_rate = float(100 * rescued / wrong) if wrong else None
    gates = select(GateDecisionRow.run_id, GateDecisionRow.domains).where(col(GateDecisionRow.run_id).in_(found))
    opened: defaultdict[int, list[bool]] = defaultdict(list)
    for run_id, domains in session.exec(gates).all():
        opened[run_id].append(bool(domains))
    for run_id, decisions in opened.items():
        found[run_id].gates_open = 100 * fmean(decisions)


def _read_metrics(session: Session, found: Mapping[int, RunNumbers]) -> None:
    done = session.exec(select(RunRow.id, RunRow.steps_done).where(col(RunRow.id).in_(found))).all()
    last = [(run_id, student, step) for run_id, steps in done for student, step in steps.items() if step]
    if not last:
        return
    # A list of triples behind IN is looked for by SQLite in every row of the table; joined, each is looked up.
    wanted = values(column("run_id", Integer), column("student", String), column("step", Integer), name="wanted").data(last).cte("wanted")
    at_step = (col(StepRow.run_id) == wanted.c.run_id) & (col(StepRow.student) == wanted.c.student) & (col(StepRow.step) == wanted.c.step)
    of_step = (col(MetricRow.run_id) == col(StepRow.run_id)) & (col(MetricRow.seq) == col(StepRow.seq))
    rows = select(MetricRow.run_id, MetricRow.name, MetricRow.value).select_from(wanted).join(StepRow, at_step).join(MetricRow, of_step)
    for run_id, name, value in session.exec(rows).all():
        found[run_id].metrics[name] = value
