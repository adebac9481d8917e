"""What somebody typed into the search field, read as words: all of them must occur.

``"iron ore"`` are words side by side, ``-alloy`` must not occur, ``dens*`` begins a word. Everything that is no letter or digit
parts words, in what is searched for as in what is searched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MOST = 20
LONGEST = 200

_PART = re.compile(r'(-?)"([^"]*)"?|(-?)(\S+)')
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Term:
    """Words side by side. `prefix`: the last one may go on. `absent`: they must not occur."""

    words: tuple[str, ...]
    prefix: bool = False
    absent: bool = False


def read_terms(asked: str) -> tuple[Term, ...]:
    """The terms of a search; none where it holds no word."""
    asked = asked[:LONGEST]
    found = []
    for part in _PART.finditer(asked):
        quoted, bare = part[2], part[4]
        words = tuple(_WORD.findall(bare if quoted is None else quoted))
        if words:
            found.append(Term(words, quoted is None and bare.endswith("*"), bool(part[1] or part[3])))
    return tuple(found[:MOST])


def pattern(terms: Sequence[Term]) -> re.Pattern[str] | None:
    """Finds the terms in a text, to mark them."""
    parts = [r"[\W_]+".join(map(re.escape, term.words)) + ("" if term.prefix else r"(?![^\W_])") for term in terms if not term.absent]
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(parts)})", re.IGNORECASE) if parts else None
