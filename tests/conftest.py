"""What every test stands on: no hub, one torch thread, the same hypothesis examples each time, a Chromium if there is one."""

from __future__ import annotations

import os

# Before anything imports torch or transformers.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OPCOD_ALLOWED_HOSTS", "testserver")  # what TestClient calls the server
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling, LoadScopeScheduling

from tests.chromium import find_chromium

settings.register_profile("suite", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

WHOLE_SERVICES = {
    "tests/faults/test_one_machine.py": "one machine",
    "tests/faults/test_people.py": "one machine",
    "tests/integration/test_up.py": "one machine",
    "tests/faults/test_many_machines.py": "several machines",
    "tests/integration/test_deployed_parts.py": "several machines",
    "tests/integration/test_doors.py": "several machines",
    "tests/integration/test_replays.py": "several machines",
}
"""Files whose tests start servers, workers and training, to the process that they share: two such at once, or they starve each other."""


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """A file goes to one process, and so do files of one name above."""

    def _split_scope(self, nodeid: str) -> str:
        path: str = super()._split_scope(nodeid)
        return WHOLE_SERVICES.get(path, path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Playwright leaves its event loop running in the thread: whatever runs one of its own comes before.
    # Files that take longest begin first, so that no process is left with one in the end.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.get_closest_marker("browser") is not None, item.path not in slow))
    if find_chromium() is None:
        skip = pytest.mark.skip(reason="no Chromium: install one, or name it in OPCOD_CHROMIUM")
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, object]:
    return {"executable_path": find_chromium(), "args": CHROMIUM_ARGUMENTS, "headless": True}
