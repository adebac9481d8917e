"""One student and all that happens to it in a run: loading, scoring, its phases, its states, its export.

A host may live in a process of its own (`opcod.training.hosts`), so its methods take and give plain data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from opcod.config import FIRST_MICRO_BATCH_TOKENS, ExperimentConfig, StudentConfig
from opcod.errors import DataError, ModelError
from opcod.evaluation.accuracy import evaluate, evaluation_params
from opcod.generation.base import Engine
from opcod.generation.policy import Policy
from opcod.generation.server import ServerEngine
from opcod.generation.tutoring import Tutor
from opcod.generation.vllm import VllmEngine, open_engine
from opcod.profiling.gauges import CudaMemory
from opcod.seeds import derive_seed
from opcod.students.bases import Bases
from opcod.students.chat import end_token_ids
from opcod.students.ema import ExponentialAverage
from opcod.students.export import export_student
from opcod.students.loading import DTYPES, Student, load_student, resolve_device
from opcod.students.lora import load_trainable_state, trainable_state
from opcod.students.references import check_top_k
from opcod.tasks.questions import DomainData
from opcod.tasks.verifiers import make_verifier
from opcod.training.checkpoints import explained_disk_errors, load_state, save_state, tutor_path
from opcod.training.manifest import StudentState
from opcod.training.micro_batch_size import MicroBatchSize
from opcod.training.optimizer import Optimizer
from opcod.training.sampler import balanced_subset
from opcod.training.step import StepRecord, Tutee, Tutoring, run_step
from opcod.training.team import ALONE, Team, TeamEngine
from opcod.training.update import Learner
from opcod.types import Evaluation, GateDecision, Question, Scores, Split


@dataclass(frozen=True, slots=True)
class StudentFacts:
    """What the trainer reports of a loaded student."""

    trainable_parameters: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What a student's host is made from, but for what it shares with others. `config` has the host's own device."""

    config: ExperimentConfig
    name: str
    folder: Path
    domains: tuple[DomainData, ...]
    threads: int
    sharers: int = 1
    """Processes of the run that have the device."""
    tutor_device: str | None = None
    """Where those live that tutor the student; None: on its own."""


class StudentHost:
    """Holds a student, its self-teacher and its optimiser. `bases` are what it shares with the other hosts of its process.

    In a team each process has such a host, and all must make the same calls; only the first writes, and only its answers count.
    """

    def __init__(self, settings: HostSettings, bases: Bases | None = None, team: Team = ALONE) -> None:
        torch.set_num_threads(settings.threads)
        config, name = settings.config, settings.name
        if (device := resolve_device(config.compute.device)).type == "cuda":
            torch.cuda.set_device(device)  # the one whose memory is told of and let go
        self.config = config
        self.bases = bases or Bases()
        self.name = name
        self.folder = settings.folder
        self.domains = {domain.name: domain for domain in settings.domains}
        self.verifiers = {domain.name: make_verifier(domain.verifier) for domain in config.domains}
        self.team = team
        self.tutor_device = settings.tutor_device or config.compute.device
        self.student = self._load(name, config.compute.device)
        distils = config.method.algorithm != "grpo"
        self.teacher = ExponentialAverage(self.student.model, config.method.teacher.ema_rate, team.shard) if distils else None
        team.shard(self.student.model)
        self.policy = self._policy(self.student, config.generation.batch_size, self._vllm(self.student))
        self.optimizer = Optimizer(self.student.model, config.optimizer)
        self.micro_batches = _micro_batch_size(config, device, settings.sharers)
        self.steps = 0
        self.tutoring = Tutoring()

    def check(self) -> StudentFacts:
        """See that the configuration fits the student, before anything is trained.

        Raises:
            ConfigError: K exceeds the vocabulary.
            DataError: a question is longer than the limit.
        """
        model = self.student.model
        vocabulary = int(model.config.get_text_config().vocab_size)
        check_top_k(self.config, self.name, vocabulary)
        self._check_lengths()
        return StudentFacts(sum(p.numel() for p in model.parameters() if p.requires_grad), vocabulary)

    def evaluate(self, round: int, split: Split) -> list[Evaluation]:
        """The student as it is, on every domain's questions of a split, with the evaluation sampler."""
        engine = self._server(self.name, self.student, self.steps)
        policy = self._policy(self.student, self.policy.batch_size, engine) if engine else self.policy
        params = evaluation_params(self.config.evaluation, self.config.generation)
        return [
            evaluate(
                policy,
                self._questions(name, split),
                self.verifiers[name],
                params,
                student=self.name,
                round=round,
                split=split,
                seed=self.config.seed,
            )
            for name in self.domains
        ]

    def freeze_tutor(self) -> None:
        """Write the weights as they are, for peers that this student will tutor."""
        path = tutor_path(self.folder, self.name, self.steps)
        if self.team.gather(path.exists())[0]:  # another machine may see it later
            return
        weights = trainable_state(self.student.model)
        if self.team.rank == 0:
            with explained_disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_suffix(".partial")
                try:
                    save_file(weights, partial)
                    partial.replace(path)
                finally:
                    partial.unlink(missing_ok=True)

    def begin_phase(self, decisions: Sequence[GateDecision], scores: Mapping[str, Scores], tutor_steps: Mapping[str, int]) -> None:
        """Load the peers that may tutor this student, as they were frozen after the given number of steps."""
        tutors = {name: Tutor(name, self._frozen(name, steps), self._config_of(name).native_domain) for name, steps in tutor_steps.items()}
        self.tutoring = Tutoring(tuple(decisions), dict(scores), tutors)

    def step(self, round: int, step: int, measure_breaks: bool) -> StepRecord:
        """One step of the phase; `step` must be the next."""
        if step != self.steps + 1:
            raise ValueError(f"{self.name} has made {self.steps} steps; step {step} is not the next")
        training = [question for domain in self.domains.values() for question in domain.train]
        pad_id = self.student.tokenizer.pad_token_id
        learner = Learner(
            self.student.model,
            self.teacher,
            self.optimizer,
            pad_id if isinstance(pad_id, int) else 0,
            self.micro_batches,
            self.team,
        )
        tutee = Tutee(self.name, self.config, self.policy, learner, training, self.verifiers, self.team)
        record = run_step(tutee, self.tutoring, round=round, step=step, measure_breaks=measure_breaks)
        self.steps = step
        return record

    def end_phase(self) -> None:
        """Let the tutors go."""
        self.tutoring = Tutoring()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def save(self) -> StudentState | None:
        """All that it has learned, and its optimiser, as a state on disk, whatever the processes' number; None where another writes it."""
        tensors = {"weights": trainable_state(self.student.model), "optimizer": self.optimizer.state_dict()}
        if self.teacher is not None:
            tensors["teacher"] = self.teacher.state_dict()
        if (learned := torch.tensor(self.team.gather(self.micro_batches.state()))).any():
            tensors["micro_batches"] = {"learned": learned}
        return save_state(self.folder, self.name, self.steps, tensors) if self.team.rank == 0 else None

    def load(self, state: StudentState) -> None:
        """Go on from a saved state."""
        tensors = load_state(self.folder, state)
        load_trainable_state(self.student.model, tensors["weights"])
        self.optimizer.load_state_dict(tensors["optimizer"])
        if self.teacher is not None:
            self.teacher.load_state_dict(tensors["teacher"])
        learned = tensors.get("micro_batches", {}).get("learned", ())
        if len(learned) == self.team.size:  # as many processes as there were: each goes on with its own
            self.micro_batches.load_state([int(figure) for figure in learned[self.team.rank]])
        self.steps = state.steps

    def export(self) -> str:
        """Write the student as a Hugging Face folder; returns its path relative to the run's folder."""
        relative = f"exports/{self.name}"
        student = self.student
        if self.team.size > 1:
            weights = trainable_state(student.model)
            if self.team.rank > 0:
                return relative
            student = self._load(self.name, self.config.compute.device)
            load_trainable_state(student.model, weights)
        export_student(student, self.folder / relative)
        return relative

    def _load(self, name: str, on: str) -> Student:
        compute = self.config.compute
        ref, device, dtype = self._config_of(name).model, resolve_device(on), DTYPES[compute.dtype]
        checkpointing = compute.gradient_checkpointing and name == self.name
        torch.manual_seed(derive_seed(self.config.seed, "adapters", name))
        try:
            if compute.adapters is None:
                return load_student(ref, device=device, dtype=dtype, gradient_checkpointing=checkpointing)
            return self.bases.student(ref, device=device, dtype=dtype, adapters=compute.adapters, gradient_checkpointing=checkpointing)
        except ModelError as error:
            error.field = self._entry(name, "model")
            raise

    def _frozen(self, name: str, steps: int) -> Policy:
        peer = self._load(name, self.tutor_device)
        load_trainable_state(peer.model, load_file(tutor_path(self.folder, name, steps)))
        peer.model.requires_grad_(False)
        self.team.shard(peer.model)
        engine = self._server(name, peer, steps) or self._vllm(peer)
        return self._policy(peer, self.config.method.feedback.batch_size, engine)

    def _policy(self, student: Student, batch_size: int, engine: Engine | None = None) -> Policy:
        replays = self.config.compute.cuda_graphs and self.team.size == 1  # of a team nobody knows
        policy = Policy(student, batch_size=batch_size, engine=engine, cuda_graphs=replays)
        if self.team.size > 1:
            policy.engine = TeamEngine(policy.engine, self.team, student.model)
        return policy

    def _vllm(self, student: Student) -> VllmEngine | None:
        """What samples for a student or tutor in place of its own weights' forward, where the configuration says so."""
        return open_engine(student, self.config) if self.config.compute.engine == "vllm" else None

    def _server(self, name: str, student: Student, steps: int) -> ServerEngine | None:
        """What answers for a student as it came, if it has a server; what was trained is only here."""
        server = self._config_of(name).server
        if server is None or steps > 0:
            return None
        ends = end_token_ids(student.model, student.tokenizer)
        return ServerEngine(server, student.tokenizer, end_ids=ends, field=self._entry(name, "server"))

    def _entry(self, name: str, key: str) -> str:
        """Where the configuration says it of a student."""
        return f"students.{[student.name for student in self.config.students].index(name)}.{key}"

    def _config_of(self, name: str) -> StudentConfig:
        return next(student for student in self.config.students if student.name == name)

    def _questions(self, domain: str, split: Split) -> list[Question]:
        evaluation = self.config.evaluation
        data = self.domains[domain]
        if split == "validation" and evaluation.validation_questions is not None:
            return balanced_subset(data.validation, max(1, evaluation.validation_questions // len(self.domains)), seed=self.config.seed)
        if split == "test" and evaluation.test_questions is not None:
            return balanced_subset(data.test, evaluation.test_questions, seed=self.config.seed)
        return list({"train": data.train, "validation": data.validation, "test": data.test}[split])

    def _check_lengths(self) -> None:
        limit = self.config.generation.max_prompt_tokens
        for index, domain in enumerate(self.domains.values()):
            long = []
            for split, questions in (("train", domain.train), ("validation", domain.validation), ("test", domain.test)):
                lengths = [(len(self.policy.question_prompt(question)), split, question.id) for question in questions]
                long += [entry for entry in lengths if entry[0] > limit]
            if long:
                length, split, question_id = max(long)
                raise DataError(
                    f"{len(long)} questions of {domain.name} are longer than {limit} tokens for {self.name}; "
                    f"the longest is {question_id!r} in {split} with {length}.",
                    advice="Raise generation.max_prompt_tokens or take these questions out.",
                    field=f"domains.{index}.train",
                )


def _micro_batch_size(config: ExperimentConfig, device: torch.device, sharers: int) -> MicroBatchSize:
    """As the configuration says; memory is measured on a GPU alone."""
    if config.compute.micro_batch_tokens == "auto" and device.type == "cuda":
        return MicroBatchSize(FIRST_MICRO_BATCH_TOKENS, CudaMemory(device, sharers))
    return MicroBatchSize(config.compute.known_micro_batch_tokens)
