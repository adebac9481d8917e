"""Shortening a text so that the prompt which shows it stays within a length limit."""

from __future__ import annotations

from collections.abc import Callable


def longest_fitting(text: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning of `text` for which `fits` holds; "" when not even one character does.

    `fits` must hold for a shorter beginning wherever it holds for a longer one.
    """
    if fits(text):
        return text
    low, high = 0, len(text)
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle)
    return text[:low]
