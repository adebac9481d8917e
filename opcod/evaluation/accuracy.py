"""avg@k with a confidence interval (method section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opcod.config import EvaluationConfig, GenerationConfig
from opcod.generation.base import SamplingParams
from opcod.generation.policy import Policy
from opcod.seeds import derive_seed
from opcod.tasks.questions import majority_baseline
from opcod.tasks.verifiers import Verifier
from opcod.types import Evaluation, Question, Split

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Score:
    """Mean over questions of the share of right samples, and its 95 % interval; fractions in [0, 1]."""

    mean: float
    low: float
    high: float


def evaluation_params(evaluation: EvaluationConfig, generation: GenerationConfig) -> SamplingParams:
    """The evaluation sampler, never the training one (method section 10)."""
    return SamplingParams(generation.max_response_tokens, evaluation.temperature, evaluation.top_p, evaluation.samples)


def score(accuracies: Sequence[float], *, seed: int) -> Score:
    """avg@k from each question's share of right samples, with a percentile bootstrap over questions.

    Questions are resampled, not samples: the interval speaks of other questions of the same kind.

    Raises:
        ValueError: no question.
    """
    if not accuracies:
        raise ValueError("a score needs at least one question")
    values = np.asarray(accuracies, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    mean = float(values.mean())
    return Score(mean, min(float(low), mean), max(float(high), mean))


def accuracies(policy: Policy, questions: Sequence[Question], verifier: Verifier, params: SamplingParams, *, seed: int) -> list[float]:
    """Share of right samples of each question."""
    answers = policy.respond([policy.question_prompt(question) for question in questions], params, seed=seed)
    return [
        sum(verifier(response.text, question.answer).correct for response in responses) / params.n
        for question, responses in zip(questions, answers, strict=True)
    ]


def evaluate(
    policy: Policy,
    questions: Sequence[Question],
    verifier: Verifier,
    params: SamplingParams,
    *,
    student: str,
    round: int,
    split: Split,
    seed: int,
) -> Evaluation:
    """One student on the questions of one domain."""
    domain = questions[0].domain
    sampled = accuracies(policy, questions, verifier, params, seed=derive_seed(seed, "evaluation", student, domain, split, round))
    result = score(sampled, seed=derive_seed(seed, "bootstrap", student, domain, split, round))
    return Evaluation(
        round=round,
        student=student,
        domain=domain,
        split=split,
        score=result.mean,
        low=result.low,
        high=result.high,
        questions=len(questions),
        samples=params.n,
        majority_baseline=majority_baseline(questions),
    )
