"""What a tutor is asked (paper Appendix C; the wording is our own).

Placeholders of the tutor templates: ``{tutor_domain}``, ``{tutee_domain}``, ``{question}``, ``{response}``.
"""

from __future__ import annotations

from opcod.config import FeedbackConfig, MethodConfig
from opcod.errors import ConfigError
from opcod.feedback.templates import fill, missing_placeholders
from opcod.types import Message, Question

ANCHORED_TEMPLATE = """\
You are a specialist in {tutor_domain}. A peer, a specialist in {tutee_domain}, has answered a question. \
Help the peer with what your field sees in it. Work in two steps.

Step 1, anchor. Before any other text, name one key technical term of the question, one to three words in the question's \
exact wording, like this:
<concept>the term</concept>
Generic words are rejected: problem, question, answer, value, calculation, formula, student, peer, specialist.

Step 2, critique. Then write one short paragraph of 3 to 5 sentences, at most about 80 words, from the point of view of \
{tutor_domain}. Say what is right and what is wrong or missing, and cite the steps of the response that you mean. \
Do not solve the problem, and do not reveal the letter of the answer.

<<< Question >>>
{question}
<<< End of the question >>>

<<< The peer's response >>>
{response}
<<< End of the response >>>

Now name the anchor, then write the critique."""
"""The response comes last: all before it is computed once for all rollouts of a question."""

GENERIC_TEMPLATE = """\
You are a specialist in {tutor_domain}. Read the question below and the response of a peer, a specialist in {tutee_domain}, \
and give constructive feedback on the response. Do not give the answer.

<<< Question >>>
{question}
<<< End of the question >>>

<<< The peer's response >>>
{response}
<<< End of the response >>>"""

REQUIRED_PLACEHOLDERS = ("question", "response")
"""Without these a tutor cannot know what it speaks of. A template may leave out the domains' names."""

SELF_TEACHER_PLACEHOLDERS = ("question", "solution_section", "feedback_section")
"""What a self-teacher template must hold; `opcod.distillation.self_teacher` fills it."""

UNNAMED_DOMAIN = "general problem solving"
"""Stands for the domain of a student that has no native one."""


def tutor_messages(
    config: FeedbackConfig, question: Question, response: str, *, tutor_domain: str | None, tutee_domain: str | None
) -> tuple[Message, ...]:
    """The tutor's prompt on one rollout of the tutee: a single user turn (paper Appendix C).

    The question's own system prompt is left out: it asks for an answer, not for feedback. The length
    limit ``max_prompt_tokens`` is the caller's to keep, by shortening `response`.
    """
    if config.style == "anchored":
        template = config.templates.anchored or ANCHORED_TEMPLATE
    else:
        template = config.templates.generic or GENERIC_TEMPLATE
    values = {
        "tutor_domain": tutor_domain or UNNAMED_DOMAIN,
        "tutee_domain": tutee_domain or UNNAMED_DOMAIN,
        "question": question.prompt,
        "response": response,
    }
    return (Message("user", fill(template, values)),)


def check_templates(method: MethodConfig) -> None:
    """Refuse a user's template that lacks a placeholder it needs, whether this run would use it or not.

    Raises:
        ConfigError: `field` is the template's path, ``method.feedback.templates.anchored`` for one.
    """
    templates = (
        ("method.feedback.templates.anchored", method.feedback.templates.anchored, REQUIRED_PLACEHOLDERS),
        ("method.feedback.templates.generic", method.feedback.templates.generic, REQUIRED_PLACEHOLDERS),
        ("method.teacher.template", method.teacher.template, SELF_TEACHER_PLACEHOLDERS),
    )
    for field, template, needed in templates:
        missing = missing_placeholders(template, needed) if template is not None else ()
        if missing:
            names = ", ".join(f"{{{name}}}" for name in missing)
            raise ConfigError(
                f"The template {field} lacks {names}.",
                advice="Write the placeholder, braces included, where its text belongs; or empty the template to use the built-in wording.",
                field=field,
            )
