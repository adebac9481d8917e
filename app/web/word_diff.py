"""Two texts side by side, word by word."""

from __future__ import annotations

import re

from rapidfuzz.distance import LCSseq

from app.web.marking import Mark, Passage, Span, passage

LONGEST = 20_000
"""Characters of each text that are compared."""
_TOKEN = re.compile(r"\s+|[^\W_]+|[\W_]")


def word_diff(left: str, right: str) -> tuple[Passage, Passage]:
    """Both texts, what stands in the left one alone marked ``lost``, what stands in the right one alone marked ``new``."""
    ours, theirs = _TOKEN.findall(left[:LONGEST]), _TOKEN.findall(right[:LONGEST])
    steps = list(LCSseq.opcodes(ours, theirs))
    same = [step.tag == "equal" for step in steps]
    for place in range(1, len(steps) - 1):
        blank = not "".join(ours[steps[place].src_start : steps[place].src_end]).strip()
        if blank and same[place] and not same[place - 1] and not same[place + 1]:
            same[place] = False  # a blank between two changes is part of them
    changed = [step for step, equal in zip(steps, same, strict=True) if not equal]
    lost = _spans(ours, [(step.src_start, step.src_end) for step in changed], "lost")
    new = _spans(theirs, [(step.dest_start, step.dest_end) for step in changed], "new")
    return _whole(left, lost), _whole(right, new)


def _spans(tokens: list[str], changed: list[tuple[int, int]], mark: Mark) -> list[Span]:
    starts = [0]
    for token in tokens:
        starts.append(starts[-1] + len(token))
    merged: list[Span] = []
    for first, last in changed:
        start, end = starts[first], starts[last]
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end, mark)
        elif start < end:
            merged.append((start, end, mark))
    return merged


def _whole(text: str, spans: list[Span]) -> Passage:
    return passage(text, spans, first=LONGEST)
