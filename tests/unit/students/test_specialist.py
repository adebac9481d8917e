"""Making a specialist from a file: it learns the solutions, exports an ordinary folder, and refuses what it cannot learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from opcod.errors import ConfigError, DataError
from opcod.students.loading import load_student
from opcod.students.specialist import make_specialist
from opcod.students.specialist_config import parse_specialist
from tests.unit.students.tiny_models import save_model


def data(folder: Path, *, solution: bool = True) -> dict[str, Any]:
    for split in ("train", "validation", "test"):
        rows = [{"prompt": f"{split} {n}", "answer": "B"} | ({"solution": "So <answer>B</answer>"} if solution else {}) for n in range(6)]
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return {
        "model": str(save_model(folder / "base")),
        "domains": [{"name": "d", **{split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}}],
        "sft": {"epochs": 12, "batch_size": 3, "learning_rate": 1e-2},
        "device": "cpu",
    }


@pytest.mark.parametrize("adapters", [None, {"rank": 4}])
def test_it_learns_the_solutions_and_exports(tmp_path: Path, adapters: dict[str, int] | None) -> None:
    config = data(tmp_path)
    config["sft"]["adapters"] = adapters
    losses: list[float] = []
    report = make_specialist(parse_specialist(config), tmp_path / "out", on_step=lambda step, steps, loss: losses.append(loss))
    assert report.examples == 6
    assert losses == list(report.losses)
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4])
    made = load_student(str(tmp_path / "out"), device=torch.device("cpu"), dtype=torch.float32)
    base = load_student(config["model"], device=torch.device("cpu"), dtype=torch.float32)
    assert any(not torch.equal(a, b) for a, b in zip(made.model.parameters(), base.model.parameters(), strict=True))


def test_a_question_without_a_solution_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no solution"):
        make_specialist(parse_specialist(data(tmp_path, solution=False)), tmp_path / "out", on_step=lambda *facts: None)
    assert not (tmp_path / "out").exists()


def test_a_fault_of_the_configuration_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sft\.epochs"):
        parse_specialist(data(tmp_path) | {"sft": {"epochs": 0}})
