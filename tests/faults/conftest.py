"""Stages for tests that come one after another, and one undisturbed run for all processes of the session."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.faults.outcome import Outcome
from tests.faults.stage import Stage
from tests.faults.stages import UnavailableError, stage_of
from tests.faults.trial import undisturbed

Reference = Callable[[], Outcome]


@pytest.fixture(scope="package")
def get_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Stage]]:
    """The stage of a name, up: as long as tests ask for the same, and no other beside it."""
    up: dict[str, Stage] = {}
    with ExitStack() as stack:

        def get(name: str) -> Stage:
            if name not in up:
                up.clear()
                stack.close()
                up[name] = stack.enter_context(stage_of(name, tmp_path_factory.mktemp("stage")))
            return up[name]

        yield get


@pytest.fixture
def stage(request: pytest.FixtureRequest, get_stage: Callable[[str], Stage]) -> Stage:
    """Parametrised by its name."""
    try:
        return get_stage(request.param)
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def reference(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What a run finds out and makes when nobody disturbs it: made on the stage of whoever asks first, the same for every other."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get() -> Outcome:
        path = shared / "undisturbed.json"
        with open(shared / "undisturbed.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                path.write_text(json.dumps(undisturbed(stage)), encoding="utf-8")
        found: Outcome = json.loads(path.read_text(encoding="utf-8"))
        return found

    return get
