"""What a run took, in the few numbers that estimates are made from: the same whether its events lie in a file or in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from opcod.config import ExperimentConfig
from opcod.estimation.models import ModelShape, model_shape
from opcod.events import EvaluationFinished, Event, StepFinished

METRICS = (
    "timing_s/rollout",
    "timing_s/feedback",
    "timing_s/break_rescue",
    "timing_s/update",
    "timing_s/step",
    "prompt/length_mean",
    "response/length_mean",
    "response/length_max",
    "feedback/count",
    "feedback/length_mean",
    "feedback/length_max",
    "feedback/kept_fraction",
    "self_distillation/prompt_length_mean",
    "self_distillation/success_sample_fraction",
    "self_distillation/reprompt_sample_fraction",
    "train/updates",
    "memory/peak_bytes",
)
"""Metrics of a step that are read, as they are called after the student's name."""
NEEDED = ("timing_s/rollout", "timing_s/step", "prompt/length_mean", "response/length_mean")
"""Without these a run says nothing; runs of earlier versions lack one."""
PEAKS = ("memory/peak_bytes",)


class StudentMeasured(BaseModel):
    """A student of a run: how large it is, and the mean of each metric over its steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: str
    shape: ModelShape | None
    steps: int
    means: dict[str, float]


class EvaluationMeasured(BaseModel):
    """One scoring of all students on one split: questions a student, samples of each, and the time that it took."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Literal["validation", "test"]
    questions: int
    samples: int
    seconds: float


class MeasuredRun(BaseModel):
    """A run that completed in one go. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """Whose measurement it is, for people: ``run 12``, or the name of a shipped one."""
    device: str
    """``cpu``, or the GPU's name: what times depend on."""
    config: dict[str, Any]
    students: tuple[StudentMeasured, ...]
    evaluations: tuple[EvaluationMeasured, ...]
    startup: float
    """From the start of its process to the first event: libraries, students, data."""
    wall: float
    """From the start of its process to its end."""
    size_bytes: int | None = None
    """What its artefacts took in the end."""

    @property
    def settings(self) -> ExperimentConfig:
        return ExperimentConfig.model_validate(self.config)

    @property
    def steps_seconds(self) -> float:
        """Of all steps: the slowest student's where phases run side by side."""
        each = [student.steps * student.means.get("timing_s/step", 0.0) for student in self.students]
        return max(each) if self.settings.compute.side_by_side else sum(each)

    @property
    def rest(self) -> float:
        """What neither the start, nor scoring, nor steps took: checkpoints, tutors, records."""
        return max(0.0, self.wall - self.startup - sum(one.seconds for one in self.evaluations) - self.steps_seconds)


def gathered(name: str, values: Sequence[float]) -> float:
    """What stands for a metric's values over a run: their mean; of a peak, the highest."""
    return max(values) if name in PEAKS else sum(values) / len(values)


@dataclass(frozen=True, slots=True)
class Milestone:
    """An event and when it came, in seconds since the run's process started. `split` belongs to an evaluation."""

    kind: str
    at: float
    round: int = 0
    split: str | None = None


def evaluation_times(milestones: Sequence[Milestone]) -> list[tuple[str, float]]:
    """(split, seconds) of each scoring: from the event before its first result to its last result."""
    found: list[tuple[str, float]] = []
    last: Milestone | None = None
    for one in milestones:
        if one.kind == "evaluation_finished" and one.split is not None:
            if last is not None and last.kind == one.kind and (last.split, last.round) == (one.split, one.round):
                split, seconds = found[-1]
                found[-1] = (split, seconds + one.at - last.at)
            else:
                found.append((one.split, one.at - (last.at if last else 0.0)))
        last = one
    return found


def put_together(
    config: ExperimentConfig,
    *,
    source: str,
    device: str,
    milestones: Sequence[Milestone],
    means: Mapping[str, Mapping[str, float]],
    questions: Mapping[str, int],
    wall: float,
    size_bytes: int | None = None,
) -> MeasuredRun | None:
    """A run's measurement from its milestones in order, its steps' mean metrics by student, and the questions that scoring a split asked.

    None where it does not hold what is needed: the run did not complete in one go, or stems from an earlier version.
    """
    start = next((one.at for one in milestones if one.kind == "run_started"), None)
    complete = bool(milestones) and milestones[-1].kind == "run_finished"
    if start is None or not complete or any(name not in means.get(one.name, {}) for one in config.students for name in NEEDED):
        return None
    steps = config.schedule.rounds * config.schedule.steps_per_round
    evaluations = [
        EvaluationMeasured(
            split="test" if split == "test" else "validation",
            questions=questions.get(split, 0),
            samples=config.evaluation.samples,
            seconds=seconds,
        )
        for split, seconds in evaluation_times(milestones)
    ]
    return MeasuredRun(
        source=source,
        device=device,
        config=config.model_dump(mode="json", exclude_defaults=True),
        students=tuple(
            StudentMeasured(name=one.name, model=one.model, shape=model_shape(one.model), steps=steps, means=dict(means[one.name]))
            for one in config.students
        ),
        evaluations=tuple(evaluations),
        startup=start,
        wall=wall,
        size_bytes=size_bytes,
    )


def from_events(
    config: ExperimentConfig, events: Iterable[Event], *, source: str, device: str, started: float, ended: float
) -> MeasuredRun | None:
    """A run's measurement from its events; `started` and `ended` are POSIX times of its process."""
    milestones: list[Milestone] = []
    sums: dict[str, dict[str, list[float]]] = {student.name: {} for student in config.students}
    questions: dict[str, dict[str, int]] = {}
    for event in events:
        if event.kind == "exchange_recorded":
            continue
        split = event.evaluation.split if isinstance(event, EvaluationFinished) else None
        round = event.evaluation.round if isinstance(event, EvaluationFinished) else getattr(event, "round", 0)
        milestones.append(Milestone(event.kind, event.at.timestamp() - started, round, split))
        if isinstance(event, EvaluationFinished):
            questions.setdefault(event.evaluation.split, {})[event.evaluation.domain] = event.evaluation.questions
        if isinstance(event, StepFinished):
            for name in METRICS:
                if (value := event.metrics.get(f"{event.tutee}/{name}")) is not None:
                    sums[event.tutee].setdefault(name, []).append(value)
    means = {student: {name: gathered(name, values) for name, values in found.items()} for student, found in sums.items()}
    asked = {split: sum(domains.values()) for split, domains in questions.items()}
    return put_together(config, source=source, device=device, milestones=milestones, means=means, questions=asked, wall=ended - started)
