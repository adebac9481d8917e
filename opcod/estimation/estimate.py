"""From an experiment's settings and earlier runs to what it will take, with how sure that is.

The uncertainty is measured too: each earlier run is predicted from all others, and how far off these predictions were is the
width of this one. What no run has shown, such as the answers of students that were never run here, widens it further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import log, sqrt
from statistics import fmean

from pydantic import TypeAdapter

from opcod.config import ExperimentConfig
from opcod.estimation.behaviour import Behaviour, expected, factor, of_run
from opcod.estimation.clock import Clock, fit, observations, tutor_shape
from opcod.estimation.figures import Basis, Estimate, Figure, Part
from opcod.estimation.jobs import evaluation_features, evaluation_job, step_features, step_jobs
from opcod.estimation.measured import MeasuredRun
from opcod.estimation.models import ModelShape, model_shape
from opcod.estimation.questions import DomainSize, asked_questions, domain_sizes
from opcod.estimation.space import disk_bytes, grows, phase_bytes, run_bytes, student_bytes
from opcod.types import Split

CPU = "cpu"
A_CPU = "CPU"
"""Stands for one of which nothing is known."""
ANOTHER_MACHINE = 0.4
"""Standard deviation of the logarithm where no run of the device itself was measured."""
LEAST_SPREAD = 0.06
"""No prediction is surer than this: machines are never quite alike from one hour to the next."""
PER_DOUBLING = 0.12
"""What each doubling away from the sizes that were measured adds."""
COMPUTED_MEMORY = 0.25
"""Spread of a memory figure that is computed from shapes alone."""
PROCESS_BYTES = 600e6
"""A training process on a CPU before it holds a student, where none was measured."""

DATA_ELSEWHERE = "How many questions are scored is not known: the data is on the hub, or cannot be read here."
SPLITS: tuple[Split, ...] = ("validation", "test")
"""That are scored."""

_RUNS: TypeAdapter[tuple[MeasuredRun, ...]] = TypeAdapter(tuple[MeasuredRun, ...])


@cache
def shipped() -> tuple[MeasuredRun, ...]:
    """Runs that were measured when the package was made (`make calibrate`), on a CPU."""
    return _RUNS.validate_json(resources.files("opcod.estimation").joinpath("shipped.json").read_bytes())


def kind_of(device: str) -> str:
    """`cpu` or `gpu`, by a worker's name for its device."""
    return CPU if device.lower().startswith(CPU) else "gpu"


@dataclass(frozen=True, slots=True)
class _Plan:
    """A run's settings with all that is known of what they name."""

    config: ExperimentConfig
    shapes: list[ModelShape]
    behaviours: list[Behaviour]
    sizes: Sequence[DomainSize] | None


def estimate(
    config: ExperimentConfig, *, device: str = A_CPU, history: Sequence[MeasuredRun] = (), others: Sequence[MeasuredRun] | None = None
) -> Estimate:
    """What `config` will take on `device`, a worker's name for it. Looks at the students' and the data's files.

    Args:
        config: settings that hold.
        device: where it will train.
        history: completed runs, newest first, of any device.
        others: what helps until the device has runs of its own; by default the shipped ones.
    """
    given = shipped() if others is None else tuple(others)
    alike = [run for run in (*history, *given) if kind_of(run.device) == kind_of(device)]
    own = [run for run in history if run.device == device]
    rest = [run for run in alike if run not in own]
    sizes = domain_sizes(config)
    found = [model_shape(student.model) for student in config.students]
    behaviours = [expected(config, place, sizes or (), [*history, *given]) for place in range(len(found))]
    tokens, in_training, token_notes = _tokens(config, behaviours, sizes)
    missing = [student.model for student, shape in zip(config.students, found, strict=True) if shape is None]
    if missing:
        reason = f"The size of {missing[0]} is not known here: it is not on this machine's disk."
        nothing = Figure.unknown(reason)
        basis = Basis(device=device, own_runs=len(own), shipped_runs=len(rest), steps=0)
        return Estimate(
            seconds=nothing, memory_bytes=nothing, disk_bytes=nothing, tokens=tokens, training_tokens=in_training, parts=[], basis=basis,
            notes=[*token_notes],
        )  # fmt: skip
    plan = _Plan(config, [shape for shape in found if shape is not None], behaviours, sizes)
    clock = fit(own, rest)
    seconds, parts = _time(plan, clock, own, rest, device)
    steps = sum(student.steps for run in (*own, *rest) for student in run.students)
    return Estimate(
        seconds=seconds,
        memory_bytes=_memory(plan, [*own, *rest], device),
        disk_bytes=_disk(plan),
        tokens=tokens,
        training_tokens=in_training,
        parts=parts,
        basis=Basis(device=device, own_runs=len(own), shipped_runs=len(rest), steps=steps),
        notes=token_notes,
    )


def predicted_parts(
    config: ExperimentConfig, clock: Clock, shapes: list[ModelShape], behaviours: list[Behaviour], asked: Mapping[Split, int]
) -> dict[str, float]:
    """Seconds of each part of a whole run. `asked`: split -> questions that one scoring asks a student."""
    schedule = config.schedule
    side_by_side = config.compute.side_by_side
    lanes = len(shapes) if side_by_side else 1
    steps = schedule.rounds * schedule.steps_per_round
    parts = {"startup": clock.startup_seconds(side_by_side), "evaluation": 0.0}
    scorings: dict[Split, int] = {"validation": schedule.rounds + 1, "test": 1 + config.evaluation.initial_test}
    for split, times in scorings.items():
        if asked.get(split):
            parts["evaluation"] += times * clock.seconds("evaluation", evaluation_features(config, asked[split], shapes, behaviours))
    for place, (shape, one) in enumerate(zip(shapes, behaviours, strict=True)):
        for kind, features in step_features(config, shape, tutor_shape(shapes, place), one).items():
            parts[kind] = parts.get(kind, 0.0) + steps * clock.seconds(kind, features) / lanes
    exchanges = steps * schedule.questions_per_step * config.generation.rollouts * len(shapes)
    parts["rest"] = clock.rest[0] * (schedule.rounds + 1) + clock.rest[1] * exchanges
    return parts


def _time(
    plan: _Plan, clock: Clock | None, own: Sequence[MeasuredRun], rest: Sequence[MeasuredRun], device: str
) -> tuple[Figure, list[Part]]:
    if clock is None:
        return Figure.unknown(f"No completed run has been measured on {'a GPU' if kind_of(device) == 'gpu' else device} yet."), []
    asked = {split: asked_questions(plan.config, split, plan.sizes) for split in SPLITS}
    if any(count is None for count in asked.values()):
        return Figure.unknown(DATA_ELSEWHERE), []
    parts = predicted_parts(plan.config, clock, plan.shapes, plan.behaviours, {split: count or 0 for split, count in asked.items()})
    total = sum(parts.values())
    spread = sqrt(_trust(own, rest) ** 2 + _beyond(plan, [*own, *rest]) ** 2 + _lengths(plan) ** 2)
    reasons = [] if own else [f"No run has been measured on {device} yet; these are the times of another machine."]
    if any(not one.known for one in plan.behaviours):
        reasons.append("How long these students answer is not known before they have been run.")
    figure = Figure.around(total, factor(spread), reason=" ".join(reasons))
    return figure, [Part(name=name, seconds=seconds) for name, seconds in parts.items()]


def _lengths(plan: _Plan) -> float:
    return max(one.spread for one in plan.behaviours)


def _beyond(plan: _Plan, runs: Sequence[MeasuredRun]) -> float:
    """What lies outside the sizes that were measured."""
    measured = [log(student.shape.parameters) for run in runs for student in run.students if student.shape]
    doublings = [max(0.0, log(shape.parameters) - max(measured), min(measured) - log(shape.parameters)) / log(2) for shape in plan.shapes]
    return PER_DOUBLING * max(doublings)


def _trust(own: Sequence[MeasuredRun], rest: Sequence[MeasuredRun]) -> float:
    """The standard deviation of the logarithm of what a prediction is off by."""
    errors = leave_one_out(tuple(own), tuple(rest)) if len(own) > 1 else ()
    if len(errors) >= 3:
        return max(LEAST_SPREAD, sqrt(fmean(error * error for error in errors)))
    among = leave_one_out(tuple(rest), ())
    base = max(LEAST_SPREAD, sqrt(fmean(error * error for error in among))) if among else 0.2
    return base if own else sqrt(base**2 + ANOTHER_MACHINE**2)


_ERRORS: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[float, ...]] = {}


def leave_one_out(runs: tuple[MeasuredRun, ...], rest: tuple[MeasuredRun, ...]) -> tuple[float, ...]:
    """log(measured / predicted) of each run's time, when it is predicted from the others with what its students did in it."""
    key = (tuple(f"{run.source} {run.wall}" for run in runs), tuple(f"{run.source} {run.wall}" for run in rest))
    if key not in _ERRORS:
        if len(_ERRORS) > 256:
            _ERRORS.clear()
        _ERRORS[key] = tuple(error for place in range(len(runs)) if (error := _error(runs, place, rest)) is not None)
    return _ERRORS[key]


def _error(runs: tuple[MeasuredRun, ...], place: int, rest: tuple[MeasuredRun, ...]) -> float | None:
    left_out = runs[place]
    clock = fit([run for other, run in enumerate(runs) if other != place], rest)
    shapes = [student.shape for student in left_out.students if student.shape]
    if clock is None or len(shapes) < len(left_out.students) or not observations(left_out):
        return None
    behaviours = [of_run(left_out, student) for student in left_out.students]
    asked: dict[Split, int] = {one.split: one.questions for one in left_out.evaluations}
    parts = predicted_parts(left_out.settings, clock, shapes, behaviours, asked)
    return log(left_out.wall / sum(parts.values()))


def _memory(plan: _Plan, runs: Sequence[MeasuredRun], device: str) -> Figure:
    config, on_cpu = plan.config, kind_of(device) == CPU
    if on_cpu:
        config = config.with_compute(micro_batch_tokens=config.compute.known_micro_batch_tokens)
    students = [student_bytes(config, place, plan.shapes, one) for place, one in enumerate(plan.behaviours)]
    bases = [base for run in runs for base in process_bases(run)] if on_cpu else []
    base = fmean(bases) if bases else PROCESS_BYTES if on_cpu else 0.0
    total, processes = run_bytes(config, students, base)
    computed = total - processes * base
    off = sqrt(fmean((one - base) ** 2 for one in bases)) if bases else 0.0
    spread = sqrt((COMPUTED_MEMORY * computed) ** 2 + (processes * off) ** 2) / total
    reason = "" if on_cpu else "Computed from the students' shapes: no run's memory has been measured on a GPU yet."
    if grows(config):
        reason += " It is the least: micro-batches grow into what is free."
    return Figure.around(total, factor(spread), reason=reason)


def process_bases(run: MeasuredRun) -> list[float]:
    """What each training process of a run took beyond what is computed for its students."""
    shapes = [student.shape for student in run.students if student.shape]
    if len(shapes) < len(run.students):
        return []
    measured = run.settings.compute.known_micro_batch_tokens  # of a CPU, as all runs that were measured
    config = run.settings.with_compute(micro_batch_tokens=measured)
    behaviours = [of_run(run, student) for student in run.students]
    students = [student_bytes(config, place, shapes, one) for place, one in enumerate(behaviours)]
    peaks = [student.means.get("memory/peak_bytes", 0.0) for student in run.students]
    if not all(peaks):
        return []
    computed = [max(phases.values()) for phases in phase_bytes(config, students)]
    return [max(0.0, peak - one) for peak, one in zip(peaks if len(computed) > 1 else [max(peaks)], computed, strict=True)]


def _disk(plan: _Plan) -> Figure:
    return Figure.around(disk_bytes(plan.config, plan.shapes, plan.behaviours), 1.1)


def _tokens(
    config: ExperimentConfig, behaviours: Sequence[Behaviour], sizes: Sequence[DomainSize] | None
) -> tuple[Figure, Figure, list[str]]:
    schedule = config.schedule
    steps = schedule.rounds * schedule.steps_per_round
    shape = ModelShape(parameters=1, layers=1, attention=1, key_value=1, hidden=1, intermediate=1, vocabulary=1)
    jobs = [step_jobs(config, shape, one) for one in behaviours]
    rollouts = steps * sum(one.rollout.sampled for one in jobs)
    feedback = steps * sum(one.feedback.sampled for one in jobs)
    again = schedule.rounds * sum(one.again.sampled for one in jobs)
    notes = []
    if any(not one.known for one in behaviours):
        notes.append("No earlier run tells how long these students answer: between a tenth of the limit and all of it is assumed.")
    gated = config.method.algorithm == "opcod" and config.method.gate.strategy in ("cognizance", "domain_selective")
    if gated and any(one.asked >= 1 for one in behaviours):
        notes.append("Every gate is assumed open, in every round; shut gates save the time and the tokens of feedback.")
    off = factor(sqrt(max(one.spread for one in behaviours) ** 2 + 0.03**2))
    low = rollouts / off if gated else None
    training = Figure.around(rollouts + feedback, off, low=low)
    questions = {split: asked_questions(config, split, sizes) for split in SPLITS}
    if any(count is None for count in questions.values()):
        return Figure.unknown(DATA_ELSEWHERE), training, notes
    scorings: dict[Split, int] = {"validation": schedule.rounds + 1, "test": 1 + config.evaluation.initial_test}
    scored = sum(
        scorings[split] * evaluation_job(config, count or 0, one).sampled for split, count in questions.items() for one in behaviours
    )
    total = rollouts + feedback + again + scored
    return Figure.around(total, off, low=(rollouts + scored) / off if gated else None), training, notes
