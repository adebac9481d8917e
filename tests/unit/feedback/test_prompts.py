from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.config import FeedbackConfig, MethodConfig
from opcod.errors import ConfigError
from opcod.feedback.prompts import check_templates, tutor_messages
from opcod.feedback.templates import fill
from opcod.types import Question

QUESTION = Question("1", "physics", "What is the {response} of the field?", "B", system="Answer with a letter.")


def prompt(response: str = "It is 5 N.", **config: Any) -> str:
    messages = tutor_messages(FeedbackConfig(**config), QUESTION, response, tutor_domain="chemistry", tutee_domain="physics")
    assert [message.role for message in messages] == ["user"]
    return messages[0].content


def test_the_anchored_prompt_asks_in_two_steps_and_names_both_domains():
    text = prompt()
    assert text.index("<concept>") < text.index("critique")
    for part in ("chemistry", "physics", QUESTION.prompt, "It is 5 N.", "1, anchor", "specialist", "80 words", "not reveal"):
        assert part in text
    for generic in ["problem", "question", "answer", "value", "calculation", "formula", "student", "peer", "specialist"]:
        assert generic in text.partition("rejected:")[2].partition(".")[0]


def test_the_generic_prompt_asks_for_no_anchor():
    text = prompt(style="generic")
    assert "<concept>" not in text
    assert QUESTION.prompt in text
    assert "It is 5 N." in text


def test_model_text_is_never_filled_again():
    text = prompt("{question} {tutor_domain} {0} {} {{x}} \\boxed{5} {unknown!r}")
    assert "{question} {tutor_domain} {0} {} {{x}} \\boxed{5} {unknown!r}" in text
    assert "What is the {response} of the field?" in text


def test_the_users_template_is_taken():
    assert prompt("R", templates={"anchored": "{tutee_domain}|{tutor_domain}|{response}|{question}|{other}"}) == (
        "physics|chemistry|R|What is the {response} of the field?|{other}"
    )
    assert prompt("R", style="generic", templates={"generic": "{response}{question}"}) == "RWhat is the {response} of the field?"


def test_a_student_without_a_native_domain_still_gets_a_prompt():
    messages = tutor_messages(FeedbackConfig(), QUESTION, "R", tutor_domain=None, tutee_domain=None)
    assert "None" not in messages[0].content


@pytest.mark.parametrize(
    ("method", "field", "missing"),
    [
        ({"feedback": {"templates": {"anchored": "Look at {response}"}}}, "method.feedback.templates.anchored", "{question}"),
        ({"feedback": {"templates": {"generic": "Look at {question}"}}}, "method.feedback.templates.generic", "{response}"),
        ({"teacher": {"template": "{question} {solution_section}"}}, "method.teacher.template", "{feedback_section}"),
        ({"teacher": {"template": ""}}, "method.teacher.template", "{question}, {solution_section}, {feedback_section}"),
    ],
)
def test_a_template_without_a_placeholder_is_refused_by_name(method: dict[str, Any], field: str, missing: str):
    with pytest.raises(ConfigError) as caught:
        check_templates(MethodConfig.model_validate(method))
    assert caught.value.field == field
    assert missing in caught.value.message


def test_the_built_in_and_complete_templates_pass():
    check_templates(MethodConfig())
    check_templates(
        MethodConfig.model_validate(
            {
                "feedback": {"templates": {"anchored": "{question}{response}", "generic": "{question}{response}"}},
                "teacher": {"template": "{question}{solution_section}{feedback_section}"},
            }
        )
    )


@given(st.text(), st.text())
def test_filling_is_one_pass(first: str, second: str):
    assert fill("<{a}|{b}>", {"a": first, "b": second}) == f"<{first}|{second}>"


def test_an_empty_filling_changes_nothing():
    assert fill("{a} {}", {}) == "{a} {}"
