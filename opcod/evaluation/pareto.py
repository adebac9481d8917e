"""The run's goal: mutual Pareto improvement (method section 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import ge

from opcod.types import Scores, Verdict


def dominates(a: Scores, b: Scores) -> bool:
    """Whether `a` Pareto-dominates `b`: at least as good on every domain, better on at least one.

    Raises:
        ValueError: the domains differ.
    """
    if set(a) != set(b):
        raise ValueError(f"scores on {sorted(a)} and on {sorted(b)} cannot be compared")
    return all(a[domain] >= b[domain] for domain in a) and any(a[domain] > b[domain] for domain in a)


def undominated(vectors: Sequence[Sequence[float]]) -> list[bool]:
    """Of each vector of scores, all over the same things, whether no other is at least as good in all and better in one."""
    best_first = sorted({tuple(one) for one in vectors}, key=sum, reverse=True)
    return [not any(other != tuple(own) and all(map(ge, other, own)) for other in best_first) for own in vectors]


def is_mutual_improvement(initial: Mapping[str, Scores], final: Mapping[str, Scores]) -> bool:
    """Whether every student's final scores dominate its own initial ones; False without students.

    Args:
        initial: student -> domain -> score before training.
        final: the same after it.

    Raises:
        ValueError: students or domains differ.
    """
    if set(initial) != set(final):
        raise ValueError(f"students {sorted(initial)} and {sorted(final)} cannot be compared")
    return bool(initial) and all(dominates(final[student], initial[student]) for student in initial)


def verdict(initial: Mapping[str, Scores], final: Mapping[str, Scores]) -> Verdict:
    """The verdict on what is known so far: None for a student with a score missing on either side.

    Mutual improvement is False as soon as one student is known to have failed, None while none has but
    some are open.
    """
    students = {student: _improved(initial.get(student, {}), final.get(student, {})) for student in dict.fromkeys([*initial, *final])}
    outcomes = students.values()
    mutual: bool | None = None
    if False in outcomes:
        mutual = False
    elif students and None not in outcomes:
        mutual = True
    return Verdict(mutual_improvement=mutual, students=students)


def _improved(initial: Scores, final: Scores) -> bool | None:
    if not initial or set(initial) != set(final):
        return None
    return dominates(final, initial)
