"""Memory and disk of a run, computed from its students' shapes: bytes of weights, optimiser, caches, activations and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opcod.config import FIRST_MICRO_BATCH_TOKENS, ExperimentConfig
from opcod.estimation.behaviour import Behaviour
from opcod.estimation.models import ModelShape

FLOAT32 = 4
BYTES = {"float32": 4, "bfloat16": 2}
SAMPLED_COPIES = 3
"""Float32 rows over the vocabulary that sampling holds at once: logits as they are and at the temperature, probabilities."""
NUCLEUS_COPIES = 4
"""More of them where the nucleus may be the whole vocabulary: sorted probabilities and tokens (8 bytes each), the sums before each."""
SPARE_COLUMNS = 32
"""Columns that the cache has for tokens to come; those of `opcod.generation.cache`, which needs torch."""
CHUNK_LOGITS = 2**25
"""Logits that the loss reads out at once, and up to which they are held; those of `opcod.distillation`, which needs torch."""
CHUNK_COPIES = 4
"""Buffers of the loss's chunk: logits as the model has them and scaled, their exponentials."""
LOGITS_COPIES = 5
"""Copies of logits that are few enough to be held: student's and teacher's, as the loss has them, the gradient."""
TOKENIZER_BYTES = 50_000


@dataclass(frozen=True, slots=True)
class StudentBytes:
    """What one student holds in memory, beyond the libraries themselves; in each of the processes that train it together."""

    model: str
    base: int
    """All weights, in as many parts as there are processes; or, where each has adapters, those that students of the same model share."""
    weights: int
    """Of its own: the adapters."""
    optimizer: int
    teacher: int
    tutors: int
    """Weights of the frozen peers beside it while it is tutored, without bases."""
    phases: Mapping[str, int]
    """What each part of its work adds while it lasts: `evaluation`, `rollout`, `feedback`, `update`."""

    @property
    def standing(self) -> int:
        """Its own, all the time; without its base."""
        return self.weights + self.optimizer + self.teacher

    def peaks(self) -> dict[str, int]:
        """Phase -> what it adds to what stands. Tutors are there from the rollouts to the update."""
        return {phase: added + (self.tutors if phase != "evaluation" else 0) for phase, added in self.phases.items()}


def student_bytes(config: ExperimentConfig, place: int, shapes: Sequence[ModelShape], one: Behaviour) -> StudentBytes:
    """Memory of student number `place` with its self-teacher, its optimiser and the peers that tutor it."""
    shape = shapes[place]
    wide = BYTES[config.compute.dtype]
    adapters = config.compute.adapters
    own = FLOAT32 if adapters else wide
    parts = _parts(config)
    trained = -(-shape.trainable(adapters) // parts)
    masters = trained * FLOAT32 if own < FLOAT32 else 0
    distils = config.method.algorithm != "grpo"
    peers = [peer for other, peer in enumerate(shapes) if other != place] if one.asked else []

    def gathered(model: ModelShape) -> int:
        """What comes to a model's part while it works."""
        return model.parameters * wide - _part(model, config)

    return StudentBytes(
        model=config.students[place].model,
        base=_part(shape, config),
        weights=trained * own if adapters else 0,
        optimizer=trained * 2 * FLOAT32 + masters,
        teacher=trained * own + masters if distils else 0,
        tutors=sum(peer.trainable(adapters) * own if adapters else _part(peer, config) for peer in peers),
        phases={
            "evaluation": _evaluation(config, shape, one) + gathered(shape),
            "rollout": _rollout(config, shape, one) + gathered(shape),
            "feedback": max((_feedback(config, peer, one) + gathered(peer) for peer in peers), default=0),
            "update": _update(config, shape, one, (2 if distils else 1) * gathered(shape)),
        },
    )


def _parts(config: ExperimentConfig) -> int:
    """In how many parts weights, moments and averages are: around adapters each process has all of them."""
    return 1 if config.compute.adapters else config.compute.gpus


def _part(shape: ModelShape, config: ExperimentConfig) -> int:
    """Bytes of a model's weights in one process, at rest."""
    return -(-shape.parameters // _parts(config)) * BYTES[config.compute.dtype]


def _share(config: ExperimentConfig, count: int) -> int:
    """The most that one of the processes gets of so many prompts."""
    return -(-count // config.compute.gpus)


def phase_bytes(config: ExperimentConfig, students: Sequence[StudentBytes]) -> list[dict[str, int]]:
    """Peak of each phase, by process that trains: one for each student side by side, else one in which each phase is its largest.
    Of a team's processes, which hold the same, one.

    Bases of the same model are there once in a process where there are adapters, else once a student.
    """
    adapters = config.compute.adapters is not None
    if config.compute.side_by_side:
        found = []
        for student in students:
            tutors = {peer.model: peer.base for peer in students} if adapters and student.tutors else {}
            bases = sum({**tutors, student.model: student.base}.values())
            found.append({phase: bases + student.standing + added for phase, added in student.peaks().items()})
        return found
    bases = sum({student.model: student.base for student in students}.values() if adapters else (student.base for student in students))
    standing = bases + sum(student.standing for student in students)
    return [{phase: standing + max(student.peaks()[phase] for student in students) for phase in students[0].phases}]


def run_bytes(config: ExperimentConfig, students: Sequence[StudentBytes], base: float) -> tuple[float, int]:
    """(memory of all processes on a device, their number). `base` is what a process takes for its libraries.

    A team's processes have a GPU each, or the CPU together.
    """
    together = config.compute.gpus if config.compute.device == "cpu" else 1
    processes = [max(peaks.values()) for peaks in phase_bytes(config, students)] * together
    return base * len(processes) + sum(processes), len(processes)


def _evaluation(config: ExperimentConfig, shape: ModelShape, one: Behaviour) -> int:
    evaluation = config.evaluation
    validation = None if evaluation.validation_questions is None else evaluation.validation_questions // len(config.domains)
    rows = config.generation.batch_size
    if validation is not None and evaluation.test_questions is not None:
        rows = min(rows, _share(config, max(validation, evaluation.test_questions)) * evaluation.samples)
    return _sampling(config, shape, rows, evaluation.samples, one.prompt, one.longest, nucleus=evaluation.top_p < 1)


def _rollout(config: ExperimentConfig, shape: ModelShape, one: Behaviour) -> int:
    generation = config.generation
    rows = min(generation.batch_size, _share(config, config.schedule.questions_per_step) * generation.rollouts)
    return _sampling(config, shape, rows, generation.rollouts, one.prompt, one.longest, nucleus=generation.top_p < 1)


def _feedback(config: ExperimentConfig, tutor: ModelShape, one: Behaviour) -> int:
    feedback = config.method.feedback
    rows = min(feedback.batch_size, _share(config, config.schedule.questions_per_step * config.generation.rollouts))
    return _sampling(config, tutor, rows, 1, one.feedback_prompt, one.feedback_longest, nucleus=feedback.top_p < 1)


def _sampling(config: ExperimentConfig, shape: ModelShape, rows: int, each: int, prompt: float, new: float, *, nucleus: bool) -> int:
    """`each` responses of `new` tokens to each prompt, in a batch of `rows`: the prompts' pass, or the last token with the whole cache.

    Responses to one prompt keep it once; a response alone has its own.
    """
    if config.compute.engine == "vllm":
        return 0  # all of it is in vLLM's share of the device
    wide = BYTES[config.compute.dtype]
    prompts = max(1, rows // each)
    rows = prompts * each
    cached = 2 * shape.layers * shape.key_value * wide
    first = prompts * prompt * (cached + _passing(config, shape))
    growing = 1 + 1 / (2 * shape.layers)  # keys or values of a layer are copied into longer ones
    columns = prompts * prompt + rows * (new + SPARE_COLUMNS)
    copies = SAMPLED_COPIES + (NUCLEUS_COPIES if nucleus else 0)
    last = columns * cached * growing + rows * shape.vocabulary * FLOAT32 * copies
    return int(max(first, last))


def _passing(config: ExperimentConfig, shape: ModelShape) -> int:
    """Bytes of a token on its way through a layer, at the most: its attention or its feed-forward part.

    An adapter is float32: its input is cast, and its output there before it is scaled and after.
    """
    wide = BYTES[config.compute.dtype]
    adapted = config.compute.adapters is not None
    cast = FLOAT32 * shape.hidden if adapted and wide < FLOAT32 else 0
    feed_forward = wide * (4 * shape.hidden + (2 if adapted else 3) * shape.intermediate)
    feed_forward += cast + (2 * FLOAT32 * shape.intermediate if adapted else 0)
    attention = wide * (4 * shape.hidden + 6 * shape.attention + 2 * shape.key_value)
    return max(feed_forward, attention)


def _kept(config: ExperimentConfig, shape: ModelShape) -> int:
    """Bytes of a token in a layer that the backward pass needs.

    Norms and adapters keep their inputs in float32, and each adapter its own.
    """
    wide = BYTES[config.compute.dtype]
    norms = 2 * FLOAT32 * shape.hidden + FLOAT32 * (shape.attention + shape.key_value)
    linear = wide * (2 * shape.hidden + shape.attention + shape.intermediate)
    if config.compute.adapters and wide < FLOAT32:
        linear = FLOAT32 * (5 * shape.hidden + shape.attention + shape.intermediate)
    attention = wide * 2 * (shape.attention + _key_heads(config, shape))  # queries, output, keys and values
    return norms + linear + attention + wide * 3 * shape.intermediate


def _update(config: ExperimentConfig, shape: ModelShape, one: Behaviour, gathered: int) -> int:
    """The teacher's pass; or the student's activations with the loss; or with a layer's backward pass; or the optimiser's step.

    `gathered` are the bytes of the other processes' parts, there until the step.
    """
    compute, wide = config.compute, BYTES[config.compute.dtype]
    teaches = config.method.algorithm != "grpo"
    asked, rows = _together(config, one)
    beyond = max(0.0, one.teacher_prompt - one.prompt) if teaches else 0.0
    student, scored = asked * one.prompt + rows * one.response, rows * one.response
    many = scored * shape.vocabulary > CHUNK_LOGITS
    readout = wide * scored * (shape.hidden if many else shape.vocabulary)
    passing, kept = _passing(config, shape), _kept(config, shape)
    teacher = (student + rows * beyond) * (passing + wide * shape.hidden) if teaches else 0.0
    before = wide * 2 * _key_heads(config, shape) * (rows - asked) * one.prompt  # a prompt's keys and values once more for each row but one
    activations = shape.layers * (wide * shape.hidden * student if compute.gradient_checkpointing else kept * student + before)
    backward = student * (passing + (kept if compute.gradient_checkpointing else 0)) + (before if compute.gradient_checkpointing else 0)
    loss = CHUNK_COPIES * FLOAT32 * min(scored * shape.vocabulary, CHUNK_LOGITS) + (0 if many else LOGITS_COPIES * readout)
    mask = (asked + wide) * one.response * (one.prompt + one.response) if rows > 1 else 0.0
    trained = shape.trainable(compute.adapters)
    gradients = trained * (FLOAT32 if compute.adapters else wide)
    learning = (2 if teaches else 1) * readout + activations + mask + max(loss, backward)
    return int(max(gathered + gradients + max(teacher, learning), _stepping(config, shape, -(-gradients // _parts(config)))))


def _together(config: ExperimentConfig, one: Behaviour) -> tuple[int, int]:
    """(prompts, responses) of a micro-batch: as many questions as fit, or what of one fits, halved and halved again.

    Self-teachers' prompts begin with the question; that they share more, such as a solution, is not counted on.
    """
    limit, each = _limit(config), config.generation.rollouts
    response = one.response + (0.0 if config.method.algorithm == "grpo" else max(0.0, one.teacher_prompt - one.prompt))
    questions = _share(config, config.optimizer.mini_batch_questions or config.schedule.questions_per_step)
    if (fit := int(limit / (one.prompt + each * response))) > 0:
        return min(questions, fit), min(questions, fit) * each
    while each > 1 and one.prompt + each * response > limit:
        each = -(-each // 2)
    return 1, each


def grows(config: ExperimentConfig) -> bool:
    """Whether micro-batches take what memory is free. What is computed here of an update is then the least that it needs."""
    return config.compute.micro_batch_tokens == "auto" and config.compute.device != "cpu"


def _limit(config: ExperimentConfig) -> int:
    return FIRST_MICRO_BATCH_TOKENS if grows(config) else config.compute.known_micro_batch_tokens


def _key_heads(config: ExperimentConfig, shape: ModelShape) -> int:
    """Width of the keys that attention is given: on a GPU, those of each query head."""
    return shape.key_value if config.compute.device == "cpu" else shape.attention


def _stepping(config: ExperimentConfig, shape: ModelShape, gradients: int) -> int:
    """The optimiser's step: gradients in float32, and what it computes of one weight after the other on a CPU, of all at once on a GPU."""
    trained = -(-shape.trainable(config.compute.adapters) // _parts(config))
    at_once = trained if config.compute.device != "cpu" else min(trained, 2 * shape.vocabulary * shape.hidden)
    return max(gradients, trained * FLOAT32) + at_once * FLOAT32


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
