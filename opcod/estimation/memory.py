"""The most memory that an experiment's settings allow, part by part and phase by phase: every text is as long as it may be."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from opcod.config import ExperimentConfig
from opcod.errors import ModelError
from opcod.estimation.behaviour import Behaviour
from opcod.estimation.models import ModelShape, model_shape
from opcod.estimation.space import grows, phase_bytes, student_bytes
from opcod.estimation.words import size

LOWER = {
    "evaluation": "generation.batch_size",
    "rollout": "generation.batch_size",
    "feedback": "method.feedback.batch_size",
    "update": "compute.micro_batch_tokens",
}
"""Phase -> the setting that makes it smaller."""
USABLE = 0.9
"""Of a device's memory: the rest is for torch, its kernels, and gaps between tensors."""


class ProcessMemory(BaseModel):
    """Bytes of one process that trains."""

    model_config = ConfigDict(frozen=True)

    students: list[str]
    gpus: int = 1
    """So many processes hold as much, each on a GPU of its own, or, where the run is for a CPU, all of them there."""
    phases: dict[str, int]
    """Peak of `evaluation`, `rollout`, `feedback`, `update`, with all that stands."""
    largest_update: int | None = None
    """Where micro-batches grow into what is free: the update's peak with its whole share of a batch in one; `phases` has the least."""


class Memory(BaseModel):
    """Bytes of an experiment on its device, without what torch takes for itself; where several GPUs share it, on each of them."""

    model_config = ConfigDict(frozen=True)

    bases: dict[str, int]
    """Weights by model: shared among its students, teachers and tutors where there are adapters, else those of each student."""
    shared: bool
    adapters: int
    """Of all students, as all below."""
    optimizer: int
    teachers: int
    tutors: int
    """Beside the student that is tutored, at the most."""
    processes: list[ProcessMemory]
    vllm_share: float = 0.0
    """Of the device, by each process while text is sampled, besides the phases' bytes."""

    @property
    def peak(self) -> int:
        """Of all processes together."""
        return sum(max(process.phases.values()) for process in self.processes)

    def with_share(self, phase: str, value: int, device: float) -> float:
        """Bytes of a phase with what vLLM takes in it."""
        return value + (0 if phase == "update" else self.vllm_share * device)

    def fits(self, device: float) -> bool:
        """Into so many bytes, with something left for torch itself."""
        peaks = (max(self.with_share(phase, value, device) for phase, value in process.phases.items()) for process in self.processes)
        return sum(peaks) <= USABLE * device


def memory(config: ExperimentConfig, shapes: Sequence[ModelShape] | None = None) -> Memory:
    """What the settings allow at the most. `shapes` are the students'; by default as their files have it.

    Raises:
        ModelError: a student is not on this machine's disk.
    """
    known = shapes or [_shape(student.model) for student in config.students]
    one = longest(config)
    students = [student_bytes(config, place, known, one) for place in range(len(known))]
    names = [student.name for student in config.students]
    together = phase_bytes(config, students)
    largest = _largest_updates(config, known, one)
    groups = [[name] for name in names] if config.compute.side_by_side else [names]
    return Memory(
        bases={student.model: student.base for student in students},
        shared=config.compute.adapters is not None,
        adapters=sum(student.weights for student in students),
        optimizer=sum(student.optimizer for student in students),
        teachers=sum(student.teacher for student in students),
        tutors=max(student.tutors for student in students),
        processes=[
            ProcessMemory(students=group, gpus=config.compute.gpus, phases=phases, largest_update=most)
            for group, phases, most in zip(groups, together, largest, strict=True)
        ],
        vllm_share=config.compute.vllm_memory_fraction if config.compute.engine == "vllm" else 0.0,
    )


def _largest_updates(config: ExperimentConfig, shapes: Sequence[ModelShape], one: Behaviour) -> Sequence[int | None]:
    if not grows(config):
        return [None] * (len(shapes) if config.compute.side_by_side else 1)
    whole = config.with_compute(micro_batch_tokens=sys.maxsize)
    return [phases["update"] for phases in phase_bytes(whole, [student_bytes(whole, place, shapes, one) for place in range(len(shapes))])]


def longest(config: ExperimentConfig) -> Behaviour:
    """Students whose every prompt, response and feedback is as long as it may be, and who learn from all of them."""
    generation, feedback = config.generation, config.method.feedback
    tutored = config.method.algorithm == "opcod" and config.method.gate.strategy != "never"
    return Behaviour(
        prompt=generation.max_prompt_tokens,
        response=generation.max_response_tokens,
        longest=generation.max_response_tokens,
        feedback_prompt=feedback.max_prompt_tokens,
        feedback=feedback.max_tokens,
        feedback_longest=feedback.max_tokens,
        teacher_prompt=config.method.teacher.max_tokens,
        asked=float(tutored),
        kept=1.0,
        solved=1.0,
        spread=0.0,
        known=False,
    )


def lines(found: Memory, device: float | None) -> Iterator[str]:
    """For a terminal; `device` is its memory in bytes."""
    for model, base in found.bases.items():
        yield f"{'Weights':20}{size(base)} of {model}, once a {'process' if found.shared else 'student'}"
    own = {"Adapters": found.adapters, "Optimiser": found.optimizer, "Self-teachers": found.teachers, "Tutors": found.tutors}
    for label, value in own.items():
        if value:
            yield f"{label:20}{size(value)}"
    for process in found.processes:
        each = f", each of {process.gpus} processes" if process.gpus > 1 else ""
        yield f"Peak of {' and '.join(process.students)}{each}:"
        for phase, value in process.phases.items():
            tight = device is not None and found.with_share(phase, value, device) > USABLE * device / len(found.processes)
            most = process.largest_update if phase == "update" else None
            lower = "compute.vllm_memory_fraction" if found.vllm_share and phase != "update" else LOWER[phase]
            if most is not None:
                lower = "generation.max_response_tokens"  # one response at a time is the least
            told = f", too much: lower {lower}" if tight else "" if most is None else _growing(value, most, device, len(found.processes))
            yield f"  {phase:18}{size(value)}{told}"
    if found.vllm_share:
        yield f"{'vLLM':20}{found.vllm_share:.0%} of the device besides, in each process while text is sampled"
    verdict = "" if device is None else f" {'Fits' if found.fits(device) else 'Does not fit'} into {size(device)}."
    yield f"{'Peak':20}{size(found.peak)}, besides what torch and its kernels take.{verdict}"


def _growing(least: int, most: int, device: float | None, processes: int) -> str:
    """What micro-batches that take what is free come to in each process."""
    reached = most if device is None else min(most, USABLE * device / processes)
    return f" at the least; micro-batches grow into what is free, up to {size(reached)}" if reached > least else ""


def _shape(ref: str) -> ModelShape:
    shape = model_shape(ref)
    if shape is None:
        raise ModelError(
            f"The size of {ref} is not known here: it is not on this machine's disk.", advice="Fetch it, or give a local folder."
        )
    return shape
