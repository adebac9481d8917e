"""What a user does to runs, from page or REST: change the state, commit, then ring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine

from app import idempotency, live
from app.db import reading, writing
from app.errors import Conflict, Forbidden, NotFound
from app.experiments import estimates
from app.experiments.experiments import check_deeply, check_experiment, create
from app.idempotency import Asked
from app.lifecycle import queue, queueing, runs
from app.lifecycle.retention import request_deletion
from app.lifecycle.statuses import RunStatus
from app.tables import ExperimentRow, RunRow
from opcod.config import merge, parse_config


def start(
    engine: Engine, broker_url: str, experiment_id: int, *, name: str | None = None, actor: str = "user", asked: Asked | None = None
) -> tuple[int, bool]:
    """Queue a run and tell the workers; returns its id and whether it is new, or was made when the same was `asked` before.

    Raises:
        NotFound: there is no such experiment.
        Invalid: its data or students have gone since it was made; the key was used for something else.
    """
    asked = asked or Asked(actor, None, "run")
    with reading(engine) as session:
        experiment = session.get(ExperimentRow, experiment_id)
        made = idempotency.earlier(session, asked)
    if experiment is None:
        raise NotFound("experiment", experiment_id)
    if made is not None:
        return made, False
    check_deeply(parse_config(experiment.config))
    with writing(engine) as session:
        run_id, new = idempotency.once(session, asked, lambda: _id(runs.create_run(session, experiment_id, name=name, actor=actor)))
    if new:
        announce(engine, broker_url, run_id)
    return run_id, new


def announce(engine: Engine, broker_url: str, *run_ids: int) -> None:
    """Tell workers and viewers of new runs, after the commit; and note what they are expected to take."""
    estimates.keep(engine, run_ids)
    for run_id in run_ids:
        queue.announce(engine, broker_url, run_id)
        live.ring(broker_url, run_id)


def stop(engine: Engine, broker_url: str, run_id: int, *, actor: str = "user") -> RunStatus:
    """Ask a run to stop; a waiting or paused one stops at once.

    Raises:
        NotFound
        Conflict: it has ended, or is stopping already.
    """
    with writing(engine) as session:
        status = runs.request_stop(session, run_id, actor=actor)
    live.ring(broker_url, run_id)
    return status


def pause(engine: Engine, broker_url: str, run_id: int, *, actor: str = "user") -> RunStatus:
    """Ask a run to pause; a waiting one pauses at once.

    Raises:
        NotFound
        Conflict: it has ended, or is pausing, paused or stopping.
    """
    with writing(engine) as session:
        status = runs.request_pause(session, run_id, actor=actor)
    live.ring(broker_url, run_id)
    return status


def resume(engine: Engine, broker_url: str, run_id: int, *, actor: str = "user", cause: str = "resume requested") -> RunStatus:
    """Queue a paused or ended run again; it goes on from its last checkpoint.

    Raises:
        NotFound
        Conflict: it waits or is held by a worker.
        Invalid: its data or students have gone meanwhile.
    """
    _look_again(engine, run_id, runs.RESUMABLE, "resumed")
    with writing(engine) as session:
        status = runs.request_resume(session, run_id, actor=actor, cause=cause)
    queue.announce(engine, broker_url, run_id)
    live.ring(broker_url, run_id)
    return status


def retry(engine: Engine, broker_url: str, run_id: int, *, afresh: bool, actor: str = "user") -> int:
    """Do an ended run over: from its last checkpoint, or afresh as a new run of the same experiment. Returns the id of the run that waits.

    Raises:
        NotFound
        Conflict: it has not ended, or is being retried already.
        Invalid: its data or students have gone meanwhile.
    """
    _look_again(engine, run_id, runs.ENDED, "retried")
    if not afresh:
        resume(engine, broker_url, run_id, actor=actor, cause="retry requested")
        return run_id
    with writing(engine) as session:
        new = runs.retry_afresh(session, run_id, actor=actor).id
    assert new is not None
    announce(engine, broker_url, new)
    live.ring(broker_url, run_id)
    return new


def clone(
    engine: Engine,
    broker_url: str,
    run_id: int,
    *,
    overrides: Mapping[str, Any] | None = None,
    name: str | None = None,
    actor: str = "user",
    asked: Asked | None = None,
) -> tuple[int, bool]:
    """A new run with the same settings, or with `overrides` laid over them, which makes a new experiment.

    Returns its id and whether it is new, or was made when the same was `asked` before.

    Raises:
        NotFound
        Invalid: the settings, their data or their students do not hold; the key was used for something else.
    """
    asked = asked or Asked(actor, None, "clone")
    with reading(engine) as session:
        source = session.get(RunRow, run_id)
        if source is None or source.deleted_at is not None:
            raise NotFound("run", run_id)
        experiment = session.get(ExperimentRow, source.experiment_id)
        made = idempotency.earlier(session, asked)
    assert experiment is not None
    if made is not None:
        return made, False
    config = check_experiment(name, None, merge(experiment.config, overrides or {}))
    with writing(engine) as session:

        def make() -> int:
            experiment_id = create(session, config, preset=experiment.preset) if overrides else source.experiment_id
            return _id(
                runs.create_run(
                    session,
                    experiment_id,
                    name=name or source.name,
                    actor=actor,
                    tags=source.tags,
                    copied_from=run_id,
                    cause=f"clone of run {run_id}",
                )
            )

        run_made, new = idempotency.once(session, asked, make)
    if new:
        announce(engine, broker_url, run_made)
    return run_made, new


def _id(run: RunRow) -> int:
    assert run.id is not None
    return run.id


def move(engine: Engine, broker_url: str, run_id: int, position: int) -> None:
    """Put a waiting run at a place in the queue.

    Raises:
        NotFound
        Conflict: it does not wait.
    """
    with writing(engine) as session:
        queueing.move(session, run_id, position)
        runs.change(session, run_id)
    live.ring(broker_url, run_id)


def change(engine: Engine, broker_url: str, run_id: int, values: Mapping[str, Any], *, may_rank: bool = True) -> None:
    """Set `name`, `tags`, `archived` or `priority` of a run, in any state.

    Raises:
        NotFound
        Forbidden: a higher priority, which puts others back, by somebody who may not (`may_rank`).
    """
    with writing(engine) as session:
        run = session.get(RunRow, run_id)
        if run is not None and not may_rank and values.get("priority", 0) > max(0, run.priority):
            raise Forbidden("A priority above 0 puts other people's runs back.", "Ask an admin of the studio.")
        runs.change(session, run_id, **values)
    live.ring(broker_url, run_id)


def delete(engine: Engine, broker_url: str, run_id: int, *, actor: str) -> None:
    """Take a run out of sight for good; `app.retention` removes what it left.

    Raises:
        NotFound
        Conflict: a worker holds it.
    """
    with writing(engine) as session:
        request_deletion(session, run_id, actor=actor)
    live.ring(broker_url, run_id)


def _look_again(engine: Engine, run_id: int, states: Sequence[RunStatus], wanted: str) -> None:
    """Whether a run in one of `states` still has what it needs, before it is queued again.

    Raises:
        NotFound
        Conflict: it is in another state.
        Invalid: its data or students have gone meanwhile.
    """
    with reading(engine) as session:
        run = session.get(RunRow, run_id)
        experiment = session.get(ExperimentRow, run.experiment_id) if run else None
    if run is None or run.deleted_at is not None or experiment is None:
        raise NotFound("run", run_id)
    if run.status not in states:
        raise Conflict(run_id, run.status, wanted)
    check_deeply(parse_config(experiment.config))
