"""Removes runs for good: first out of everyone's sight, then their rows in small batches, then their artefacts.

What is to be removed stands in the table `deletions` from the first step to the last, and each step can be done again, so
that a crash in between leaves nothing behind. The entry stays for a month, for workers that were away: they find there
which working copies to clear.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, Table, delete, insert, tuple_, update
from sqlmodel import Session, col, select

from app.artefacts.store import Store
from app.db import now, reading, writing
from app.errors import Conflict, NotFound
from app.lifecycle import runs
from app.records.exchange_search import search_of
from app.tables import DeletionRow, EventRow, RunRow, StudentRow, metadata

logger = logging.getLogger(__name__)

BATCH = 2000
"""Rows that one transaction removes: others write in between."""
SETTLE = timedelta(minutes=2)
"""A worker that was only slow may write for as long as this; then the artefacts are removed once more."""
REMEMBER = timedelta(days=30)
"""How long a removed run's name is kept for workers' working copies."""


def request_deletion(session: Session, run_id: int, *, actor: str) -> None:
    """Take a run out of sight and put it on the list of those to be removed. A waiting one leaves the queue.

    Raises:
        NotFound
        Conflict: a worker holds it.
    """
    run = session.exec(
        select(RunRow).where(col(RunRow.id) == run_id, col(RunRow.deleted_at).is_(None)).with_for_update(key_share=True)
    ).first()
    if run is None:
        raise NotFound("run", run_id)
    if run.status in runs.HELD:
        raise Conflict(run_id, run.status, "deleted", "Stop it first.")
    if run.status == "queued":
        runs.request_stop(session, run_id, actor=actor)
    moment = now()
    session.exec(update(RunRow).where(col(RunRow.id) == run_id).values(deleted_at=moment))
    session.add(DeletionRow(run_id=run_id, folder=run.folder, actor=actor, requested_at=moment))
    session.exec(insert(EventRow).values(run_id=run_id, seq=None, kind="run_deleted", data={}, at=moment))


def sweep_deletions(engine: Engine, store: Store) -> None:
    """Go on with every removal that is not finished.

    Raises:
        StoreError: the artefacts are still there; the next sweep tries again.
    """
    moment = now()
    with reading(engine) as session:
        pending = session.exec(select(DeletionRow).where(col(DeletionRow.finished_at).is_(None)).order_by(col(DeletionRow.run_id))).all()
    for entry in pending:
        if entry.rows_gone_at is None:
            remove_rows(engine, entry.run_id)
            logger.info("run %s was deleted by %s", entry.run_id, entry.actor)
            store.remove_tree(entry.folder)
        elif moment - entry.requested_at > SETTLE:
            store.remove_tree(entry.folder)
            with writing(engine) as session:
                session.exec(update(DeletionRow).where(col(DeletionRow.run_id) == entry.run_id).values(finished_at=moment))
    with writing(engine) as session:
        session.exec(delete(DeletionRow).where(col(DeletionRow.finished_at) < moment - REMEMBER))


def remove_rows(engine: Engine, run_id: int) -> None:
    """Delete every row of a run, in all tables, `BATCH` at a time; what only refers to it refers to nothing afterwards."""
    search_of(engine).forget(run_id)
    with writing(engine) as session:
        session.exec(update(RunRow).where(col(RunRow.copied_from) == run_id).values(copied_from=None))
        session.exec(update(RunRow).where(col(RunRow.retried_as) == run_id).values(retried_as=None))
    for table in reversed(metadata.sorted_tables):
        for column in table.columns:
            if any(key.target_fullname == "runs.id" for key in column.foreign_keys):
                if column.nullable and table.name != StudentRow.__tablename__:  # a student's weights go with the run that made it
                    with writing(engine) as session:
                        session.execute(update(table).where(column == run_id).values({column.name: None}))
                else:
                    _remove_in_batches(engine, table, column == run_id)
    with writing(engine) as session:
        session.exec(delete(RunRow).where(col(RunRow.id) == run_id))
        session.exec(update(DeletionRow).where(col(DeletionRow.run_id) == run_id).values(rows_gone_at=now()))


def _remove_in_batches(engine: Engine, table: Table, condition: Any) -> None:
    key = list(table.primary_key.columns)
    some = select(*key).where(condition).limit(BATCH)
    removal = delete(table).where((tuple_(*key) if len(key) > 1 else key[0]).in_(some))
    while True:
        with writing(engine) as session:
            if session.execute(removal).rowcount < BATCH:  # type: ignore[attr-defined]
                return
