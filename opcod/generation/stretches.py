"""Attention of many tokens, stretch by stretch, so that what lies behind all of a stretch is not computed to be masked out."""

from __future__ import annotations

from collections.abc import Iterator

SHORTEST = 128
"""Tokens of a stretch: each costs the calls of one."""
MOST = 8
"""Stretches: they leave 9 of 16 parts of a square of tokens, half of which can be seen; more would save little."""


def stretches(tokens: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """The last `tokens` of `columns` in stretches, each with the columns up to its last token: what any of its tokens may see."""
    length = max(SHORTEST, -(-tokens // MOST))
    for begin in range(0, tokens, length):
        end = min(begin + length, tokens)
        yield slice(begin, end), slice(columns - tokens + end)
