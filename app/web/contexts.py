"""What several pages know of a run: who takes part, in which colour, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from app.tables import EvaluationRow, RunRow
from opcod.types import Evaluation

HUES = 6
LIVE = ("queued", "starting", "running", "pausing", "stopping")
"""A run in one of these changes without its owner's doing."""


def hue_of(student: str | None, students: Sequence[str]) -> int:
    """A student's hue: its place among the run's students; 0 for none of them."""
    return students.index(student) % HUES + 1 if student in students else 0


@dataclass(frozen=True, slots=True)
class Cast:
    """The students and domains of an experiment, in its order; a student's hue is its place."""

    algorithm: str
    students: tuple[str, ...]
    domains: tuple[str, ...]
    models: Mapping[str, str]
    native: Mapping[str, str | None]

    def hue(self, student: str | None) -> int:
        return hue_of(student, self.students)

    def hued(self, students: Sequence[str]) -> tuple[tuple[str, int], ...]:
        return tuple((name, self.hue(name)) for name in students)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Mutual improvement: yes, no, or not yet (None); and the same for each student with its hue."""

    mutual: bool | None
    students: tuple[tuple[str, int, bool | None], ...]


def cast_of(config: Mapping[str, Any]) -> Cast:
    """From an experiment's stored configuration."""
    students = config["students"]
    return Cast(
        algorithm=config["method"]["algorithm"],
        students=tuple(item["name"] for item in students),
        domains=tuple(item["name"] for item in config["domains"]),
        models={item["name"]: item["model"] for item in students},
        native={item["name"]: item.get("native_domain") for item in students},
    )


def make_verdict(run: RunRow, cast: Cast) -> Verdict:
    """The run's own verdict; not yet while it has none."""
    verdict = run.verdict or {}
    students = verdict.get("students", {})
    return Verdict(verdict.get("mutual_improvement"), tuple((name, cast.hue(name), students.get(name)) for name in cast.students))


def as_evaluation(row: EvaluationRow) -> Evaluation:
    """The row as the method's noun."""
    return Evaluation(**row.model_dump(include={item.name for item in fields(Evaluation)}))
