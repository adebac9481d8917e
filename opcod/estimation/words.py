"""Figures as people read them: two significant digits are all that an estimate knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from opcod.estimation.figures import Estimate, Figure

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def span(seconds: float) -> str:
    """A time: ``40 s``, ``2.5 min``, ``3 h 20 min``, ``2.1 d``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 9.5 * _MINUTE:
        return f"{seconds / _MINUTE:.1f} min"
    if seconds < 90 * _MINUTE:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 10 * _HOUR:
        hours, minutes = divmod(round(seconds / _MINUTE / 5) * 5, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{seconds / _HOUR:.0f} h" if seconds < 2 * _DAY else f"{seconds / _DAY:.1f} d"


def amount(value: float) -> str:
    """A number of things: ``320``, ``14 thousand``, ``1.4 million``, ``2.3 billion``."""
    return _scaled(value, (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)), "")


def size(value: float) -> str:
    """Bytes: ``1.4 GiB``."""
    return _scaled(value, (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)), "bytes")


def _scaled(value: float, units: tuple[tuple[str, float], ...], plain: str) -> str:
    for unit, one in units:
        if value >= 0.995 * one:
            return f"{value / one:.1f} {unit}" if value < 9.95 * one else f"{value / one:,.0f} {unit}"
    return f"{value:.0f} {plain}".strip()


def between(low: float, high: float, words: Callable[[float], str]) -> str:
    """A range, its unit said once where both ends have the same: ``25 to 30 MiB``."""
    first, last = words(low), words(high)
    number, _, unit = first.partition(" ")
    return f"{number if unit == last.partition(' ')[2] else first} to {last}"


FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("Time", "seconds", span),
    ("Memory", "memory_bytes", size),
    ("Disk", "disk_bytes", size),
    ("Tokens", "tokens", amount),
    ("Tokens in training", "training_tokens", amount),
)
"""Label, name and words of each figure of an estimate."""


def lines(estimate: Estimate, taken: Mapping[str, float | None] | None = None) -> Iterator[str]:
    """An estimate as lines for a terminal, with what was `taken` by the figures' names, once that is known."""
    for label, name, words in FIGURES:
        value = (taken or {}).get(name)
        after = f"; took {words(value)}" if value is not None else ""
        yield f"{label:20}{_in_words(getattr(estimate, name), words)}{after}"
    basis = estimate.basis
    if estimate.parts:
        yield f"Fitted on {basis.own_runs} runs on {basis.device} and {basis.shipped_runs} of other machines; ranges hold nine of ten runs."
    yield from estimate.notes


def _in_words(figure: Figure, words: Callable[[float], str]) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        return f"not known: {figure.reason}"
    return f"{words(figure.value)} ({between(figure.low, figure.high, words)}){f' {figure.reason}' if figure.reason else ''}"
