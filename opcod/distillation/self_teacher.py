"""What the self-teacher is shown (method section 4).

The teacher is the tutee's own moving average. Its prompt is the question, a correct solution from the
same question's rollouts if another one succeeded, the feedback if it was kept, and the request to
solve the question. It never sees the rollout it scores as context.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from opcod.feedback.templates import fill
from opcod.generation.fitting import longest_fitting
from opcod.types import Feedback, Message, Question, Rollout

DEFAULT_TEMPLATE = "{question}\n\n{solution_section}{feedback_section}Correctly solve the original question."
SOLUTION_SECTION = "Correct solution:\n\n{solution}\n\n"
FEEDBACK_SECTION = "Feedback on an earlier attempt that went wrong or could be better:\n\n{feedback}\n\n"
PLACEHOLDERS = ("question", "solution_section", "feedback_section")

_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


def own_solutions(rollouts: Sequence[Rollout]) -> list[str | None]:
    """For each rollout of ONE question, its s: the earliest correct rollout other than itself, or None.

    Source: SDPO code, `dont_reprompt_on_self_success`; `<think>` blocks are cut out. A correct rollout
    that is the group's only success has no solution. A success whose text is blank once its thinking
    is cut out shows nothing, and is passed over.
    """
    successes = [(place, text) for place, rollout in enumerate(rollouts) if rollout.correct and (text := without_thinking(rollout.text))]
    return [next((text for other, text in successes if other != place), None) for place in range(len(rollouts))]


def without_thinking(text: str) -> str:
    """The text without its `<think>` blocks, an unclosed one included."""
    return _THINKING.sub("", text).strip()


def shown_feedback(feedback: Feedback | None) -> str | None:
    """The only gate between a tutor's words and the self-teacher: text passes if its outcome is ``kept``."""
    return feedback.text if feedback is not None and feedback.outcome == "kept" else None


def teacher_messages(template: str | None, question: Question, *, solution: str | None, feedback: str | None) -> tuple[Message, ...]:
    """The self-teacher's chat prompt; the same system prompt as the student's.

    With neither solution nor feedback the sections are empty; such a rollout is masked out of the
    loss and its prompt is never scored.
    """
    values = {
        "question": question.prompt,
        "solution_section": fill(SOLUTION_SECTION, {"solution": solution}) if solution is not None else "",
        "feedback_section": fill(FEEDBACK_SECTION, {"feedback": feedback}) if feedback is not None else "",
    }
    user = Message("user", fill(template or DEFAULT_TEMPLATE, values))
    return (Message("system", question.system), user) if question.system else (user,)


def fitted_teacher_messages(
    template: str | None,
    question: Question,
    *,
    solution: str | None,
    feedback: str | None,
    max_tokens: int,
    count_tokens: Callable[[Sequence[Message]], int],
) -> tuple[Message, ...]:
    """`teacher_messages`, shortened to `max_tokens` of the whole prompt.

    SDPO's code cuts tokens off the prompt's end, which loses the request and the turn marker; here the
    solution loses its end first, then the feedback, so that question, request and turn stay whole. A
    question that alone exceeds the limit comes back without sections.
    """
    parts = {"solution": solution, "feedback": feedback}

    def prompt(part: str, text: str | None) -> tuple[Message, ...]:
        return teacher_messages(template, question, **{**parts, part: text or None})

    for part in ("solution", "feedback"):
        text = parts[part]
        if text is not None:
            parts[part] = longest_fitting(text, lambda shorter, part=part: count_tokens(prompt(part, shorter)) <= max_tokens) or None  # type: ignore[misc]
    return teacher_messages(template, question, **parts)
