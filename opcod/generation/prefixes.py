"""Which prompts begin alike, so that what they share is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LOOK_BACK = 64
"""Most prompts of one group: bounds the search, and what more would save is next to nothing."""


@dataclass(frozen=True, slots=True)
class PrefixGroup:
    """Prompts with the same first `length` tokens; each has at least one more."""

    length: int
    rows: tuple[int, ...]


def prefix_groups(prompts: Sequence[Sequence[int]]) -> list[PrefixGroup]:
    """Every prompt in one group, so that as few tokens as possible are computed in all.

    In the order of their tokens, prompts that begin alike are neighbours. Over the first i of them, the most that groups
    can save is found from what they save over fewer: a group saves its prefix once for each row but the first.
    A prompt alone shares all but its last token with itself.
    """
    order = sorted(range(len(prompts)), key=lambda row: tuple(prompts[row]))
    alike = [_common(prompts[a], prompts[b]) for a, b in pairwise(order)]
    saved = [0] * (len(order) + 1)
    begins: list[tuple[int, int]] = []  # of the group that ends with this prompt: where it begins, and its prefix
    for end in range(len(order)):
        prefix = len(prompts[order[end]]) - 1
        saved[end + 1], best = saved[end], (end, prefix)
        for begin in range(end - 1, max(-1, end - LOOK_BACK), -1):
            prefix = min(prefix, alike[begin], len(prompts[order[begin]]) - 1)
            if prefix <= 0:
                break
            if (gain := saved[begin] + prefix * (end - begin)) > saved[end + 1]:
                saved[end + 1], best = gain, (begin, prefix)
        begins.append(best)
    groups = []
    end = len(order)
    while end > 0:
        begin, prefix = begins[end - 1]
        groups.append(PrefixGroup(prefix, tuple(order[begin:end])))
        end = begin
    return groups[::-1]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
