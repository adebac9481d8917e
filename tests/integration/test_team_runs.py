"""Whole runs by two processes: what one process says, up to rounding, and going on with another number of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from opcod.config import ExperimentConfig
from tests.integration.training_runs import facts, run, tiny, weights

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"schedule": {"rounds": 1}, "optimizer": {"mini_batch_questions": 2}}


def settings(gpus: int, algorithm: str, **compute: Any) -> ExperimentConfig:
    here = {"device": "cpu", "threads": 1, "gpus": gpus, **compute}
    return tiny(**SMALL, method={"algorithm": algorithm}, compute=here)


def assert_same(found: Any, expected: Any, path: str = "") -> None:
    """Equal, and numbers nearly: texts, counts and marks leave no room."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), path
        for key, value in expected.items():
            assert_same(found[key], value, f"{path}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), path
        for place, value in enumerate(expected):
            assert_same(found[place], value, f"{path}.{place}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=2e-3, abs=2e-5), path
    else:
        assert found == expected, path


def assert_same_run(found: Path, expected: Path) -> None:
    said, wanted = facts(found), facts(expected)
    assert said.keys() == wanted.keys()
    for number, event in wanted.items():
        assert_same(said[number], event, str(number))
    students = weights(expected)
    for name, file in weights(found).items():
        made, theirs = load(file), load(students[name])
        assert made.keys() == theirs.keys()
        for key, weight in theirs.items():
            torch.testing.assert_close(made[key], weight, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("algorithm", "compute", "first", "then"),
    [
        ("opcod", {}, 2, None),
        ("sdpo", {"adapters": {"rank": 2}}, 2, 1),
        ("grpo", {}, 1, 2),
    ],
    ids=["opcod by two", "sdpo with adapters, by two and then one", "grpo, by one and then two"],
)
def test_a_team_says_what_one_process_says(algorithm: str, compute: dict[str, Any], first: int, then: int | None, tmp_path: Path) -> None:
    alone, team = tmp_path / "alone", tmp_path / "team"
    for folder in (alone, team):
        folder.mkdir()
    assert run(settings(1, algorithm, **compute), alone).outcome == "completed"
    if then is None:
        assert run(settings(first, algorithm, **compute), team).outcome == "completed"
    else:
        assert run(settings(first, algorithm, **compute), team, stop_after=1).outcome == "stopped"
        assert run(settings(then, algorithm, **compute), team).outcome == "completed"
    assert_same_run(team, alone)
