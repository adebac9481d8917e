"""What the self-teacher is shown: its own solution from the same question, kept feedback, nothing else (method sections 4 and 10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.distillation.self_teacher import fitted_teacher_messages, own_solutions, shown_feedback, teacher_messages, without_thinking
from opcod.types import Feedback, FeedbackOutcome, Message, Question, Rollout

QUESTION = Question(id="1", domain="physics", prompt="What is the unit of force?", answer="B", system="Be brief.")


def rollout(index: int, correct: bool, text: str | None = None) -> Rollout:
    return Rollout(index, f"solution {index}" if text is None else text, 5, correct, None, False)


@given(st.lists(st.booleans(), min_size=1, max_size=10))
def test_a_rollout_is_never_its_own_solution_and_gets_the_earliest_other(marks: list[bool]) -> None:
    found = own_solutions([rollout(index, mark) for index, mark in enumerate(marks)])
    for place, solution in enumerate(found):
        others = [f"solution {other}" for other, mark in enumerate(marks) if mark and other != place]
        assert solution == (others[0] if others else None)


def test_the_only_success_has_no_solution() -> None:
    assert own_solutions([rollout(0, False), rollout(1, True), rollout(2, False)]) == ["solution 1", None, "solution 1"]


def test_thinking_is_cut_out_of_a_solution() -> None:
    assert own_solutions([rollout(0, False), rollout(1, True, "<think>secret</think>\nIt is N.")])[0] == "It is N."
    assert without_thinking("a <think>never closed") == "a"
    assert own_solutions([rollout(0, False), rollout(1, True, "<think>all</think>")]) == [None, None]


@pytest.mark.parametrize("outcome", get_args(FeedbackOutcome))
def test_only_kept_feedback_is_shown(outcome: FeedbackOutcome) -> None:
    feedback = Feedback(raw="raw words", text="clean words", outcome=outcome)
    assert shown_feedback(feedback) == ("clean words" if outcome == "kept" else None)
    assert shown_feedback(None) is None


def test_the_prompt_holds_the_parts_in_order_and_the_students_system_prompt() -> None:
    system, user = teacher_messages(None, QUESTION, solution="SOLUTION", feedback="FEEDBACK")
    assert system == Message("system", "Be brief.")
    places = [user.content.index(part) for part in (QUESTION.prompt, "SOLUTION", "FEEDBACK", "Correctly solve the original question")]
    assert places == sorted(places)


@given(st.text(max_size=40), st.text(max_size=40))
def test_braces_in_models_text_are_only_text(solution: str, feedback: str) -> None:
    hostile = "{question} {feedback_section} {0} {solution}"
    (_, user) = teacher_messages(None, QUESTION, solution=hostile + solution, feedback=hostile + feedback)
    assert user.content.count(QUESTION.prompt) == 1
    assert hostile + solution in user.content
    assert hostile + feedback in user.content


def test_absent_parts_leave_no_trace() -> None:
    (_, user) = teacher_messages(None, QUESTION, solution=None, feedback=None)
    assert user.content == f"{QUESTION.prompt}\n\nCorrectly solve the original question."


@given(st.integers(20, 400), st.integers(0, 300), st.integers(0, 300))
def test_a_long_prompt_loses_the_solutions_end_then_the_feedbacks(limit: int, solution_length: int, feedback_length: int) -> None:
    def count(messages: Sequence[Message]) -> int:
        return sum(len(message.content) for message in messages)

    made = fitted_teacher_messages(
        None, QUESTION, solution="s" * solution_length, feedback="f" * feedback_length, max_tokens=limit, count_tokens=count
    )
    bare = count(teacher_messages(None, QUESTION, solution=None, feedback=None))
    assert count(made) <= max(limit, bare)
    assert QUESTION.prompt in made[-1].content
    assert made[-1].content.endswith("Correctly solve the original question.")
    whole = teacher_messages(None, QUESTION, solution="s" * solution_length or None, feedback="f" * feedback_length or None)
    if count(whole) <= limit:
        assert made == whole
