"""From nothing to the verdict by one command; making the specialists, which takes minutes, is stood in for by the built-in ones."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from opcod.__main__ import app
from opcod.errors import ConfigError
from opcod.events import RunFinished, RunStarted
from opcod.sinks import read_events
from opcod.students.references import DEMO_FOLDER
from opcod.studies import from_nothing
from opcod.studies.from_nothing import make_pair, pair_config

SHORT = {
    "schedule.rounds": 1,
    "schedule.steps_per_round": 1,
    "schedule.questions_per_step": 2,
    "generation.rollouts": 2,
    "evaluation.samples": 1,
    "evaluation.test_questions": 2,
    "evaluation.validation_questions": 4,
    "evaluation.break_rescue_questions": 0,
    "compute.side_by_side": "false",
}


def copied(out: Path, *, seed: int, names: Sequence[str]) -> list[Path]:
    return [Path(shutil.copytree(DEMO_FOLDER / name, out / name)) for name in names]


def test_one_command_makes_the_pair_and_goes_to_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_nothing, "build", copied)
    changes = [part for name, value in SHORT.items() for part in ("--set", f"{name}={value}")]
    done = CliRunner().invoke(app, ["demo", "from-nothing", "--folder", str(tmp_path / "new"), *changes], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    events = read_events(tmp_path / "new/run/events.jsonl")
    assert isinstance(events[0], RunStarted)
    assert events[0].domains == ["densities", "protons"]
    assert isinstance(events[-1], RunFinished)
    assert "mutual Pareto improvement" in done.output
    assert "together" in done.output


def test_the_run_is_the_preset_with_the_pair_in_its_own_world() -> None:
    config = pair_config(Path("made"), 3, {"schedule": {"rounds": 2}})
    assert [student.model for student in config.students] == ["made/densities", "made/protons"]
    assert {domain.test for domain in config.domains} == {"demo:densities@3:test", "demo:protons@3:test"}
    assert (config.seed, config.compute.side_by_side, config.compute.threads, config.schedule.rounds) == (3, True, 1, 2)


def test_nothing_is_taken_over_from_an_earlier_time(tmp_path: Path) -> None:
    (tmp_path / "densities").mkdir()
    with pytest.raises(ConfigError, match="not empty"):
        make_pair(tmp_path, 0)
