"""Memory and disk of a run, computed from its students' shapes: bytes of weights, optimiser, caches, activations and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opcod.config import ExperimentConfig
from opcod.estimation.behaviour import Behaviour
from opcod.estimation.models import ModelShape

FLOAT32 = 4
BYTES = {"float32": 4, "bfloat16": 2}
VOCABULARY_COPIES = 5
"""Float32 copies of a row over the vocabulary that sampling holds at once: logits, log-probabilities, probabilities twice."""
SCORED_COPIES = 8
"""As much for an update: student's and teacher's logits, log-softmax, gradients."""
ACTIVATIONS_HIDDEN = 10
ACTIVATIONS_INNER = 4
"""Values a token and layer that the backward pass needs, in units of the hidden and of the inner width."""
TOKENIZER_BYTES = 50_000


@dataclass(frozen=True, slots=True)
class StudentBytes:
    """What one student holds in memory while it trains, beyond the libraries themselves."""

    weights: int
    optimizer: int
    teacher: int
    tutors: int
    sampling: int
    update: int

    @property
    def standing(self) -> int:
        """Held all the time."""
        return self.weights + self.optimizer + self.teacher

    @property
    def peak(self) -> int:
        """While it is the tutee."""
        return self.standing + self.tutors + max(self.sampling, self.update)


def student_bytes(config: ExperimentConfig, shape: ModelShape, peers: Sequence[ModelShape], one: Behaviour) -> StudentBytes:
    """Memory of a student with its self-teacher, its optimiser and the peers that tutor it."""
    wide = BYTES[config.compute.dtype]
    trained = shape.trainable(config.compute.adapters)
    masters = config.compute.dtype == "bfloat16" and config.compute.adapters is None
    own = wide if config.compute.adapters is None else FLOAT32
    distils = config.method.algorithm != "grpo"
    return StudentBytes(
        weights=shape.parameters * wide + (trained * FLOAT32 if config.compute.adapters else 0),
        optimizer=trained * (2 * FLOAT32 + own) + (trained * 2 * FLOAT32 if masters else 0),  # moments, gradient; master and its gradient
        teacher=trained * (own + (FLOAT32 if masters else 0)) if distils else 0,
        tutors=sum(peer.parameters for peer in peers) * wide if one.asked else 0,
        sampling=_sampling(config, shape, one, wide),
        update=_update(config, shape, one, wide),
    )


def run_bytes(config: ExperimentConfig, students: Sequence[StudentBytes], base: float) -> tuple[float, int]:
    """(memory of all processes, number of processes that train). `base` is what a process takes for its libraries."""
    if config.compute.side_by_side:
        return sum(base + student.peak for student in students), len(students)
    standing = sum(student.standing for student in students)
    return base + standing + max(student.peak - student.standing for student in students), 1


def _sampling(config: ExperimentConfig, shape: ModelShape, one: Behaviour, wide: int) -> int:
    questions, each = config.schedule.questions_per_step, config.generation.rollouts
    rows = min(config.generation.batch_size, max(questions * each, config.evaluation.samples * 8))
    length = one.prompt + one.longest
    if one.asked:
        length = max(length, one.feedback_prompt + one.feedback_longest)
    cache = rows * length * shape.layers * 2 * shape.key_value * wide
    return int(1.5 * cache + rows * shape.vocabulary * FLOAT32 * VOCABULARY_COPIES)  # a cache that grows is copied, a layer at a time


def _update(config: ExperimentConfig, shape: ModelShape, one: Behaviour, wide: int) -> int:
    width = max(one.prompt, one.teacher_prompt) + one.response
    rows = config.schedule.questions_per_step * config.generation.rollouts
    tokens = max(width, min(config.compute.micro_batch_tokens, rows * width))
    a_layer = ACTIVATIONS_HIDDEN * shape.hidden + 2 * (shape.attention + shape.key_value) + ACTIVATIONS_INNER * shape.intermediate
    layers = shape.layers * shape.hidden + a_layer if config.compute.gradient_checkpointing else shape.layers * a_layer
    scored = tokens * one.response / width if width else 0
    return int(tokens * layers * wide + scored * shape.vocabulary * FLOAT32 * SCORED_COPIES)


def disk_bytes(config: ExperimentConfig, shapes: Sequence[ModelShape], behaviours: Sequence[Behaviour]) -> float:
    """What the run leaves in its store: the checkpoints that are kept, the tutors they need, and the exported students."""
    wide = BYTES[config.compute.dtype]
    adapters = config.compute.adapters
    total = 0.0
    for shape, one in zip(shapes, behaviours, strict=True):
        trained = shape.trainable(adapters)
        own = wide if adapters is None else FLOAT32
        masters = FLOAT32 if wide < FLOAT32 and adapters is None else 0
        teacher = FLOAT32 if config.method.algorithm != "grpo" else 0
        state = trained * (own + 2 * FLOAT32 + masters + teacher)
        tutor = trained * own if one.asked else 0
        total += _states(config, len(shapes)) * state + _tutor_sets(config) * tutor + shape.parameters * wide + TOKENIZER_BYTES
    return total


def _states(config: ExperimentConfig, students: int) -> float:
    """States of each student that the kept checkpoints name. In turn, a checkpoint brings one new state; side by side, one of each."""
    recording, schedule = config.recording, config.schedule
    inside = -(-schedule.steps_per_round // recording.checkpoint_every_steps)
    made = schedule.rounds * inside + 1
    kept = min(recording.keep_checkpoints, made)
    extra = recording.keep_first + recording.keep_best
    moved = kept if config.compute.side_by_side or students == 1 else 1 + (kept - 1) / students
    return min(made, moved + extra)


def _tutor_sets(config: ExperimentConfig) -> float:
    """Rounds whose frozen tutors the kept checkpoints name."""
    inside = -(-config.schedule.steps_per_round // config.recording.checkpoint_every_steps)
    phases = 1 if config.compute.side_by_side else len(config.students)
    rounds = 1 + (config.recording.keep_checkpoints - 1) // max(1, inside * phases + 1)
    return min(config.schedule.rounds, rounds) + config.recording.keep_first + config.recording.keep_best
