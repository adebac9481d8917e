"""Cutting explicit answer reveals out of a feedback (method section 3)."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from opcod.feedback.reveals import CANDIDATE, REVEALS

_MAX_PASSES = 5
_INVISIBLE = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff")
_LOOKALIKES = str.maketrans("АВСЕНΑΒΕΗ", "ABCEHABEH")


@dataclass(frozen=True, slots=True)
class Sanitized:
    """The feedback without its reveals, and what was cut, in order."""

    text: str
    removed: tuple[str, ...] = ()


def sanitize(feedback: str) -> Sanitized:
    """Remove explicit reveals of the answer letter; text without one comes back unchanged.

    Boxed, bold or tagged letters go, and phrases that call a letter the answer, "your answer is B"
    included, for nobody can tell a quotation from a verdict. Numbers stay, boxed or tagged, as in the
    paper: in a domain whose answers are numbers a tutor's working cannot be told from its verdict. So
    do words and runs of letters ("Final answer: AC"), which no multiple-choice verifier accepts.

    A cut can join its neighbours into a new reveal, so it goes on until nothing is found: the result
    is a fixed point. Text that still reveals after a few passes was built to, and is removed whole.
    Takes time linear in the text and never raises.
    """
    text = feedback
    removed: list[str] = []
    for _ in range(_MAX_PASSES):
        spans = _reveals(text)
        if not spans:
            return Sanitized(text, tuple(removed))
        removed += [text[start:end].strip() for start, end in spans]
        text = _without(text, spans)
    return Sanitized("", (*removed, text))


def _reveals(text: str) -> list[tuple[int, int]]:
    """Disjoint spans of `text`, in order."""
    folded, origin = _folded(text)
    if not CANDIDATE.search(folded):
        return []
    found = [match.span("bare" if "bare" in form.groupindex else 0) for form in REVEALS for match in form.finditer(folded)]
    if origin is not None:
        found = [(origin[start], origin[end - 1] + 1) for start, end in found]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _folded(text: str) -> tuple[str, list[int] | None]:
    """The text with compatibility forms and look-alike letters folded, and where each folded character stood."""
    if text.isascii():
        return text, None
    folded: list[str] = []
    origin: list[int] = []
    for place, character in enumerate(text):
        if character in _INVISIBLE:
            continue
        plain = unicodedata.normalize("NFKC", character).translate(_LOOKALIKES)
        folded.append(plain)
        origin += [place] * len(plain)
    return "".join(folded), origin


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    """The text without the spans, their doubled spaces and the full stops of sentences that went whole."""
    kept = [text[: spans[0][0]]]
    before, sentence = kept[0][-1:], kept[0].rstrip()[-1:]
    for (_, start), (end, _) in zip(spans, [*spans[1:], (len(text), len(text))], strict=True):
        piece = text[start:end]
        if sentence in ("", *".!?:"):
            piece = piece.lstrip(".,;:!")
        if before in ("", *" \t\n"):
            piece = piece.lstrip(" \t")
        kept.append(piece)
        before, sentence = piece[-1:] or before, piece.rstrip()[-1:] or sentence
    return "".join(kept)
