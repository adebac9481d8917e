from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.db import make_engine, migrate, writing
from app.lifecycle import runs
from app.lifecycle.runs import Claim
from app.tables import ExperimentRow
from opcod.config import load_preset, parse_config
from worker.settings import WorkerSettings


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    return WorkerSettings(
        home=tmp_path / "home", lease_seconds=2.0, drain_seconds=5.0, patience_seconds=1.0, reap_seconds=0.2, broker_url=""
    )


@pytest.fixture
def engine(settings: WorkerSettings) -> Iterator[Engine]:
    engine = make_engine(settings.database_url)
    migrate(engine)
    yield engine
    engine.dispose()


def queue_run(engine: Engine) -> int:
    """A queued run of the tiny preset."""
    with writing(engine) as session:
        config = parse_config(load_preset("tiny")).model_dump(mode="json")
        experiment = ExperimentRow(name="tiny", preset="tiny", config=config)
        session.add(experiment)
        session.flush()
        assert experiment.id is not None
        run_id = runs.create_run(session, experiment.id).id
    assert run_id is not None
    return run_id


def take(engine: Engine, *, lease_seconds: float = 2.0, worker: str = "test") -> Claim | None:
    with writing(engine) as session:
        return runs.claim(session, worker=worker, device="cpu", lease_seconds=lease_seconds)


@pytest.fixture
def claim(engine: Engine) -> Claim:
    queue_run(engine)
    claim = take(engine)
    assert claim is not None
    return claim
