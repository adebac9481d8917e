"""How fast a device is: the weights of each count of work, fitted by least squares on what earlier runs measured.

Runs of the same device decide. Those that the package ships, measured on another machine, give the weights their first
values and fade as the device's own runs come in (`PULL` of them count as much as one observation each).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import fmean

from opcod.estimation import leastsquares
from opcod.estimation.behaviour import of_run
from opcod.estimation.jobs import evaluation_features, step_features
from opcod.estimation.measured import MeasuredRun
from opcod.estimation.models import ModelShape
from opcod.estimation.work import Features

SAMPLING = ("rollout", "feedback", "break_rescue", "evaluation")
"""Kinds of work that share the weights of sampling; each has a factor of its own for what else it does."""
UPDATE = ("update",)
PULL = 2.0
LEAST_SECONDS = 1e-3
"""A part that took less is not measured, but absent."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Work of one kind that took so long. `steps` measured ones stand behind it."""

    kind: str
    features: Features
    seconds: float
    steps: int


@dataclass(frozen=True, slots=True)
class Clock:
    """What a device takes for each kind of work, in seconds."""

    sampling: tuple[float, ...]
    update: tuple[float, ...]
    factors: dict[str, float]
    startup: dict[bool, float]
    """Side by side or not -> seconds."""
    rest: tuple[float, float]
    """Seconds a round, and an exchange."""

    def seconds(self, kind: str, features: Features) -> float:
        """What work of this kind takes."""
        weights = self.update if kind in UPDATE else self.sampling
        return self.factors.get(kind, 1.0) * _dot(weights, features)

    def startup_seconds(self, side_by_side: bool) -> float:
        """From a process's start to the run's first event."""
        return self.startup[side_by_side] if side_by_side in self.startup else fmean(self.startup.values())


def observations(run: MeasuredRun) -> list[Observation]:
    """The parts of a run's steps, and its scorings; nothing of students whose size is not known."""
    config = run.settings
    shapes = [student.shape for student in run.students]
    if any(shape is None for shape in shapes):
        return []
    known: list[ModelShape] = [shape for shape in shapes if shape is not None]
    behaviours = [of_run(run, student) for student in run.students]
    found = []
    for place, student in enumerate(run.students):
        parts = step_features(config, known[place], tutor_shape(known, place), behaviours[place])
        for kind, features in parts.items():
            seconds = student.means.get(f"timing_s/{kind}", 0.0)
            if seconds > LEAST_SECONDS and any(features):
                found.append(Observation(kind, features, seconds, student.steps))
    for one in run.evaluations:
        if one.questions and one.seconds > LEAST_SECONDS:
            found.append(
                Observation("evaluation", evaluation_features(config, one.questions, known, behaviours), one.seconds, one.questions)
            )
    return found


def tutor_shape(shapes: Sequence[ModelShape], place: int) -> ModelShape:
    """The largest of a student's peers."""
    return max((shape for other, shape in enumerate(shapes) if other != place), key=lambda shape: shape.parameters)


def fit(own: Sequence[MeasuredRun], others: Sequence[MeasuredRun]) -> Clock | None:
    """The clock of a device from its own runs, with those of other devices of its kind for a start; None where there are none."""
    if not own:
        return _fit(others, None) if others else None
    return _fit(own, _fit(others, None) if others else None)


def _fit(runs: Sequence[MeasuredRun], before: Clock | None) -> Clock | None:
    seen = [one for run in runs for one in observations(run)]
    sampling = _weights([one for one in seen if one.kind in SAMPLING], before.sampling if before else None)
    update = _weights([one for one in seen if one.kind in UPDATE], before.update if before else None)
    if sampling is None or update is None:
        return None
    factors = dict(before.factors) if before else {}
    for kind in SAMPLING:
        of_kind = [log(one.seconds / predicted) for one in seen if one.kind == kind and (predicted := _dot(sampling, one.features)) > 0]
        if of_kind:
            factors[kind] = exp(fmean(of_kind))
    startup = dict(before.startup) if before else {}
    for flag in (True, False):
        starts = [run.startup for run in runs if run.settings.compute.side_by_side == flag]
        if starts:
            startup[flag] = fmean(starts)
    return Clock(sampling, update, factors, startup, _rest(runs, before))


def _weights(seen: Sequence[Observation], before: Sequence[float] | None) -> tuple[float, ...] | None:
    if not seen:
        return tuple(before) if before else None
    rows, seconds = [one.features for one in seen], [one.seconds for one in seen]
    towards = None
    if before is not None:
        predicted = [_dot(before, row) for row in rows]
        if all(value > 0 for value in predicted):
            faster = leastsquares.scale(predicted, seconds)
            towards = [faster * weight for weight in before]
    return tuple(leastsquares.fit(rows, seconds, towards=towards, pull=PULL if towards else 0.0))


def _rest(runs: Sequence[MeasuredRun], before: Clock | None) -> tuple[float, float]:
    rows = [rest_features(run) for run in runs]
    seconds = [max(run.rest, LEAST_SECONDS) for run in runs]
    rounds, exchange = leastsquares.fit(rows, seconds, towards=before.rest if before else None, pull=1.0 if before else 0.0)
    return rounds, exchange


def rest_features(run: MeasuredRun) -> Features:
    """Rounds with their checkpoints, the end included, and exchanges that were recorded."""
    schedule, each = run.settings.schedule, run.settings.generation.rollouts
    return (
        schedule.rounds + 1.0,
        float(schedule.rounds * schedule.steps_per_round * schedule.questions_per_step * each * len(run.students)),
    )


def _dot(weights: Sequence[float], features: Sequence[float]) -> float:
    return sum(weight * value for weight, value in zip(weights, features, strict=True))
