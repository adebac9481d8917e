"""What the storage page and a run's files show."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, select

from app import shapes
from app.artefacts.store import Store, StoreError
from app.errors import Conflict
from app.lifecycle.runs import HELD
from app.records import artefact_queries, queries
from app.tables import CheckpointRow

NEWEST = 20
"""Checkpoints that a run's page lists."""
CHECKPOINT_STATES = {
    "saving": ("Saving", "", "On its worker's disk; not in the store yet."),
    "whole": ("Whole", "right", "In the store: the run can go on from it, on any machine."),
    "damaged": ("Damaged", "wrong", "It was found damaged and passed over for the one before."),
}


@dataclass(frozen=True, slots=True)
class StoragePage:
    """What everything takes, and the runs that take most. `notice`: what a refused request has to say."""

    storage: shapes.Storage
    deletable: frozenset[int]
    notice: str = ""

    @property
    def fraction(self) -> float | None:
        """Of the budget, at most 1; None without one."""
        budget = self.storage.budget_bytes
        return min(1.0, self.storage.used_bytes / budget) if budget else None


@dataclass(frozen=True, slots=True)
class CheckpointLine:
    """A checkpoint that is kept or was found damaged."""

    checkpoint: shapes.CheckpointShape
    word: str
    tone: str
    meaning: str


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run keeps. `away`: the store does not answer, and so exports are not known."""

    run_id: int
    size_bytes: int
    exports: tuple[shapes.ExportShape, ...]
    checkpoints: tuple[CheckpointLine, ...]
    away: str
    can_delete: bool


def storage_page(session: Session, *, refused: Conflict | None = None) -> StoragePage:
    """The storage page, and its live part."""
    storage = artefact_queries.storage(session)
    deletable = frozenset(run.id for run in storage.runs if run.status not in HELD)
    return StoragePage(storage, deletable, str(refused) if refused else "")


def run_files(session: Session, store: Store, run_id: int) -> RunFiles:
    """Files of a run.

    Raises:
        NotFound
    """
    row = queries.run_row(session, run_id)
    of_run = (col(CheckpointRow.run_id) == run_id, col(CheckpointRow.state).in_(CHECKPOINT_STATES))
    found = session.exec(select(CheckpointRow).where(*of_run).order_by(col(CheckpointRow.seq).desc()).limit(NEWEST)).all()
    lines = tuple(CheckpointLine(shapes.CheckpointShape.model_validate(each), *CHECKPOINT_STATES[each.state]) for each in found)
    away, exports = "", list[shapes.ExportShape]()
    try:
        exports = artefact_queries.exports(store, row.folder)
    except StoreError as error:
        away = error.message
    return RunFiles(run_id, row.size_bytes, tuple(exports), lines, away, row.status not in HELD)
