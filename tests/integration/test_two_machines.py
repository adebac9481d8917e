"""Two workers with a home folder each share database, broker and S3: what one drops, the other ends as if nothing had been."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import BaseModel
from sqlalchemy import Engine

from app.artefacts import logs
from app.artefacts.store import Store, open_store
from app.db import make_engine, migrate, reading, writing
from app.lifecycle import runs
from app.records import exchange_queries, queries
from app.settings import Settings
from app.tables import ExperimentRow, RunRow
from opcod.config import load_preset, merge, parse_config
from tests.integration.service import broker
from tests.integration.studio import await_value, without
from tests.integration.test_worker_resume import ARRIVAL, OF_THE_MACHINE
from tests.s3 import s3_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Site:
    """What the machines share."""

    def __init__(self, folder: Path, broker_url: str, store_url: str) -> None:
        self.folder = folder
        self.environment = {
            "OPCOD_DATABASE_URL": f"sqlite:///{folder / 'shared.db'}",
            "OPCOD_BROKER_URL": broker_url,
            "OPCOD_STORE_URL": store_url,
            "OPCOD_LEASE_SECONDS": "5",
            "OPCOD_SHIP_SECONDS": "0.2",
        }
        self.engine: Engine = make_engine(self.environment["OPCOD_DATABASE_URL"])
        migrate(self.engine)
        self.store: Store = open_store(Settings(home=folder / "web", store_url=store_url))
        config = {
            "schedule": {"rounds": 2, "steps_per_round": 4},
            "recording": {"checkpoint_every_steps": 2},
            "compute": {"side_by_side": False},
        }
        self.config = parse_config(merge(load_preset("tiny"), config)).model_dump(mode="json")

    @contextmanager
    def machine(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker in a home of its own."""
        environment = {**os.environ, **self.environment, "OPCOD_HOME": str(self.folder / name)}
        with open(self.folder / f"{name}.log", "ab") as output:
            process = subprocess.Popen([sys.executable, "-m", "worker"], env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)

    def launch(self) -> int:
        with writing(self.engine) as session:
            experiment = ExperimentRow(name="tiny", config=self.config)
            session.add(experiment)
            session.flush()
            assert experiment.id is not None
            run_id = runs.create_run(session, experiment.id).id
        assert run_id is not None
        return run_id

    def run(self, run_id: int) -> RunRow:
        with reading(self.engine) as session:
            return session.get_one(RunRow, run_id)

    def await_end(self, run_id: int) -> None:
        def ended() -> bool:
            status = self.run(run_id).status
            assert status != "failed", self.log(run_id)
            return status == "completed"

        await_value(ended, seconds=300, what="the run's end")

    def log(self, run_id: int) -> str:
        return logs.read(self.store, self.run(run_id).folder, after=0, limit=1_000_000).text

    def outcome(self, run_id: int) -> dict[str, list[str]]:
        """All that a run found out and made, less what measures the machine."""
        with reading(self.engine) as session:
            found: dict[str, Sequence[BaseModel]] = {
                "metrics": queries.metrics(session, run_id, limit=100_000).items,
                "exchanges": exchange_queries.exchanges(session, run_id, limit=100_000).items,
                "evaluations": queries.evaluations(session, run_id, limit=100_000).items,
                "gates": queries.gate_decisions(session, run_id, limit=100_000).items,
            }
        folder = self.run(run_id).folder
        told = {
            name: sorted(
                without(item.model_dump(mode="json"), *ARRIVAL)
                for item in items
                if not any(part in f"/{getattr(item, 'name', '')}" for part in OF_THE_MACHINE)
            )
            for name, items in found.items()
        }
        weights = [path for path in self.store.sizes(f"{folder}/exports") if path.endswith(".safetensors")]
        digests = {path: hashlib.sha256(self.store.read(f"{folder}/exports/{path}")).hexdigest() for path in weights}
        return told | {"weights": [f"{path} {digest}" for path, digest in sorted(digests.items())]}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with s3_server() as s3, broker(tmp_path) as broker_url:
        site = Site(tmp_path, broker_url, s3.bucket())
        yield site
        site.engine.dispose()


def test_a_run_whose_machine_dies_ends_on_another_exactly_as_undisturbed(site: Site) -> None:
    with site.machine("one") as one:
        undisturbed = site.launch()
        site.await_end(undisturbed)
        disturbed = site.launch()
        await_value(lambda: sum(site.run(disturbed).steps_done.values()) >= 5, seconds=200, what="the run's middle")
        one.send_signal(signal.SIGKILL)
        one.wait()
    with site.machine("two"):
        site.await_end(disturbed)
    expected = site.outcome(undisturbed)
    assert all(expected.values())
    assert site.outcome(disturbed) == expected
    log = site.log(disturbed)
    assert "Going on from round" in log
    assert log.count("was claimed by") == 2
    assert not (site.folder / "one" / "runs" / site.run(disturbed).folder / "exports").exists()
