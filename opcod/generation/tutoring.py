"""Asking a tutor what it thinks of responses (method section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from opcod.config import FeedbackConfig
from opcod.feedback.prompts import tutor_messages
from opcod.feedback.review import review
from opcod.generation.base import SamplingParams
from opcod.generation.fitting import longest_fitting
from opcod.generation.policy import Policy
from opcod.types import Feedback, Message, Question


@dataclass(frozen=True, slots=True)
class Tutor:
    """A frozen peer that gives feedback, and the domain in which it is the stronger one."""

    name: str
    policy: Policy
    native_domain: str | None


def ask_feedback(
    tutor: Tutor, responses: Sequence[tuple[Question, str]], config: FeedbackConfig, *, tutee_domain: str | None, seed: int
) -> list[Feedback]:
    """The tutor's feedback on each (question, response), sampled in large batches and reviewed.

    A response too long for the tutor's prompt is shown without its end.
    """

    def prompt(question: Question, response: str) -> list[int]:
        def messages(shown: str) -> tuple[Message, ...]:
            return tutor_messages(
                config,
                question,
                shown,
                tutor_domain=tutor.native_domain or question.domain,
                tutee_domain=tutee_domain or question.domain,
            )

        shown = longest_fitting(response, lambda text: len(tutor.policy.prompt(messages(text))) <= config.max_prompt_tokens)
        return tutor.policy.prompt(messages(shown))

    params = SamplingParams(config.max_tokens, config.temperature, config.top_p)
    prompts = [prompt(question, response) for question, response in responses]
    said = tutor.policy.respond(prompts, params, seed=seed, batch_size=config.batch_size)
    return [
        replace(review(one.text, question, config.style), tokens=len(one.generation.token_ids))
        for (one,), (question, _) in zip(said, responses, strict=True)
    ]
