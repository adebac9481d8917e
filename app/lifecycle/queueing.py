"""The queue: who is next, which run fits which worker, and how a run is moved.

The order is stored, not worked out: highest `priority` first, then the lowest `turn`, then the oldest.
A run is given its turn when it starts to wait, by start-time fair queueing (Goyal, Vin & Cheng, 1996):
an owner's runs follow each other a turn apart, and nobody's first run has to let more than one run of
each other owner go before it. So an owner who queues fifty runs does not shut out one who queues two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from app.errors import Conflict, Fault, Invalid, NotFound
from app.tables import JobRow, RunRow, WorkerRow
from opcod.config import ExperimentConfig

CPU = "cpu"
GPU = "gpu"
_PLACE = re.compile(r"(-?[0-9]{1,9})_(-?[0-9]{1,18}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})?)_([0-9]{1,9})")
ORDER = (col(RunRow.priority).desc(), col(RunRow.turn), col(RunRow.id))


@dataclass(frozen=True, slots=True)
class Offer:
    """What a worker serves."""

    labels: tuple[str, ...] = (CPU,)
    memory_gib: float | None = None
    """Of its GPU; of several, the least."""
    device_key: str | None = None
    """Names its GPUs, with commas between them: no two attempts hold one at once. None for a CPU, which is shared."""
    gpus: int = 0


PLAIN_CPU = Offer()


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run waits for."""

    device: str | None = None
    memory_gib: float | None = None
    gpus: int | None = None
    """None: one will do, if it needs any."""

    def __str__(self) -> str:
        if self.gpus is not None:
            return f"{self.gpus} GPUs{f' with {self.memory_gib:g} GiB each' if self.memory_gib is not None else ''}"
        if self.memory_gib is not None:
            return f"a GPU with {self.memory_gib:g} GiB"
        return {GPU: "a GPU", CPU: "a CPU worker"}.get(self.device or "", "any worker")


def needs_of(config: Mapping[str, Any]) -> Needs:
    """What an experiment's configuration asks for. `auto` takes whatever the worker has, but several GPUs where it asks for them."""
    compute = ExperimentConfig.model_validate(config).compute
    memory, several = compute.gpu_memory_gib, compute.gpus > 1
    if memory is not None or compute.device.startswith("cuda") or (several and compute.device != "cpu"):
        return Needs(GPU, memory, compute.gpus if several else None)
    return Needs(CPU if compute.device == "cpu" else None)


def needs_of_run(run: RunRow) -> Needs:
    """What a stored run waits for."""
    return Needs(run.needs_device, run.needs_memory_gib, run.needs_gpus)


def fits(worker: WorkerRow, run: RunRow) -> bool:
    """Whether `worker` could take `run`."""
    if run.needs_device is not None and run.needs_device not in worker.labels:
        return False
    if run.needs_gpus is not None and worker.gpus < run.needs_gpus:
        return False
    return run.needs_memory_gib is None or (worker.memory_gib or 0.0) >= run.needs_memory_gib


def takeable(offer: Offer, table: type[RunRow | JobRow] = RunRow) -> Sequence[ColumnElement[bool]]:
    """`fits` as conditions on runs or jobs, for a worker with `offer`. A job works on one GPU at the most."""
    device, memory = col(table.needs_device), col(table.needs_memory_gib)
    found = [or_(device.is_(None), device.in_(offer.labels)), or_(memory.is_(None), memory <= (offer.memory_gib or 0.0))]
    if issubclass(table, RunRow):
        found.append(or_(col(table.needs_gpus).is_(None), col(table.needs_gpus) <= offer.gpus))
    return found


def waiting() -> SelectOfScalar[RunRow]:
    """The queue in order."""
    return select(RunRow).where(col(RunRow.status) == "queued").order_by(*ORDER)


def place_of(run: RunRow) -> str:
    """Where a run stands in the queue's order, as a cursor: it holds although runs before it come and go."""
    return f"{run.priority}_{run.turn!r}_{run.id}"


def behind(place: str) -> ColumnElement[bool]:
    """Runs that stand behind a place.

    Raises:
        Invalid: it is no place of ours.
    """
    found = _PLACE.fullmatch(place)
    if found is None:
        raise Invalid([Fault("cursor", f"{place[:40]!r} is no cursor of the queue.", "Give back the `next_cursor` of the page before.")])
    priority, turn, run_id = int(found[1]), float(found[2]), int(found[3])
    same = col(RunRow.priority) == priority
    later = or_(col(RunRow.turn) > turn, and_(col(RunRow.turn) == turn, col(RunRow.id) > run_id))
    return or_(col(RunRow.priority) < priority, and_(same, later))


def next_turn(session: Session, owner: str, held: Sequence[str]) -> float:
    """The turn of a run that `owner` queues now; `held` are the states in which a worker has a run."""
    served = session.exec(select(func.max(RunRow.turn)).where(col(RunRow.status).in_(held))).one()
    if served is None:
        served = session.exec(select(func.min(RunRow.turn)).where(col(RunRow.status) == "queued")).one()
    if served is None:
        served = session.exec(select(func.max(RunRow.turn))).one() or 0.0
    last = session.exec(select(func.max(RunRow.turn)).where(col(RunRow.owner) == owner, col(RunRow.status).in_(("queued", *held)))).one()
    return served if last is None else max(served, last + 1.0)


def move(session: Session, run_id: int, position: int) -> None:
    """Put a waiting run at `position` (1 is next; beyond the end means last).

    Its priority changes no further than the place demands.

    Raises:
        NotFound
        Conflict: it does not wait.
    """
    queue = list(session.exec(waiting().with_for_update()).all())
    run = next((row for row in queue if row.id == run_id), None)
    if run is None:
        found = session.get(RunRow, run_id)
        if found is None or found.deleted_at is not None:
            raise NotFound("run", run_id)
        raise Conflict(run_id, found.status, "moved in the queue")
    queue.remove(run)
    place = min(max(position, 1), len(queue) + 1) - 1
    before = queue[place - 1].priority if place > 0 else None
    after = queue[place].priority if place < len(queue) else None
    if before is not None:
        run.priority = min(run.priority, before)
    if after is not None:
        run.priority = max(run.priority, after)
    queue.insert(place, run)
    peers = [row for row in queue if row.priority == run.priority]
    first = min(row.turn for row in peers)
    for offset, row in enumerate(peers):
        row.turn = first + offset
    session.flush()
