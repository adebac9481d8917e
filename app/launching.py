"""What a user does to runs, from page or REST: change the state, commit, then ring."""

from __future__ import annotations

from sqlalchemy import Engine

from app import live, queue, runs
from app.db import reading, writing
from app.errors import NotFound
from app.experiments import check_deeply
from app.statuses import RunStatus
from app.tables import ExperimentRow
from opcod.config import parse_config


def start(engine: Engine, broker_url: str, experiment_id: int, *, name: str | None = None, actor: str = "user") -> int:
    """Queue a run and tell the workers; returns its id.

    Raises:
        NotFound: there is no such experiment.
        Invalid: its data or students have gone since it was made.
    """
    with reading(engine) as session:
        experiment = session.get(ExperimentRow, experiment_id)
    if experiment is None:
        raise NotFound("experiment", experiment_id)
    check_deeply(parse_config(experiment.config))
    with writing(engine) as session:
        run_id = runs.create_run(session, experiment_id, name=name, actor=actor).id
    assert run_id is not None
    queue.announce(engine, broker_url, run_id)
    live.ring(broker_url, run_id)
    return run_id


def stop(engine: Engine, broker_url: str, run_id: int, *, actor: str = "user") -> RunStatus:
    """Ask a run to stop; a waiting one stops at once.

    Raises:
        NotFound
        Conflict: it has ended, or is stopping already.
    """
    with writing(engine) as session:
        status = runs.request_stop(session, run_id, actor=actor)
    live.ring(broker_url, run_id)
    return status


def resume(engine: Engine, broker_url: str, run_id: int, *, actor: str = "user") -> RunStatus:
    """Queue a stopped or failed run again.

    Raises:
        NotFound
        Conflict: it is neither stopped nor failed.
    """
    with writing(engine) as session:
        status = runs.request_resume(session, run_id, actor=actor)
    queue.announce(engine, broker_url, run_id)
    live.ring(broker_url, run_id)
    return status
