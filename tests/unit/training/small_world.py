"""A tutee on a tiny random model, with answers and feedback that a test writes itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from opcod.config import ExperimentConfig, merge, parse_config
from opcod.generation.base import Generation, SamplingParams
from opcod.generation.policy import Policy, Response
from opcod.generation.tutoring import Tutor
from opcod.students.ema import ExponentialAverage
from opcod.students.loading import Student
from opcod.tasks.verifiers import make_verifier
from opcod.training.micro_batch_size import MicroBatchSize
from opcod.training.optimizer import Optimizer
from opcod.training.step import Tutee, Tutoring
from opcod.training.update import Learner
from opcod.types import GateDecision, Question
from tests.unit.students.tiny_models import make_model, make_tokenizer

QUESTIONS = [
    Question(id=str(place), domain="physics", prompt=f"Question {place}: what is the force on the {thing}?", answer="B")
    for place, thing in enumerate(("apple", "moon", "car"))
]
RIGHT, WRONG = "<answer>B</answer>", "<answer>C</answer>"

Answer = Callable[[int, int], str]
"""(prompt's place, rollout's index) -> what the policy says."""


def config(**overrides: Any) -> ExperimentConfig:
    base = {
        "students": [
            {"name": "ann", "model": "x/ann", "native_domain": "physics"},
            {"name": "bob", "model": "x/bob", "native_domain": "physics"},
        ],
        "domains": [{"name": "physics", "train": "t", "validation": "v", "test": "w"}],
        "schedule": {"questions_per_step": 3, "rounds": 1, "steps_per_round": 2},
        "generation": {"rollouts": 3, "max_response_tokens": 40},
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
    }
    return parse_config(merge(base, overrides))


class ScriptedPolicy(Policy):
    """Says what the test tells it; the tokens are the text's own, so that scoring is real."""

    def __init__(self, student: Student, say: Answer) -> None:
        super().__init__(student, batch_size=64)
        self.say = say
        self.asked: list[list[str]] = []
        self.sampled_with: list[SamplingParams] = []

    def respond(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, seed: int, batch_size: int | None = None
    ) -> list[list[Response]]:
        tokenizer: Any = self.student.tokenizer
        self.asked.append([tokenizer.decode(list(prompt)) for prompt in prompts])
        self.sampled_with.append(params)
        return [[self._response(self.say(place, index)) for index in range(params.n)] for place in range(len(prompts))]

    def _response(self, text: str) -> Response:
        tokenizer: Any = self.student.tokenizer
        ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], self.end_ids[0]]
        return Response(Generation(tuple(ids), tuple(-3.0 for _ in ids), True), text)


def student(seed: int = 0) -> Student:
    return Student(make_model("qwen3", seed), make_tokenizer(), f"tiny-{seed}")


def tutee(answer: Answer, settings: ExperimentConfig, questions: Sequence[Question] = QUESTIONS) -> Tutee:
    torch.manual_seed(0)
    policy = ScriptedPolicy(student(), answer)
    model = policy.student.model
    learner = Learner(
        model=model,
        teacher=None if settings.method.algorithm == "grpo" else ExponentialAverage(model, settings.method.teacher.ema_rate),
        optimizer=Optimizer(model, settings.optimizer),
        pad_id=256,
        micro_batches=MicroBatchSize(settings.compute.known_micro_batch_tokens),
    )
    return Tutee("ann", settings, policy, learner, list(questions), {"physics": make_verifier(settings.domains[0].verifier)})


def tutoring(say: Answer) -> Tutoring:
    """Bob's gate is open on physics."""
    decision = GateDecision(1, "bob", "cognizance", 0.0, 0.2, True, ("physics",))
    scores = {"ann": {"physics": 0.5}, "bob": {"physics": 0.6}}
    return Tutoring((decision,), scores, {"bob": Tutor("bob", ScriptedPolicy(student(1), say), "physics")})


def weights(tutee: Tutee) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in tutee.learner.model.named_parameters()}
