"""A run that is disturbed ends exactly as one that is not: after kill -9, after stop and resume, after a restart of everything."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.studio import Studio, studio, without

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]

RECORDS = ("metrics", "exchanges", "evaluations", "gate-decisions", "break-rescue")
ARRIVAL = ("id", "at", "run_id", "seq")
"""What differs between two equal runs; `seq` differs between phases in turn and side by side."""
OF_THE_MACHINE = ("/timing_s/", "/throughput/", "/memory/")
"""Metrics that measure the machine."""

Outcome = dict[str, list[str]]


def outcome(up: Studio, run_id: int) -> Outcome:
    """All that a run found out and made, in an order that does not depend on arrival."""
    found = {
        name: sorted(without(item, *ARRIVAL) for item in up.items(f"/runs/{run_id}/{name}") if not _measures(item)) for name in RECORDS
    }
    (folder,) = (up.home / "runs").glob(f"{run_id:06d}-*")
    weights = sorted(folder.glob("exports/*/*.safetensors"))
    found["weights"] = [f"{path.parent.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in weights]
    assert all(found[name] for name in ("metrics", "exchanges", "evaluations", "weights"))
    return found


def _measures(item: dict[str, Any]) -> bool:
    return any(part in f"/{item.get('name', '')}" for part in OF_THE_MACHINE)


def middle(run: dict[str, Any]) -> bool:
    """Some steps in, and many to go."""
    return bool(run["progress"]["step"] >= 3)


def launch(up: Studio, *, side_by_side: bool) -> int:
    return up.launch("tiny", schedule={"rounds": 2, "steps_per_round": 8}, compute={"side_by_side": side_by_side})


def await_middle(up: Studio, run_id: int) -> None:
    up.await_run(run_id, middle, seconds=200, what="the run's middle")


def history(up: Studio, run_id: int) -> list[str]:
    return [change["to_status"] for change in up.items(f"/runs/{run_id}/transitions")]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with studio(tmp_path_factory.mktemp("resume") / "home", OPCOD_LEASE_SECONDS="8") as up:
        yield up


@pytest.fixture(scope="module")
def undisturbed(up: Studio) -> Outcome:
    run_id = launch(up, side_by_side=True)
    run = up.await_end(run_id)
    assert history(up, run_id) == ["queued", "starting", "running", "completed"]
    assert run["verdict"]["mutual_improvement"] is not None
    return outcome(up, run_id)


def test_kill_9_of_the_worker_changes_nothing(up: Studio, undisturbed: Outcome) -> None:
    run_id = launch(up, side_by_side=True)
    await_middle(up, run_id)
    for module in ("worker", "worker.training_process"):
        with suppress(ProcessLookupError):  # the second may have followed the first
            os.kill(up.child(module), signal.SIGKILL)
    up.await_end(run_id)
    assert history(up, run_id) == ["queued", "starting", "running", "queued", "starting", "running", "completed"]
    assert outcome(up, run_id) == undisturbed


def test_neither_a_restart_of_everything_nor_stop_and_resume_change_anything(undisturbed: Outcome, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with studio(home) as up:
        run_id = launch(up, side_by_side=False)  # which makes no difference either
        await_middle(up, run_id)
        assert up.stop() == 0
    with studio(home) as up:
        up.await_run(run_id, lambda run: run["status"] == "running", seconds=60, what="the run's going on by itself")
        up.client.request("POST", f"/runs/{run_id}:stop")
        assert up.await_end(run_id)["status"] == "stopped"
        up.client.request("POST", f"/runs/{run_id}:resume")
        up.await_end(run_id)
        again = ["queued", "starting", "running"]
        assert history(up, run_id) == [*again, *again, "stopping", "stopped", *again, "completed"]
        assert outcome(up, run_id) == undisturbed
