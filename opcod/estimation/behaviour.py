"""What a student will do in a run: how long its prompts and responses are, how much feedback it gets and learns from.

Taken from earlier runs of the same model on the same domains where there are any; where there are none it is not known, and
`spread` says how wide that leaves the estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt
from statistics import fmean, pstdev

from opcod.config import ExperimentConfig, FeedbackConfig
from opcod.estimation.measured import MeasuredRun, StudentMeasured
from opcod.estimation.questions import DomainSize
from opcod.feedback.prompts import ANCHORED_TEMPLATE, GENERIC_TEMPLATE

NEAREST = 5
"""Earlier runs that are looked at, the newest of the most similar."""
CHARACTERS_A_TOKEN = 4.0
"""Of English text in the vocabularies of today's models; prompts alone are measured by it, and only where no run has."""
UNKNOWN_SHARE = (0.1, 1.0)
"""Of the longest response allowed: what unknown students may use, least and most."""
_Z90 = 1.645


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Lengths in tokens, shares in [0, 1]. `spread` is the standard deviation of the lengths' logarithm."""

    prompt: float
    response: float
    longest: float
    feedback_prompt: float
    feedback: float
    feedback_longest: float
    teacher_prompt: float
    asked: float
    """Rollouts that a tutor is asked about."""
    kept: float
    """Feedbacks that are kept."""
    solved: float
    """Rollouts with a correct sibling to learn from."""
    spread: float
    known: bool

    @property
    def taught(self) -> float:
        """Rollouts that enter a distillation loss: those with a solution or with kept feedback."""
        return 1 - (1 - self.solved) * (1 - self.asked * self.kept)


def of_run(run: MeasuredRun, student: StudentMeasured) -> Behaviour:
    """What the student did."""
    config, means = run.settings, student.means
    samples = config.schedule.questions_per_step * config.generation.rollouts
    prompt, response = means.get("prompt/length_mean", 0.0), means.get("response/length_mean", 0.0)
    feedback = means.get("feedback/length_mean", 0.0)
    return Behaviour(
        prompt=prompt,
        response=response,
        longest=means.get("response/length_max", response),
        feedback_prompt=_feedback_prompt(config.method.feedback, prompt, response),
        feedback=feedback,
        feedback_longest=means.get("feedback/length_max", feedback),
        teacher_prompt=means.get("self_distillation/prompt_length_mean", prompt + response + feedback),
        asked=means.get("feedback/count", 0.0) / samples,
        kept=means.get("feedback/kept_fraction", 0.0),
        solved=means.get("self_distillation/success_sample_fraction", 1.0),
        spread=0.0,
        known=True,
    )


def expected(config: ExperimentConfig, place: int, sizes: Sequence[DomainSize | None], history: Sequence[MeasuredRun]) -> Behaviour:
    """What student number `place` will do; `history` is newest first."""
    similar = _similar(config, place, history)
    found = _together(similar, config) if similar else _unknown(config, sizes)
    longest, feedback = config.generation.max_response_tokens, config.method.feedback
    return replace(
        found,
        response=min(found.response, longest),
        longest=min(found.longest, longest),
        feedback=min(found.feedback, feedback.max_tokens),
        feedback_longest=min(found.feedback_longest, feedback.max_tokens),
        feedback_prompt=_feedback_prompt(feedback, found.prompt, found.response),
        teacher_prompt=min(found.teacher_prompt, config.method.teacher.max_tokens),
        asked=_asked(config, similar),
    )


def _similar(config: ExperimentConfig, place: int, history: Sequence[MeasuredRun]) -> list[tuple[MeasuredRun, StudentMeasured]]:
    """Earlier turns of this model on these domains; else of this model; the nearest first."""
    sources = {domain.train.partition("[")[0] for domain in config.domains}
    model = config.students[place].model
    found = [(run, student) for run in history for student in run.students if student.model == model]
    same = [pair for pair in found if {domain.train.partition("[")[0] for domain in pair[0].settings.domains} == sources]
    return (same or found)[:NEAREST]


def _together(similar: Sequence[tuple[MeasuredRun, StudentMeasured]], config: ExperimentConfig) -> Behaviour:
    all_ = [of_run(run, student) for run, student in similar]
    tutored = [one for one in all_ if one.asked > 0]
    lengths = [log(one.response) for one in all_ if one.response > 0]
    feedback, limit = config.method.feedback, config.method.feedback.max_tokens
    said = fmean(one.feedback for one in tutored) if tutored else sqrt(UNKNOWN_SHARE[0] * UNKNOWN_SHARE[1]) * limit
    # Untutored runs say nothing of a teacher's prompt that shows feedback too.
    taught = tutored if config.method.algorithm == "opcod" and tutored else all_
    return Behaviour(
        prompt=fmean(one.prompt for one in all_),
        response=fmean(one.response for one in all_),
        longest=max(one.longest for one in all_),
        feedback_prompt=_feedback_prompt(feedback, fmean(one.prompt for one in all_), fmean(one.response for one in all_)),
        feedback=said,
        feedback_longest=max((one.feedback_longest for one in tutored), default=limit),
        teacher_prompt=fmean(one.teacher_prompt for one in taught),
        asked=0.0,
        kept=fmean(one.kept for one in tutored) if tutored else 1.0,
        solved=fmean(one.solved for one in all_),
        spread=pstdev(lengths) if len(lengths) > 1 else 0.05,
        known=True,
    )


def _unknown(config: ExperimentConfig, sizes: Sequence[DomainSize | None]) -> Behaviour:
    """As long as the settings allow at most, and a tenth of it at least: the middle of these."""
    low, high = UNKNOWN_SHARE
    middle = sqrt(low * high)
    characters = [size.characters for size in sizes if size is not None]
    prompt = min(
        fmean(characters) / CHARACTERS_A_TOKEN if characters else config.generation.max_prompt_tokens * middle,
        config.generation.max_prompt_tokens,
    )
    response, feedback = middle * config.generation.max_response_tokens, middle * config.method.feedback.max_tokens
    return Behaviour(
        prompt=prompt,
        response=response,
        longest=config.generation.max_response_tokens,
        feedback_prompt=0.0,
        feedback=feedback,
        feedback_longest=config.method.feedback.max_tokens,
        teacher_prompt=prompt + response + (feedback if config.method.algorithm == "opcod" else 0.0),
        asked=0.0,
        kept=1.0,
        solved=1.0,
        spread=log(high / middle) / _Z90,
        known=False,
    )


def _asked(config: ExperimentConfig, similar: Sequence[tuple[MeasuredRun, StudentMeasured]]) -> float:
    """The share of rollouts that tutors are asked about: as under the same gate before, else of all, the most that may come."""
    gate = config.method.gate
    if config.method.algorithm != "opcod" or gate.strategy == "never":
        return 0.0
    before = [
        of_run(run, student).asked
        for run, student in similar
        if run.settings.method.algorithm == "opcod" and run.settings.method.gate == gate
    ]
    return min(1.0, fmean(before)) if before and gate.strategy != "always" else 1.0


def _feedback_prompt(config: FeedbackConfig, prompt: float, response: float) -> float:
    template = (
        (config.templates.anchored or ANCHORED_TEMPLATE) if config.style == "anchored" else (config.templates.generic or GENERIC_TEMPLATE)
    )
    return min(config.max_prompt_tokens, prompt + response + len(template) / CHARACTERS_A_TOKEN)


def factor(spread: float) -> float:
    """What 90 % lie within, up and down."""
    return exp(_Z90 * spread)
