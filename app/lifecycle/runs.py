"""All changes of a run's status, and nothing else changes one.

Each is a compare-and-swap (``UPDATE ... WHERE status IN (...)``) with a row of history and an entry in
the live stream, in the caller's transaction. Use it so::

    with writing(engine) as session:
        claim = runs.claim(session, worker="host:123", device="cuda:0", lease_seconds=30)
    # committed: only now ring bells

A worker's hold is an *attempt*. Its id is the fencing token: every write of an attempt checks, under
the run's row lock, that it is still the run's current one, and raises `LeaseLost` otherwise, so that
a worker that was only slow can harm nothing. Leases are read against `app.db.now`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any, Literal, cast

from sqlalchemy import insert, update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from app.artefacts.usage import usage
from app.db import end_hung, now
from app.errors import LONGEST_MESSAGE, Conflict, LeaseLost, NotFound
from app.lifecycle import queueing
from app.lifecycle.queueing import PLAIN_CPU, Offer, takeable
from app.lifecycle.statuses import RunStatus
from app.secrets.redaction import redact
from app.tables import AttemptRow, EventRow, ExperimentRow, RunRow, TransitionRow
from app.telemetry import tracing
from app.webhooks import outbox
from opcod.plain_text import bounded

Ending = Literal["completed", "halted", "failed"]
"""How an attempt ends its run. `halted`: at a checkpoint, as its owner wished; the run is then stopped or paused."""

HELD: tuple[RunStatus, ...] = ("starting", "running", "pausing", "stopping")
"""A worker holds the run."""
ENDED: tuple[RunStatus, ...] = ("stopped", "failed", "completed")
RESUMABLE: tuple[RunStatus, ...] = ("paused", *ENDED)

LEGAL: Mapping[RunStatus | None, tuple[RunStatus, ...]] = {
    None: ("queued",),
    "queued": ("starting", "paused", "stopped"),
    "starting": ("running", "pausing", "stopping", "queued", "failed", "completed"),
    "running": ("pausing", "stopping", "queued", "failed", "completed"),
    "pausing": ("paused", "stopping", "failed", "completed"),
    "paused": ("queued", "stopped"),
    "stopping": ("stopped", "failed", "completed"),
    "stopped": ("queued",),
    "failed": ("queued",),
    "completed": ("queued",),
}
"""From -> to. Every history is a path in this graph."""
HALTS: Mapping[RunStatus, RunStatus] = {"pausing": "paused", "stopping": "stopped"}
"""A wish -> where it leads once the worker has let go."""

FRUITLESS_ATTEMPTS = 3
"""So many attempts in a row that were killed, or whose worker vanished, before anything new was done end the run."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on a run."""

    run_id: int
    token: int
    """The attempt's id: the fencing token of everything that it writes."""
    folder: str
    """Relative; `Settings.run_folder(claim.folder)` is the place on this machine."""
    config: dict[str, Any]
    """Plain data for `opcod.config.parse_config`."""
    lease_seconds: float
    queued_at: datetime | None = None
    traceparent: str | None = None
    """The trace that the run belongs to, where there is one."""


@dataclass(frozen=True, slots=True)
class RunControl:
    """What a heartbeat learns."""

    stop: bool
    """The user asked the run to stop or to pause: checkpoint and end."""
    ours: bool
    """False: the lease is lost; end at once and write nothing more."""


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run failed, in words for its owner."""

    kind: str
    message: str
    advice: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", bounded(redact(self.message), LONGEST_MESSAGE))  # the run's log has all of it
        object.__setattr__(self, "advice", bounded(redact(self.advice), LONGEST_MESSAGE))


def create_run(
    session: Session,
    experiment_id: int,
    *,
    actor: str = "user",
    name: str | None = None,
    tags: Sequence[str] = (),
    copied_from: int | None = None,
    cause: str = "created",
) -> RunRow:
    """A new run, owned by `actor`, at its place in the queue.

    Raises:
        NotFound: there is no such experiment.
    """
    experiment = session.get(ExperimentRow, experiment_id)
    if experiment is None:
        raise NotFound("experiment", experiment_id)
    moment = now()
    needs = queueing.needs_of(experiment.config)
    run = RunRow(
        experiment_id=experiment_id,
        name=name or experiment.name,
        owner=actor,
        tags=list(tags),
        copied_from=copied_from,
        folder=token_hex(4),
        status="queued",
        created_at=moment,
        queued_at=moment,
        turn=queueing.next_turn(session, actor, HELD),
        needs_device=needs.device,
        needs_memory_gib=needs.memory_gib,
        needs_gpus=needs.gpus,
    )
    session.add(run)
    session.flush()
    assert run.id is not None
    run.folder = f"{run.id:06d}-{run.folder}"  # a home whose database was lost never mixes an old run's files with a new one's
    session.flush()
    _record(session, run.id, None, "queued", cause, actor, moment)
    return run


def claim(
    session: Session, *, worker: str, device: str, lease_seconds: float, offer: Offer = PLAIN_CPU, run_id: int | None = None
) -> Claim | None:
    """Take `run_id`, or the first run in the queue that `offer` fits, if it is queued; None where there is nothing to take.

    Two workers that ask together get different runs, or one of them gets None. A GPU that another
    attempt holds takes nothing.
    """
    if offer.device_key is not None and _device_held(session, offer.device_key):
        return None
    queue = _takeable(session, offer)
    if run_id is not None:
        queue = queue.where(col(RunRow.id) == run_id)
    found = session.exec(queue.with_for_update(skip_locked=True)).first()
    if found is None:
        return None
    moment = now()
    lease = moment + timedelta(seconds=lease_seconds)
    if _swap(session, found, ("queued",), "starting", f"claimed by {worker}", worker, moment, lease_until=lease) is None:
        return None
    attempt = AttemptRow(run_id=found, worker=worker, device=device, device_key=offer.device_key, started_at=moment, renewed_at=moment)
    session.add(attempt)
    session.flush()
    run = _get(session, found)
    run.attempt_id = attempt.id
    run.started_at = run.started_at or moment
    session.flush()
    experiment = session.get(ExperimentRow, run.experiment_id)
    assert attempt.id is not None
    assert experiment is not None
    traces = select(TransitionRow.traceparent).where(col(TransitionRow.run_id) == found, col(TransitionRow.traceparent).is_not(None))
    traceparent = session.exec(traces.order_by(col(TransitionRow.id).desc()).limit(1)).first()
    return Claim(found, attempt.id, run.folder, experiment.config, lease_seconds, run.queued_at, traceparent)


def renew(session: Session, claim: Claim) -> RunControl:
    """The heartbeat: prolong the lease and learn what the user wants."""
    moment = now()
    renewed = session.exec(
        update(RunRow)
        .where(col(RunRow.id) == claim.run_id, col(RunRow.attempt_id) == claim.token)
        .values(lease_until=moment + timedelta(seconds=claim.lease_seconds))
        .returning(col(RunRow.status))
    ).first()
    if renewed is None:
        return RunControl(stop=True, ours=False)
    session.exec(update(AttemptRow).where(col(AttemptRow.id) == claim.token).values(renewed_at=moment))
    return RunControl(stop=renewed[0] in HALTS, ours=True)


def mark_running(session: Session, claim: Claim) -> None:
    """The training process is up. A run that was asked to stop or pause meanwhile stays `stopping` or `pausing`.

    Raises:
        LeaseLost
    """
    hold(session, claim.run_id, claim.token)
    _swap(session, claim.run_id, ("starting",), "running", "training began", _worker(session, claim.token), now())


def finish(session: Session, claim: Claim, ending: Ending, *, error: RunError | None = None, cause: str = "") -> None:
    """The attempt ended, and the run with it. `error` belongs to `failed`.

    A run whose owner wished nothing is not halted: it is given back (`release`).

    Raises:
        LeaseLost
    """
    run = hold(session, claim.run_id, claim.token)
    moment = now()
    worker = _worker(session, claim.token)
    if ending == "halted":
        _let_go(session, run, HALTS.get(cast(RunStatus, run.status), "released"), moment)
        _requeue(session, run, cause or "reached a checkpoint", worker, moment)
        return
    run.ended_at = moment
    if error is not None:
        run.error_kind, run.error_message, run.error_advice = error.kind, error.message, error.advice
    _let_go(session, run, ending, moment)
    text = cause or {"completed": "finished", "failed": error.message if error else "failed"}[ending]
    _swap(session, claim.run_id, HELD, ending, text, worker, moment)


def release(session: Session, claim: Claim, *, cause: str = "worker shut down") -> RunStatus:
    """Give the run back unfinished: queued again, or stopped or paused where the user had asked for that. Returns the status.

    Raises:
        LeaseLost
    """
    run = hold(session, claim.run_id, claim.token)
    moment = now()
    _let_go(session, run, "released", moment)
    return _requeue(session, run, cause, _worker(session, claim.token), moment)


def give_back_killed(session: Session, claim: Claim, error: RunError) -> RunStatus:
    """The training process was killed from outside: queued again, but failed with `error` where that happens without end.

    Raises:
        LeaseLost
    """
    run = hold(session, claim.run_id, claim.token)
    return _requeue_or_fail(session, run, "killed", "training process was killed", error, _worker(session, claim.token), now())


def request_stop(session: Session, run_id: int, *, actor: str = "user") -> RunStatus:
    """Stop a waiting or paused run at once, ask a held one to stop at its next step. Returns the new status.

    Raises:
        NotFound
        Conflict: the run has ended, or is stopping already.
    """
    ways: Mapping[RunStatus, RunStatus] = {
        "queued": "stopped",
        "paused": "stopped",
        "starting": "stopping",
        "running": "stopping",
        "pausing": "stopping",
    }
    return _request(session, run_id, "stop requested", actor, ways, "stopped")


def request_pause(session: Session, run_id: int, *, actor: str = "user") -> RunStatus:
    """Pause a waiting run at once, ask a held one to pause at its next step. Returns the new status.

    Raises:
        NotFound
        Conflict: the run has ended, or is pausing, paused or stopping already.
    """
    return _request(session, run_id, "pause requested", actor, {"queued": "paused", "starting": "pausing", "running": "pausing"}, "paused")


def request_resume(session: Session, run_id: int, *, actor: str = "user", cause: str = "resume requested") -> RunStatus:
    """Queue a paused or ended run again; it goes on from its last checkpoint.

    One that had completed makes its ending again: the same verdict, and its exports.

    Raises:
        NotFound
        Conflict: it waits or is held by a worker.
    """
    return _request(session, run_id, cause, actor, dict.fromkeys(RESUMABLE, "queued"), "resumed")


def change(
    session: Session,
    run_id: int,
    *,
    name: str | None = None,
    tags: Sequence[str] | None = None,
    archived: bool | None = None,
    priority: int | None = None,
) -> None:
    """Set what a run is called, how it is filed and how urgent it is; None leaves as it is.

    Raises:
        NotFound
    """
    _lock(session, run_id)
    run = _get(session, run_id)
    run.name = run.name if name is None else name
    run.tags = run.tags if tags is None else list(dict.fromkeys(tags))
    run.archived = run.archived if archived is None else archived
    run.priority = run.priority if priority is None else priority
    session.flush()
    _announce(session, run_id, "run_changed", {}, now())


def retry_afresh(session: Session, run_id: int, *, actor: str = "user") -> RunRow:
    """A new run of an ended run's experiment, from the start; the old one stays as it is.

    Raises:
        NotFound
        Conflict: the run has not ended, or is being retried already by a run that has not.
    """
    status = _lock(session, run_id)
    before = _get(session, run_id)
    if status not in ENDED:
        raise Conflict(run_id, status, "retried")
    if before.retried_as is not None:
        again = session.get(RunRow, before.retried_as)
        if again is not None and again.status not in ENDED:
            raise Conflict(run_id, status, "retried", f"It is being retried as run {again.id}, which is {again.status}.")
    run = create_run(
        session,
        before.experiment_id,
        actor=actor,
        name=before.name,
        tags=before.tags,
        copied_from=run_id,
        cause=f"retry of run {run_id}",
    )
    before.retried_as = run.id
    session.flush()
    return run


def reap(session: Session, moment: datetime | None = None) -> list[int]:
    """Queue the runs again whose lease has lapsed; returns the ids of those that now wait.

    A run that was stopping or pausing becomes stopped or paused. One whose workers vanished `FRUITLESS_ATTEMPTS` times in a
    row without anything new done fails, with advice, instead of being tried for ever.
    """
    moment = moment or now()
    end_hung(session)
    _shorten_leases_from_the_future(session, moment)
    lapsed = session.exec(
        select(RunRow).where(col(RunRow.status).in_(HELD), col(RunRow.lease_until) < moment).with_for_update(skip_locked=True)
    ).all()
    error = RunError(
        "worker_lost",
        f"The worker vanished {FRUITLESS_ATTEMPTS} times before it got any further.",
        "Memory that ran out is the usual cause: see the log's end, lower compute.micro_batch_tokens, then resume.",
    )
    ended = [(run.id, _requeue_or_fail(session, run, "lapsed", "lease lapsed", error, "reaper", moment)) for run in lapsed]
    return [run_id for run_id, status in ended if run_id is not None and status == "queued"]


def next_for(session: Session, offer: Offer) -> int | None:
    """The run that a worker with `offer` would take now."""
    return session.exec(_takeable(session, offer)).first()


def queued(session: Session) -> list[RunRow]:
    """The queue in order; a run's position is its index + 1."""
    return list(session.exec(queueing.waiting()).all())


def unannounced(session: Session, told_before: datetime) -> list[int]:
    """Queued runs of which workers were never told, or last told before `told_before`."""
    forgotten = (col(RunRow.rung_at).is_(None)) | (col(RunRow.rung_at) < told_before)
    waiting = select(col(RunRow.id)).where(col(RunRow.status) == "queued", forgotten).order_by(*queueing.ORDER)
    return [run_id for run_id in session.exec(waiting).all() if run_id is not None]


def mark_announced(session: Session, run_id: int) -> None:
    """Workers have been told that the run waits."""
    session.exec(update(RunRow).where(col(RunRow.id) == run_id).values(rung_at=now()))


def hold(session: Session, run_id: int, token: int) -> RunRow:
    """The run, its row locked until the transaction's end, if attempt `token` holds it. The gate of every write of an attempt.

    Raises:
        LeaseLost
    """
    run = session.exec(
        select(RunRow).where(col(RunRow.id) == run_id).with_for_update(key_share=True).execution_options(populate_existing=True)
    ).first()
    if run is None or run.attempt_id != token:
        raise LeaseLost(run_id, token)
    return run


def _swap(
    session: Session,
    run_id: int,
    sources: Sequence[RunStatus],
    target: RunStatus,
    cause: str,
    actor: str,
    moment: datetime,
    **changes: Any,
) -> RunStatus | None:
    """Compare-and-swap of the status with its history; returns what it was, or None where another status refused."""
    for source in sources:
        if target not in LEGAL[source]:
            continue
        swapped = session.exec(
            update(RunRow)
            .where(col(RunRow.id) == run_id, col(RunRow.status) == source)
            .values(status=target, **changes)
            .execution_options(synchronize_session="fetch")
        )
        if swapped.rowcount:
            _record(session, run_id, source, target, cause, actor, moment)
            if target in ("completed", "failed"):
                _tell(session, run_id, target)
            return source
    return None


def _tell(session: Session, run_id: int, ending: Literal["completed", "failed"]) -> None:
    run = _get(session, run_id)
    if ending == "completed":
        outbox.tell(session, "run.completed", run, {"verdict": run.verdict})
    else:
        outbox.tell(session, "run.failed", run, {"error": {"kind": run.error_kind, "message": run.error_message}})


def _record(session: Session, run_id: int, source: RunStatus | None, target: RunStatus, cause: str, actor: str, moment: datetime) -> None:
    history = {"run_id": run_id, "at": moment, "from_status": source, "to_status": target, "cause": cause, "actor": actor}
    history["traceparent"] = tracing.carried() if target == "queued" else None
    session.exec(insert(TransitionRow).values(**history))
    _announce(session, run_id, "status_changed", {"from": source, "to": target}, moment)


def _announce(session: Session, run_id: int, kind: str, data: dict[str, Any], moment: datetime) -> None:
    session.exec(insert(EventRow).values(run_id=run_id, seq=None, kind=kind, data=data, at=moment))


def _request(session: Session, run_id: int, cause: str, actor: str, ways: Mapping[RunStatus, RunStatus], wanted: str) -> RunStatus:
    """Do what somebody wishes, if the run's state has a way; returns the new status."""
    moment = now()
    status = cast(RunStatus, _lock(session, run_id))
    target = ways.get(status)
    if target is None:
        raise Conflict(run_id, status, wanted)
    changes: dict[str, Any] = {}
    if target == "queued":
        owner = _get(session, run_id).owner
        changes = {"ended_at": None, "error_kind": None, "error_message": None, "error_advice": None, "queued_at": moment, "rung_at": None}
        changes["turn"] = queueing.next_turn(session, owner, HELD)
    elif target in ("stopped", "paused"):
        changes = {"queued_at": None, "ended_at": moment if target == "stopped" else None}
    if _swap(session, run_id, (status,), target, cause, actor, moment, **changes) is None:
        raise Conflict(run_id, status, wanted)
    return target


def _requeue(session: Session, run: RunRow, cause: str, actor: str, moment: datetime) -> RunStatus:
    assert run.id is not None
    for wish, end in HALTS.items():
        ended = moment if end == "stopped" else None
        if _swap(session, run.id, (wish,), end, cause, actor, moment, ended_at=ended):
            return end
    _swap(session, run.id, ("starting", "running"), "queued", cause, actor, moment, queued_at=moment, rung_at=None)
    return "queued"


def _requeue_or_fail(session: Session, run: RunRow, outcome: str, cause: str, error: RunError, actor: str, moment: datetime) -> RunStatus:
    """An attempt ended without a word: the next one goes on, unless the last few got nowhere."""
    assert run.id is not None
    halting = run.status in HALTS
    _let_go(session, run, outcome, moment)
    if halting or not _fruitless(session, run.id):
        return _requeue(session, run, cause, actor, moment)
    run.error_kind, run.error_message, run.error_advice, run.ended_at = error.kind, error.message, error.advice, moment
    session.flush()
    _swap(session, run.id, HELD, "failed", cause, actor, moment)
    return "failed"


def _let_go(session: Session, run: RunRow, outcome: str, moment: datetime) -> None:
    """End the attempt that holds the run."""
    session.exec(update(AttemptRow).where(col(AttemptRow.id) == run.attempt_id).values(ended_at=moment, outcome=outcome))
    run.attempt_id = None
    run.lease_until = None
    session.flush()


def _shorten_leases_from_the_future(session: Session, moment: datetime) -> None:
    """A lease that was renewed while a clock was far ahead, and has been set right since, ends its length from now."""
    held = select(RunRow, AttemptRow).where(col(RunRow.attempt_id) == col(AttemptRow.id), col(RunRow.status).in_(HELD))
    ahead = held.where(col(AttemptRow.renewed_at) > moment).with_for_update(skip_locked=True, of=RunRow)
    for run, attempt in session.exec(ahead).all():
        assert run.lease_until is not None
        length = run.lease_until - attempt.renewed_at
        if attempt.renewed_at - moment > length:  # less is what clocks of different machines may differ by
            attempt.renewed_at, run.lease_until = moment, moment + length
    session.flush()


def _takeable(session: Session, offer: Offer) -> SelectOfScalar[int | None]:
    """The first run that `offer` fits. Where the disk budget is used up, only one that had begun before."""
    found = select(col(RunRow.id)).where(col(RunRow.status) == "queued", *takeable(offer)).order_by(*queueing.ORDER).limit(1)
    return found.where(col(RunRow.started_at).is_not(None)) if usage(session).state == "over" else found


def _device_held(session: Session, device_key: str) -> bool:
    """Whether an attempt holds one of the GPUs."""
    held = session.exec(
        select(col(AttemptRow.device_key)).where(col(AttemptRow.device_key).is_not(None), col(AttemptRow.ended_at).is_(None))
    )
    own = set(device_key.split(","))
    return any(own & set((key or "").split(",")) for key in held)


def _fruitless(session: Session, run_id: int) -> bool:
    latest = session.exec(
        select(AttemptRow).where(col(AttemptRow.run_id) == run_id).order_by(col(AttemptRow.id).desc()).limit(FRUITLESS_ATTEMPTS)
    ).all()
    return len(latest) == FRUITLESS_ATTEMPTS and all(
        attempt.outcome in ("lapsed", "killed") and not attempt.new_events for attempt in latest
    )


def _worker(session: Session, token: int) -> str:
    attempt = session.get(AttemptRow, token)
    return attempt.worker if attempt else "worker"


def _lock(session: Session, run_id: int) -> str:
    """Lock the run's row to the transaction's end; its status."""
    found = select(col(RunRow.status)).where(col(RunRow.id) == run_id, col(RunRow.deleted_at).is_(None))
    status = session.exec(found.with_for_update(key_share=True)).first()
    if status is None:
        raise NotFound("run", run_id)
    return status


def _get(session: Session, run_id: int) -> RunRow:
    run = session.get(RunRow, run_id, populate_existing=True)
    if run is None:
        raise NotFound("run", run_id)
    return run
