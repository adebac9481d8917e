"""Sweeps that the paper makes, by name: what is varied, and where the paper speaks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opcod.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Ablation:
    """A built-in sweep; laid over any preset or configuration."""

    name: str
    title: str
    description: str
    source: str
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    overrides: Sequence[Mapping[str, Any]] = ()


ABLATIONS: tuple[Ablation, ...] = (
    Ablation(
        "gates",
        "The four gates",
        "Who may tutor: by the cognizance gap, everybody, nobody, or an incognizant tutor on its strongest domain only.",
        "Figure 7",
        grid={"method.gate.strategy": ["cognizance", "always", "never", "domain_selective"]},
    ),
    Ablation(
        "feedback",
        "Anchored and generic feedback",
        "The two-step prompt that names a concept of the question first, against one that asks for feedback outright.",
        "Appendix C",
        grid={"method.feedback.style": ["anchored", "generic"]},
    ),
    Ablation(
        "schedule",
        "Rounds and steps",
        "The same hundred updates a student as many short rounds, two long ones, or a single one without a second look at the gate.",
        "implementation details (5 x 20 and 2 x 50); 1 x 100 is ours",
        overrides=[{"schedule": {"rounds": rounds, "steps_per_round": steps}} for rounds, steps in ((5, 20), (2, 50), (1, 100))],
    ),
    Ablation(
        "algorithms",
        "OPCoD and its baselines",
        "Peer feedback, self-distillation alone, and rewards alone.",
        "Table 1",
        grid={"method.algorithm": ["opcod", "sdpo", "grpo"]},
    ),
    Ablation(
        "tutors",
        "Tutors of the round's start or of the last phase",
        "Algorithm 1 freezes the tutors when the round begins; the implementation notes load them as the last phase left them.",
        "Algorithm 1; implementation notes",
        overrides=[
            {"schedule": {"tutor_snapshot": "round_start"}},
            {"schedule": {"tutor_snapshot": "latest"}, "compute": {"side_by_side": False}},
        ],
    ),
)


def ablation(name: str) -> Ablation:
    """A built-in sweep.

    Raises:
        ConfigError: none has this name.
    """
    found = next((one for one in ABLATIONS if one.name == name), None)
    if found is None:
        known = ", ".join(one.name for one in ABLATIONS)
        raise ConfigError(f"There is no ablation {name!r}.", advice=f"Choose one of {known}.", field="ablation")
    return found
