"""Which questions a step trains on: the union of all training sets, shuffled anew each epoch (Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence

from opcod.seeds import derived_random
from opcod.types import Question


def batch_questions(questions: Sequence[Question], *, step: int, size: int, seed: int, student: str) -> list[Question]:
    """The batch of a student's `step` (from 1).

    Batches walk through one permutation an epoch and take the rest from the next, so each question comes equally
    often. The batch follows from the step alone: there is no state to keep. A batch holds no question twice unless
    it is larger than the set or spans two epochs.
    """
    start = (step - 1) * size
    chosen: list[Question] = []
    while len(chosen) < size:
        epoch, offset = divmod(start + len(chosen), len(questions))
        order = list(questions)
        derived_random(seed, "sampler", student, epoch).shuffle(order)
        chosen += order[offset : offset + size - len(chosen)]
    return chosen


def balanced_subset(questions: Sequence[Question], count: int, *, seed: int) -> list[Question]:
    """`count` questions of a set (all, if it has no more), chosen by the seed and kept in the set's order."""
    if count >= len(questions):
        return list(questions)
    chosen = sorted(derived_random(seed, "subset").sample(range(len(questions)), count))
    return [questions[place] for place in chosen]
