"""Text of models cut into plain and marked pieces, so that templates can escape each piece and colour it.

Nothing here makes markup. A text is cut at a stated length before it is marked; the whole length is kept
beside it, so that the page can say what it leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

SHORT = 4_000
"""Characters shown at first."""
BRIEF = 600
"""The same of an answer, which is a word or a line."""
LONG = 200_000
"""Characters shown on request; no page shows more."""
MOST_HITS = 500
"""Marks of what was searched for in one text."""
LEAST = 40
"""Characters by which a part of a prompt is known."""

Mark = Literal["", "match", "concept", "cut", "hit", "lost", "new", "question", "solution", "feedback"]
TAGS: Mapping[Mark, str] = {
    "match": "mark", "concept": "mark", "hit": "mark", "cut": "del", "lost": "del", "new": "ins",
    "question": "span", "solution": "span", "feedback": "span",
}  # fmt: skip
"""The element that shows a mark; its class is the mark itself."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text with one mark; "" is plain."""

    text: str
    mark: Mark = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """A text ready to be shown: its pieces, how many characters it has in all, and whether the end was left out."""

    pieces: tuple[Piece, ...]
    characters: int
    cut: bool
    more: bool
    """Asking for all of it would show more."""

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


Span = tuple[int, int, Mark]


def passage(text: str, spans: Iterable[Span] = (), *, full: bool = False, first: int = SHORT) -> Passage:
    """`text` bounded and split at `spans`; where spans overlap the earlier in the list wins."""
    limit = LONG if full else first
    shown = text[:limit]
    taken: list[Span] = []
    for start, end, mark in spans:
        end = min(end, len(shown))
        if start < end and all(end <= other_start or other_end <= start for other_start, other_end, _ in taken):
            taken.append((start, end, mark))
    pieces, place = [], 0
    for start, end, mark in sorted(taken):
        if start > place:
            pieces.append(Piece(shown[place:start]))
        pieces.append(Piece(shown[start:end], mark))
        place = end
    if place < len(shown):
        pieces.append(Piece(shown[place:]))
    cut = len(text) > limit
    return Passage(tuple(pieces), len(text), cut, cut and not full)


def question_spans(question: str, concept: str | None, matched_word: str | None) -> list[Span]:
    """Where the anchor stands in the question: the whole concept if it is there word for word, else the matched word."""
    for wanted in (concept, matched_word):
        found = _find_all(question, wanted)
        if found and matched_word:
            return [(start, end, "match") for start, end in found]
    return []


def feedback_spans(raw: str, concept: str | None, removed: Iterable[str]) -> list[Span]:
    """What the sanitiser cut, and the concept that the tutor named."""
    spans: list[Span] = []
    place = 0
    for part in removed:
        start = raw.find(part, place) if part else -1
        start = start if start >= 0 else raw.find(part) if part else -1
        if start >= 0:
            spans.append((start, start + len(part), "cut"))
            place = start + len(part)
    tag = re.search(r"<concept>(.*?)</concept>", raw, re.DOTALL | re.IGNORECASE)
    if tag and tag[1].strip():
        spans.append((tag.start(1), tag.end(1), "concept"))
    elif concept:
        spans.extend((start, end, "concept") for start, end in _find_all(raw, concept)[:1])
    return spans


def hit_spans(text: str, pattern: re.Pattern[str] | None) -> list[Span]:
    """Where what was searched for stands in a text."""
    found = islice(pattern.finditer(text[:LONG]), MOST_HITS) if pattern else ()
    return [(match.start(), match.end(), "hit") for match in found]


def prompt_spans(prompt: str, question: str, solution: str | None, feedback: str | None) -> list[Span]:
    """The parts of a self-teacher's prompt. A part may stand there without its end, where the whole would have been too long."""
    spans: list[Span] = []
    place = 0
    parts: tuple[tuple[str | None, Mark], ...] = ((question, "question"), (solution, "solution"), (feedback, "feedback"))
    for part, mark in parts:
        if not part or not part.strip():
            continue
        part = part.strip()
        start = prompt.find(part[:LEAST], place)
        if start < 0:
            start = prompt.find(part[:LEAST])
        if start < 0:
            continue
        end = start + _common(prompt[start : start + len(part)], part)
        if not any(start < other_end and other_start < end for other_start, other_end, _ in spans):
            spans.append((start, end, mark))
            place = end
    return spans


def _common(one: str, other: str) -> int:
    """How far two texts begin alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def _find_all(text: str, wanted: str | None) -> list[tuple[int, int]]:
    """Places of `wanted` as whole words, whatever the case."""
    if not wanted or not wanted.strip():
        return []
    pattern = r"\s+".join(re.escape(word) for word in wanted.split())
    return [match.span() for match in re.finditer(rf"(?<!\w){pattern}(?!\w)", text[:LONG], re.IGNORECASE)][:100]
