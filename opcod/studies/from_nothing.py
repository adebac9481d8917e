"""The demo from nothing: two specialists made from random weights side by side, and the run in which they meet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opcod.config import ExperimentConfig, merge, parse_config
from opcod.errors import ConfigError
from opcod.students.demo_specialists import build
from opcod.studies.demo import STUDENTS_OF, arm_config


def make_pair(folder: Path, seed: int) -> None:
    """Make both specialists of the world `seed` in `folder`.

    Raises:
        ConfigError: something is in the folder.
        ResourceError: the disk is full or not writable.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{str(folder)!r} is not empty.", advice="Name a new folder: nothing is taken over from an earlier time.")
    build(folder, seed=seed, names=STUDENTS_OF["pair"])


def pair_config(folder: Path, seed: int, changes: Mapping[str, Any]) -> ExperimentConfig:
    """The preset `demo` in the world `seed` with the specialists of `folder`, side by side; `changes` laid over it."""
    students = {name: str(folder / name) for name in STUDENTS_OF["pair"]}
    own = {"name": f"demo from nothing, world {seed}", "compute": {"side_by_side": True}}
    return parse_config(merge(merge(arm_config(seed, "opcod", students).model_dump(mode="json"), own), changes))
