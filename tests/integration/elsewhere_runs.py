"""A run here, and the same with its students on another device: for a process of its own, since torch knows that device from then on."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from opcod.config import merge
from tests.integration.training_runs import record, run, tiny
from tests.pretend_device import announce, pretend_device
from tests.tape import TapeRecorder

Facts = list[dict[str, Any]]
SMALL = {
    "schedule": {"rounds": 1, "steps_per_round": 2, "questions_per_step": 3},
    "evaluation": {"samples": 1, "validation_questions": 4, "test_questions": 2},
}


def here_and_there(folder: Path, settings: dict[str, Any]) -> tuple[Facts, Facts, int]:
    """What both runs say; the one there is stopped halfway and goes on from its checkpoint. And how often passes were replayed there."""
    announce()
    torch.set_num_threads(1)
    config = tiny(**merge(SMALL, settings))
    here, there = folder / "here", folder / "there"
    here.mkdir()
    there.mkdir()
    run(config, here)
    tapes: list[TapeRecorder] = []

    def recorder() -> TapeRecorder:
        tapes.append(TapeRecorder())
        return tapes[-1]

    with (
        pretend_device() as device,
        patch("opcod.generation.policy.recorder_of", return_value=recorder),
        patch("opcod.training.student_host.resolve_device", return_value=device),
        patch("opcod.students.loading.resolve_device", return_value=device),
    ):
        assert run(config, there, stop_after=1).outcome == "stopped"
        run(config, there)
    return record(here), record(there), sum(tape.replays for tape in tapes)
