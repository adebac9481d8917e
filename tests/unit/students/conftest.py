from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from opcod.students.loading import Student, load_student
from tests.unit.students.tiny_models import CHATML, save_model

CPU = torch.device("cpu")


@pytest.fixture
def make_student(tmp_path: Path) -> Callable[..., Student]:
    """Saves a tiny model of a family and loads it again the way a run does."""

    def make(family: str = "qwen3", template: str | None = CHATML, **options: object) -> Student:
        folder = save_model(tmp_path / f"{family}-model", family, template)
        settings: dict[str, object] = {"device": CPU, "dtype": torch.float32, **options}
        return load_student(str(folder), **settings)  # type: ignore[arg-type]

    return make
