"""What a run found out and made, so that a disturbed one can be held against one that was left alone; and what it must not leave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Table
from sqlmodel import Session, SQLModel, col, select

from app import tables
from app.db import reading
from app.lifecycle.runs import LEGAL

RECORDS: Sequence[type[SQLModel]] = (
    tables.EventRow,
    tables.RoundRow,
    tables.PhaseRow,
    tables.StepRow,
    tables.MetricRow,
    tables.ExchangeRow,
    tables.FeedbackRow,
    tables.EvaluationRow,
    tables.GateDecisionRow,
    tables.BreakRescueRow,
)
ARRIVAL = {"id", "run_id", "at", "started_at", "finished_at", "attempt_id"}
"""When and in whose hands a fact arrived."""
OF_THE_MACHINE = ("/timing_s/", "/throughput/", "/memory/")
"""Metrics that measure the machine."""

Outcome = dict[str, list[str]]


def outcome(engine: Engine, run_id: int, folder: Path) -> Outcome:
    """Every fact of the run by its number, less what no two runs share, and the hash of every exported weight."""
    with reading(engine) as session:
        found = {model.__name__: _rows(session, model, run_id) for model in RECORDS}
    weights = sorted(folder.glob("exports/*/*.safetensors"))
    found["weights"] = [f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in weights]
    return found


def differences(found: Outcome, expected: Outcome) -> list[str]:
    """What is lost, doubled, or otherwise than it was, one line each; a few of every kind."""
    lines: list[str] = []
    for kind, rows in expected.items():
        mine = found.get(kind, [])
        if mine == rows:
            continue
        lost, added = [row for row in rows if row not in mine], [row for row in mine if row not in rows]
        doubled = sorted({row for row in mine if mine.count(row) > rows.count(row)} - set(added))
        lines += [
            f"{kind}, {what}: {row[:300]}" for what, some in (("lost", lost), ("new", added), ("doubled", doubled)) for row in some[:3]
        ]
        if not (lost or added or doubled):
            lines.append(f"{kind}: another order")
    return lines


def unnumbered(found: Outcome) -> Outcome:
    """Without the numbers of events, which come in another order where students train side by side."""
    return {kind: sorted(_without_number(row) for row in rows) if kind != "weights" else rows for kind, rows in found.items()}


def _without_number(row: str) -> str:
    return json.dumps({key: value for key, value in json.loads(row).items() if key != "seq"}, sort_keys=True)


def left_behind(engine: Engine, run_id: int, folder: Path) -> list[str]:
    """What is wrong with the books and the folder of a run that has completed."""
    faults = []
    with reading(engine) as session:
        run = session.get_one(tables.RunRow, run_id)
        history = session.exec(
            select(tables.TransitionRow).where(tables.TransitionRow.run_id == run_id).order_by(col(tables.TransitionRow.id))
        ).all()
        attempts = session.exec(
            select(tables.AttemptRow).where(tables.AttemptRow.run_id == run_id).order_by(col(tables.AttemptRow.id))
        ).all()
        events = session.exec(
            select(tables.EventRow)
            .where(tables.EventRow.run_id == run_id, col(tables.EventRow.seq).is_not(None))
            .order_by(col(tables.EventRow.id))
        ).all()
        saved = {row.path: row for row in session.exec(select(tables.CheckpointRow).where(tables.CheckpointRow.run_id == run_id)).all()}
    before = None
    for change in history:
        if change.from_status != before or change.to_status not in LEGAL[before]:  # type: ignore[index]
            faults.append(f"the history goes from {before} by {change.from_status} -> {change.to_status}")
        before = change.to_status
    if run.status != "completed" or before != "completed":
        faults.append(f"the run is {run.status}, its history ends with {before}")
    if run.attempt_id is not None or run.lease_until is not None:
        faults.append(f"attempt {run.attempt_id} holds the run still")
    faults += [f"attempt {attempt.id} has not ended" for attempt in attempts if attempt.ended_at is None]
    claims = [change for change in history if change.to_status == "starting"]
    if len(claims) != len(attempts):
        faults.append(f"{len(attempts)} attempts, but {len(claims)} claims")
    numbers = [event.seq for event in events if event.seq is not None]
    if len(set(numbers)) != len(numbers):
        faults.append("a number was given twice")
    if run.steps_done and set(run.steps_done.values()) != {run.rounds * run.steps_per_round}:
        faults.append(f"steps done: {run.steps_done}")
    manifests = sorted(path.relative_to(folder).as_posix() for path in folder.glob("checkpoints/checkpoint-*.json"))
    faults += [f"{path} is on the disk, but not in the books" for path in manifests if path not in saved]
    faults += [f"{path.name} was left" for path in (*folder.rglob("*.partial"), *folder.rglob("*.part"), *folder.glob("report-*"))]
    return faults


def _rows(session: Session, model: type[SQLModel], run_id: int) -> list[str]:
    """The run's rows as text, in the order of their numbers."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    query = select(*(column for column in table.columns if column.name not in ARRIVAL)).where(table.columns["run_id"] == run_id)
    rows = [dict(row._mapping) for row in session.execute(query).all()]
    kept = sorted((row for row in rows if _is_fact(model, row)), key=lambda row: (row["seq"], row.get("name", "")))
    return [json.dumps(row, sort_keys=True, default=str) for row in kept]


def _is_fact(model: type[SQLModel], row: dict[str, Any]) -> bool:
    """Not a status, not a checkpoint (a stop makes one more), not a measure of the machine."""
    if model is tables.EventRow:
        return row["seq"] is not None and row["kind"] != "checkpoint_saved"
    return not (model is tables.MetricRow and any(part in f"/{row['name']}" for part in OF_THE_MACHINE))
