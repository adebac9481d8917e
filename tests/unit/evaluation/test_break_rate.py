"""Break and rescue rates: counted by hand, by difficulty, and measured on two students (method section 8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.evaluation.break_rate import FeedbackCase, count_breaks, difficulties, measure_break_rescue
from opcod.types import Feedback
from tests.unit.training.small_world import QUESTIONS, RIGHT, WRONG, config, tutee, tutoring

KEPT = Feedback("<concept>force</concept> Look.", "Look.", "kept", "force", "force")
CASES = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 8)), max_size=30)


def test_the_papers_difficulties_for_eight_rollouts() -> None:
    assert difficulties(8) == [None, (0, 1), (0, 4), (5, 7), (7, 7)]


@pytest.mark.parametrize("rollouts", range(1, 20))
def test_other_numbers_of_rollouts_give_proper_ranges(rollouts: int) -> None:
    assert all(pair is None or 0 <= pair[0] <= pair[1] for pair in difficulties(rollouts))


def test_counts_by_hand() -> None:
    cases = [FeedbackCase(QUESTIONS[0], correct, KEPT, wrong) for correct, wrong in ((True, 1), (True, 1), (False, 1), (False, 7))]
    overall, easy, *_, hardest = count_breaks(cases, [False, True, True, False], rollouts=8, round=1, tutee="a", tutor="b")
    assert (overall.correct_before, overall.broken, overall.wrong_before, overall.rescued) == (2, 1, 2, 1)
    assert (overall.break_rate, overall.rescue_rate) == (0.5, 0.5)
    assert (easy.difficulty, easy.correct_before, easy.wrong_before) == ((0, 1), 2, 1)
    assert (hardest.difficulty, hardest.break_rate, hardest.rescue_rate) == ((7, 7), None, 0.0)


@given(CASES)
def test_rates_are_shares_of_what_was_there(rows: list[tuple[bool, bool, int]]) -> None:
    cases = [FeedbackCase(QUESTIONS[0], before, KEPT, wrong) for before, _, wrong in rows]
    for found in count_breaks(cases, [after for _, after, _ in rows], rollouts=8, round=1, tutee="a", tutor="b"):
        assert 0 <= found.broken <= found.correct_before
        assert 0 <= found.rescued <= found.wrong_before
        assert (found.break_rate is None) is (found.correct_before == 0)


def test_two_students_are_measured_from_fresh_rollouts() -> None:
    """The tutee is right once in three; once it reads feedback it is always right: nothing breaks, every wrong answer is rescued."""
    settings = config()
    calls: list[None] = []

    def answer(place: int, index: int) -> str:
        return RIGHT if len(calls) > 1 or index == 0 else WRONG

    made = tutee(answer, settings)
    respond = made.policy.respond

    def counting(*arguments, **named):
        calls.append(None)
        return respond(*arguments, **named)

    made.policy.respond = counting  # type: ignore[method-assign]
    tutor = tutoring(lambda place, index: "<concept>force</concept> Look again.").tutors["bob"]
    overall, *_ = measure_break_rescue(
        made.policy, tutor, QUESTIONS, made.verifiers, settings, tutee_name="ann", tutee_domain="physics", seed=1
    )
    assert (overall.correct_before, overall.broken, overall.wrong_before, overall.rescued) == (3, 0, 6, 6)
