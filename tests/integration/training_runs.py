"""Helpers to run the tiny demo and to compare what two runs said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opcod.config import ExperimentConfig, load_preset, merge, parse_config
from opcod.sinks import JsonLinesSink, read_events
from opcod.training.trainer import TrainingResult, train

UNREPEATABLE = ("timing_s/", "throughput/", "memory/")
"""Metrics that no two runs share."""


def tiny(**overrides: Any) -> ExperimentConfig:
    """The tiny preset, in this process and smaller still unless a test says otherwise."""
    small = {
        "schedule": {"rounds": 2, "steps_per_round": 2, "questions_per_step": 4},
        "evaluation": {"samples": 2, "validation_questions": 8, "test_questions": 4, "break_rescue_questions": 2},
        "recording": {"checkpoint_every_steps": 1},
        "method": {"gate": {"strategy": "always"}},
        "compute": {"side_by_side": False},
    }
    return parse_config(merge(merge(load_preset("tiny"), small), overrides))


class StopAfter:
    """Asks a run to stop once it has been asked `beats` times whether it should."""

    def __init__(self, beats: int | None = None) -> None:
        self.left = beats

    def requested(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0


def run(config: ExperimentConfig, folder: Path, *, stop_after: int | None = None) -> TrainingResult:
    with JsonLinesSink(folder / "events.jsonl") as sink:
        return train(config, folder, sink, StopAfter(stop_after))


def facts(folder: Path) -> dict[int, dict[str, Any]]:
    """Every event of a run by its number, without what no two runs share: times, and which checkpoints were made."""
    found = {}
    for event in read_events(folder / "events.jsonl"):
        data = event.model_dump(mode="json", exclude={"at"})
        if "metrics" in data:
            data["metrics"] = {name: value for name, value in data["metrics"].items() if not any(part in name for part in UNREPEATABLE)}
        if data["kind"] != "checkpoint_saved":
            found[event.seq] = data
    return found


def record(folder: Path) -> list[dict[str, Any]]:
    """What a run says, whatever the order of its phases."""
    return sorted(({**data, "seq": None} for data in facts(folder).values()), key=repr)


def weights(folder: Path) -> dict[str, bytes]:
    """Exported weights by student."""
    return {path.parent.name: path.read_bytes() for path in sorted((folder / "exports").glob("*/model.safetensors"))}
