"""A run that is stopped and resumed ends exactly as one that was left alone; what else may befall it is in tests/faults."""

from __future__ import annotations

import hashlib
import sys
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


def history(up: Studio, run_id: int) -> list[str]:
    return [change["to_status"] for change in up.items(f"/runs/{run_id}/transitions")]


def test_stop_and_resume_change_nothing(tmp_path: Path) -> None:
    again = ["queued", "starting", "running"]
    with studio(tmp_path / "home") as up:
        undisturbed = launch(up, side_by_side=True)
        up.await_end(undisturbed)
        assert history(up, undisturbed) == [*again, "completed"]
        run_id = launch(up, side_by_side=False)  # which makes no difference either
        up.await_run(run_id, middle, seconds=200, what="the run's middle")
        up.client.request("POST", f"/runs/{run_id}:stop")
        assert up.await_end(run_id)["status"] == "stopped"
        up.client.request("POST", f"/runs/{run_id}:resume")
        assert up.await_end(run_id)["verdict"]["mutual_improvement"] is not None
        assert history(up, run_id) == [*again, "stopping", "stopped", *again, "completed"]
        assert outcome(up, run_id) == outcome(up, undisturbed)
