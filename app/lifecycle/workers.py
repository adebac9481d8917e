"""Who works: each worker process says so every few seconds."""

from __future__ import annotations

from datetime import timedelta

from sqlmodel import Session, col, select

from app.db import now
from app.lifecycle.queueing import PLAIN_CPU, Offer
from app.tables import WorkerRow

SILENT_AFTER = timedelta(seconds=30)
"""A worker that has said nothing for so long counts as gone."""


def heartbeat(
    session: Session, name: str, *, host: str, pid: int, device: str, offer: Offer = PLAIN_CPU, run_id: int | None = None
) -> None:
    """Note that worker `name` is alive, and on which run it works."""
    moment = now()
    worker = session.get(WorkerRow, name)
    if worker is None:
        worker = WorkerRow(name=name, host=host, pid=pid, device=device, started_at=moment, seen_at=moment)
        session.add(worker)
    elif worker.pid != pid:
        worker.started_at = moment
    worker.host, worker.pid, worker.device, worker.run_id, worker.seen_at = host, pid, device, run_id, moment
    worker.labels, worker.memory_gib, worker.gpus = list(offer.labels), offer.memory_gib, offer.gpus


def farewell(session: Session, name: str) -> None:
    """Forget a worker that ends in order."""
    worker = session.get(WorkerRow, name)
    if worker is not None:
        session.delete(worker)


def alive(session: Session) -> list[WorkerRow]:
    """Workers heard of lately, by name. One last heard of in the future has died since its clock was set right, or speaks again soon."""
    moment = now()
    lately = col(WorkerRow.seen_at).between(moment - SILENT_AFTER, moment + SILENT_AFTER)
    return list(session.exec(select(WorkerRow).where(lately).order_by(col(WorkerRow.name))).all())
