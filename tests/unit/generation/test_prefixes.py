"""Prompts are grouped by what they begin with, for the fewest tokens to compute."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from opcod.generation.prefixes import PrefixGroup, prefix_groups

PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=6)


def computed(prompts: list[list[int]], groups: list[PrefixGroup]) -> int:
    return sum(group.length + sum(len(prompts[row]) - group.length for row in group.rows) for group in groups)


@given(PROMPTS)
def test_every_prompt_stands_in_one_group_whose_beginning_it_shares(prompts: list[list[int]]) -> None:
    groups = prefix_groups(prompts)
    assert sorted(row for group in groups for row in group.rows) == list(range(len(prompts)))
    for group in groups:
        assert len({tuple(prompts[row][: group.length]) for row in group.rows}) == 1
        assert all(len(prompts[row]) > group.length for row in group.rows)


@given(PROMPTS)
def test_no_grouping_of_neighbours_computes_fewer_tokens(prompts: list[list[int]]) -> None:
    """Against every way to cut the sorted prompts."""
    ordered = sorted(prompts)
    best = min(
        sum(_cost(ordered[begin:end]) for begin, end in zip((0, *cuts), (*cuts, len(ordered)), strict=True))
        for size in range(len(ordered))
        for cuts in combinations(range(1, len(ordered)), size)
    )
    assert computed(prompts, prefix_groups(prompts)) == best


def _cost(group: list[list[int]]) -> int:
    shared = min(next((i for i, (x, y) in enumerate(zip(group[0], other, strict=False)) if x != y), len(other)) for other in group)
    prefix = min(shared, min(map(len, group)) - 1)
    return sum(map(len, group)) - prefix * (len(group) - 1)
