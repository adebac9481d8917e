"""Sweeps: one question asked of many experiments at once, each a run in the queue, read together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import Engine, func
from sqlmodel import Session, col, select

from app import idempotency, shapes
from app.db import reading, writing
from app.errors import Conflict, NotFound
from app.experiments import experiments
from app.experiments.sweep_points import Point, SweepPlan, axes
from app.idempotency import Asked
from app.lifecycle import launching, runs
from app.lifecycle.statuses import RunStatus
from app.records.exports import csv_lines
from app.records.run_summaries import summarise
from app.tables import RunRow, SweepPointRow, SweepRow

WAITING: tuple[RunStatus, ...] = ("queued", "paused")
ACTIVE: tuple[RunStatus, ...] = ("starting", "running", "pausing", "stopping")


def start(engine: Engine, broker_url: str, plan: SweepPlan, found: Sequence[Point], *, owner: str, asked: Asked) -> tuple[int, bool]:
    """Store a checked sweep and queue all of its runs in one transaction; its id and whether it is new."""

    def make() -> int:
        sweep = SweepRow(name=plan.name, owner=owner, preset=plan.preset, ablation=plan.ablation, axes=axes(found))
        session.add(sweep)
        session.flush()
        assert sweep.id is not None
        for place, point in enumerate(found):
            experiment_id = experiments.create(session, point.config, preset=plan.preset)
            run = runs.create_run(session, experiment_id, actor=owner, cause=f"point {place + 1} of sweep {sweep.id}")
            session.add(
                SweepPointRow(sweep_id=sweep.id, place=place, values=dict(point.values), experiment_id=experiment_id, run_id=run.id)
            )
            session.flush()
        return sweep.id

    with writing(engine) as session:
        sweep_id, new = idempotency.once(session, asked, make)
    if new:
        with reading(engine) as session:
            launching.announce(engine, broker_url, *_run_ids(session, sweep_id))
    return sweep_id, new


def stop(engine: Engine, broker_url: str, sweep_id: int, *, actor: str) -> None:
    """Stop every run of the sweep that has not ended: at once where it waits, at its next step where it trains.

    Raises:
        NotFound
    """
    with reading(engine) as session:
        owner(session, sweep_id)
        run_ids = _run_ids(session, sweep_id)
    for run_id in reversed(run_ids):  # the last in the queue first: none starts meanwhile for nothing
        with suppress(Conflict, NotFound):  # it has ended, or is stopping already, or was deleted
            launching.stop(engine, broker_url, run_id, actor=actor)


def owner(session: Session, sweep_id: int) -> str:
    """Who launched it.

    Raises:
        NotFound
    """
    return _get(session, sweep_id).owner


def read(session: Session, sweep_id: int) -> shapes.SweepDetail:
    """A sweep with its points and their runs.

    Raises:
        NotFound
    """
    sweep = _get(session, sweep_id)
    rows = session.exec(select(SweepPointRow).where(col(SweepPointRow.sweep_id) == sweep_id).order_by(col(SweepPointRow.place))).all()
    stored = session.exec(select(RunRow).where(col(RunRow.id).in_([row.run_id for row in rows if row.run_id is not None]))).all()
    found = {run.id: run for run in summarise(session, stored)}
    points = [
        shapes.SweepPoint(place=row.place, values=row.values, experiment_id=row.experiment_id, run=found.get(row.run_id or 0))
        for row in rows
    ]
    return shapes.SweepDetail(**_brief(sweep, _progress(session, [sweep_id])[sweep_id]).model_dump(), points=points)


def listing(session: Session, *, before: int | None = None, limit: int = 50) -> shapes.Listing[shapes.Sweep]:
    """Sweeps, newest first."""
    rows = select(SweepRow).order_by(col(SweepRow.id).desc())
    if before is not None:
        rows = rows.where(col(SweepRow.id) < before)
    found = session.exec(rows.limit(limit + 1)).all()
    progress = _progress(session, [row.id or 0 for row in found])
    items = [_brief(row, progress[row.id or 0]) for row in found[:limit]]
    return shapes.Listing(items=items, next_cursor=str(items[-1].id) if len(found) > limit else None)


def csv(sweep: shapes.SweepDetail) -> bytes:
    """A line for each point, student and domain: the varied values, the scores and the verdict."""
    head = ["point", *sweep.axes, "run_id", "status", "student", "domain", "initial", "latest", "final", "mutual_improvement"]
    rows: list[list[object]] = [list(head)]
    for point in sweep.points:
        run = point.run
        if run is None:
            continue
        values = [
            str(point.values[axis]) if isinstance(point.values.get(axis), dict | list) else point.values.get(axis) for axis in sweep.axes
        ]
        for student in run.students:
            for domain in run.domains:
                scores = student.scores
                final = scores.final or {}
                cells = [student.name, domain, scores.initial.get(domain), scores.latest.get(domain), final.get(domain)]
                rows.append([point.place + 1, *values, run.id, run.status, *cells, run.verdict.mutual_improvement])
    return csv_lines(rows)


def _get(session: Session, sweep_id: int) -> SweepRow:
    sweep = session.get(SweepRow, sweep_id)
    if sweep is None:
        raise NotFound("sweep", sweep_id)
    return sweep


def _run_ids(session: Session, sweep_id: int) -> list[int]:
    rows = select(col(SweepPointRow.run_id)).where(col(SweepPointRow.sweep_id) == sweep_id).order_by(col(SweepPointRow.place))
    return [run_id for run_id in session.exec(rows).all() if run_id is not None]


def _progress(session: Session, sweep_ids: Sequence[int]) -> dict[int, shapes.SweepProgress]:
    """How far each sweep is, in two queries for all of them."""
    sizes = dict(
        session.exec(
            select(col(SweepPointRow.sweep_id), func.count())
            .where(col(SweepPointRow.sweep_id).in_(sweep_ids))
            .group_by(col(SweepPointRow.sweep_id))
        ).all()
    )
    counted: dict[int, dict[str, int]] = {sweep_id: {} for sweep_id in sweep_ids}
    by_status = (
        select(col(SweepPointRow.sweep_id), col(RunRow.status), func.count())
        .join(RunRow, col(RunRow.id) == col(SweepPointRow.run_id))
        .where(col(SweepPointRow.sweep_id).in_(sweep_ids))
        .group_by(col(SweepPointRow.sweep_id), col(RunRow.status))
    )
    for sweep_id, status, count in session.exec(by_status).all():
        counted[sweep_id][status] = count
    return {sweep_id: _sum(sizes.get(sweep_id, 0), counts) for sweep_id, counts in counted.items()}


def _sum(size: int, counts: dict[str, int]) -> shapes.SweepProgress:
    ended = {status: counts.get(status, 0) for status in ("completed", "failed", "stopped")}
    waiting = sum(counts.get(status, 0) for status in WAITING)
    active = sum(counts.get(status, 0) for status in ACTIVE)
    return shapes.SweepProgress(
        points=size, waiting=waiting, active=active, **ended, deleted=size - sum(counts.values()), over=not (waiting or active)
    )


def _brief(row: SweepRow, progress: shapes.SweepProgress) -> shapes.Sweep:
    assert row.id is not None
    return shapes.Sweep(
        id=row.id,
        name=row.name,
        owner=row.owner,
        preset=row.preset,
        ablation=row.ablation,
        axes=row.axes,
        created_at=row.created_at,
        progress=progress,
    )
