"""A whole run whose students live on another device than the CPU says what it says on the CPU: nothing is left behind on either.

There, passes of one token are recorded and replayed, as on a GPU.
"""

from __future__ import annotations

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration.elsewhere_runs import here_and_there

CASES: dict[str, dict[str, Any]] = {
    "every weight": {"compute": {"gradient_checkpointing": True}, "generation": {"top_p": 0.9}},
    "adapters": {"compute": {"adapters": {"rank": 4, "dropout": 0.0}}},
    "GRPO": {"method": {"algorithm": "grpo"}, "optimizer": {"mini_batch_questions": 2}},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_on_another_device_says_the_same_and_goes_on_from_its_checkpoint(case: str, tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        here, there, replays = pool.submit(here_and_there, tmp_path, CASES[case]).result()
    assert replays > 100
    assert [event["kind"] for event in there] == [event["kind"] for event in here]
    assert {"step_finished", "exchange_recorded", "run_finished"} <= {event["kind"] for event in here}
    assert not [pair for pair in zip(here, there, strict=True) if not alike(*pair)]


def alike(one: Any, other: Any) -> bool:
    """Equal but for rounding, of the record too: attention is computed by other means there."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-2, abs_tol=2e-3)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(alike(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)
