"""Runs as they are shown: progress, scores, gate and verdict gathered from their tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import func
from sqlmodel import Session, col, select

from app import shapes
from app.artefacts.usage import Usage, usage
from app.experiments.remembered import experiments
from app.lifecycle.queueing import ORDER, fits, needs_of_run
from app.lifecycle.statuses import RunStatus
from app.lifecycle.workers import alive
from app.records.ended import Ends, remembered
from app.records.jobs_read import error_of
from app.tables import EvaluationRow, GateDecisionRow, RunRow, StepRow, SweepPointRow, WorkerRow

PACE_STEPS = 40
"""Steps from which the time left is judged."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An evaluation of a student."""

    student: str
    domain: str
    split: str
    round: int
    majority_baseline: float
    interval: shapes.Interval


@dataclass(frozen=True, slots=True)
class Gate:
    """A tutor's newest gate decision; it is open where the tutor may teach any domain."""

    gap: float
    cognizant: bool
    open: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """What lists show of a run besides its row."""

    evaluations: tuple[Measured, ...]
    """Of each student on each split the first and the newest, in order of arrival: a long run has thousands."""
    gates: Mapping[str, Gate]
    """By tutor."""


def summarise(session: Session, rows: Sequence[RunRow]) -> list[shapes.Run]:
    """Runs with all that their shape gathers from other tables, in a fixed number of queries."""
    ids = [row.id for row in rows]
    made_from = experiments(session, (row.experiment_id for row in rows))
    known = recorded(session, rows)
    waits = any(row.status == "queued" for row in rows)
    order = select(col(RunRow.id)).where(col(RunRow.status) == "queued").order_by(*ORDER)
    positions = {run_id: place for place, run_id in enumerate(session.exec(order).all(), start=1)} if waits else {}
    workers = alive(session) if waits else []
    used = usage(session) if waits else None
    points = select(col(SweepPointRow.run_id), col(SweepPointRow.sweep_id)).where(col(SweepPointRow.run_id).in_(ids))
    swept = dict(session.exec(points).all())
    return [
        _run(
            session,
            row,
            made_from[row.experiment_id].config,
            known[row.id or 0],
            positions.get(row.id),
            _waiting_for(row, workers, used),
            swept.get(row.id or 0),
        )
        for row in rows
    ]


def recorded(session: Session, runs: Iterable[Ends]) -> dict[int, Recorded]:
    """Run -> its scores and gates as they are now."""
    return remembered(session, runs, _read)


def _read(session: Session, run_ids: Sequence[int]) -> dict[int, Recorded]:
    scored = _first_and_newest(session, run_ids)
    gates = _latest_gates(session, run_ids)
    return {run_id: Recorded(tuple(scored[run_id]), gates[run_id]) for run_id in run_ids}


def _latest_gates(session: Session, run_ids: Sequence[int]) -> defaultdict[int, dict[str, Gate]]:
    row = GateDecisionRow
    newest = select(func.max(col(row.id))).where(col(row.run_id).in_(run_ids)).group_by(col(row.run_id), col(row.tutor))
    columns = select(row.run_id, row.tutor, row.gap, row.cognizant, row.domains)  # type: ignore[call-overload]
    found: defaultdict[int, dict[str, Gate]] = defaultdict(dict)
    for run_id, tutor, gap, cognizant, domains in session.exec(columns.where(col(row.id).in_(newest))).all():
        found[run_id][tutor] = Gate(gap, cognizant, bool(domains))
    return found


def _first_and_newest(session: Session, run_ids: Sequence[int]) -> defaultdict[int, list[Measured]]:
    row = EvaluationRow
    begun = col(row.round) == 0
    ends = select(func.min(col(row.id)), func.max(col(row.id))).where(col(row.run_id).in_(run_ids))
    ends = ends.group_by(col(row.run_id), col(row.student), col(row.domain), col(row.split), begun)
    wanted = {identity for pair in session.exec(ends).all() for identity in pair}
    columns: Any = (row.run_id, row.student, row.domain, row.split, row.round, row.majority_baseline)
    interval: Any = (row.score, row.low, row.high, row.questions, row.samples)
    found: defaultdict[int, list[Measured]] = defaultdict(list)
    rows = session.exec(select(*columns, *interval).where(col(row.id).in_(wanted)).order_by(col(row.id))).all()
    for run_id, student, domain, split, number, baseline, score, low, high, questions, samples in rows:
        measured = shapes.Interval(score=score, low=low, high=high, questions=questions, samples=samples)
        found[run_id].append(Measured(student, domain, split, number, baseline, measured))
    return found


def _waiting_for(row: RunRow, workers: Sequence[WorkerRow], used: Usage | None) -> str | None:
    """What a queued run lacks besides its turn."""
    if row.status == "queued" and row.started_at is None and used is not None and used.state == "over":
        return used.message
    if row.status != "queued" or any(fits(worker, row) for worker in workers):
        return None
    if not workers:
        return "No worker is connected."
    return f"No connected worker has {needs_of_run(row)}."


def _run(
    session: Session,
    row: RunRow,
    config: Mapping[str, Any],
    known: Recorded,
    position: int | None,
    waiting_for: str | None,
    sweep_id: int | None,
) -> shapes.Run:
    assert row.id is not None
    names = [student["name"] for student in config["students"]]
    students = []
    for student in config["students"]:
        gate = known.gates.get(student["name"])
        students.append(
            shapes.RunStudent(
                name=student["name"],
                model=student["model"],
                native_domain=student.get("native_domain"),
                scores=_scores([found for found in known.evaluations if found.student == student["name"]]),
                gap=gate.gap if gate else None,
                cognizant=gate.cognizant if gate else None,
                steps=row.steps_done.get(student["name"], 0),
            )
        )
    return shapes.Run(
        id=row.id,
        experiment_id=row.experiment_id,
        name=row.name,
        status=cast(RunStatus, row.status),
        owner=row.owner,
        tags=row.tags,
        archived=row.archived,
        queue_position=position,
        waiting_for=waiting_for,
        size_bytes=row.size_bytes,
        priority=row.priority,
        needs=shapes.NeedsShape(device=row.needs_device, memory_gib=row.needs_memory_gib, gpus=row.needs_gpus),
        copied_from=row.copied_from,
        retried_as=row.retried_as,
        sweep_id=sweep_id,
        algorithm=config["method"]["algorithm"],
        domains=[domain["name"] for domain in config["domains"]],
        progress=_progress(session, row, config),
        students=students,
        verdict=shapes.VerdictShape(**(row.verdict or {"mutual_improvement": None, "students": dict.fromkeys(names)})),
        error=error_of(row),
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def _scores(evaluations: Sequence[Measured]) -> shapes.Scores:
    """Sort one student's evaluations, given in order of arrival, into what a reader compares."""
    first_validation: dict[str, float] = {}
    last_validation: dict[str, float] = {}
    first_test: dict[str, float] = {}
    last_test: dict[str, float] = {}
    for found in evaluations:
        if found.split == "validation":
            first_validation.setdefault(found.domain, found.interval.score)
            last_validation[found.domain] = found.interval.score
        elif found.round == 0:
            first_test[found.domain] = found.interval.score
        else:
            last_test[found.domain] = found.interval.score
    return shapes.Scores(
        initial=first_test or first_validation,
        latest=last_test or last_validation or first_test,
        final=last_test or None,
        validation=shapes.ScorePair(initial=first_validation, latest=last_validation),
    )


def _progress(session: Session, row: RunRow, config: Mapping[str, Any]) -> shapes.Progress:
    schedule = config["schedule"]
    rounds = row.rounds or schedule["rounds"]
    steps = row.steps_total or rounds * schedule["steps_per_round"] * len(config["students"])
    done = sum(row.steps_done.values())
    return shapes.Progress(
        round=row.round,
        rounds=rounds,
        phase=row.phase,
        step=done,
        steps=steps,
        fraction=1.0 if row.status == "completed" else min(1.0, done / steps),
        eta_seconds=_eta(session, row, steps - done) if row.status == "running" else None,
    )


def _eta(session: Session, row: RunRow, left: int) -> float | None:
    """Seconds that `left` steps take at the pace of this attempt's last ones."""
    recent = session.exec(
        select(StepRow.at)
        .where(col(StepRow.run_id) == row.id, col(StepRow.attempt_id) == row.attempt_id)
        .order_by(col(StepRow.at).desc())
        .limit(PACE_STEPS)
    ).all()
    return left * (recent[0] - recent[-1]).total_seconds() / (len(recent) - 1) if len(recent) > 1 else None
