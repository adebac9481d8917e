"""Batches walk through every question equally often, and follow from the step alone."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from opcod.training.sampler import balanced_subset, batch_questions
from opcod.types import Question


def questions(count: int) -> list[Question]:
    return [Question(id=str(place), domain="d", prompt="p", answer="a") for place in range(count)]


@given(st.integers(1, 40), st.integers(1, 25), st.integers(1, 12))
def test_questions_come_equally_often(count: int, size: int, steps: int) -> None:
    pool = questions(count)
    drawn = Counter(q.id for step in range(1, steps + 1) for q in batch_questions(pool, step=step, size=size, seed=3, student="s"))
    assert sum(drawn.values()) == size * steps
    times = [drawn[q.id] for q in pool]
    assert max(times) - min(times) <= 1


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 5))
def test_a_subset_is_distinct_and_in_order(count: int, wanted: int, seed: int) -> None:
    pool = questions(count)
    chosen = balanced_subset(pool, wanted, seed=seed)
    places = [int(q.id) for q in chosen]
    assert places == sorted(set(places))
    assert len(chosen) == min(count, wanted)
    assert chosen == balanced_subset(pool, wanted, seed=seed)


def test_students_and_seeds_see_other_orders() -> None:
    pool = questions(30)
    seen = {
        tuple(q.id for q in batch_questions(pool, step=1, size=30, seed=seed, student=student)) for seed in (0, 1) for student in ("a", "b")
    }
    assert len(seen) == 4
