"""From a tutor's raw text to a feedback with its one outcome (method section 3)."""

from __future__ import annotations

from typing import Literal

from opcod.feedback.anchoring import AnchorCheck, strip_concept, validate_anchor
from opcod.feedback.sanitizing import sanitize
from opcod.types import Feedback, Question


def review(raw: str, question: Question, style: Literal["anchored", "generic"]) -> Feedback:
    """Sanitise, check the anchor, strip its tag.

    Generic feedback needs no anchor and is `kept` unless the tutor returned nothing (`fb_none`). In both
    styles a feedback of which no word remains, be it a bare concept or a bare reveal, ends as `empty`,
    so that what is `kept` always has something to say.
    """
    clean = sanitize(raw)
    check = _check(raw, clean.text, question, style)
    if style == "generic" or check.outcome in ("fb_none", "no_concept_tag"):
        return Feedback(raw, clean.text.strip(), check.outcome, removed=clean.removed)
    # Taking the tag out joins its neighbours: "the answer is <concept>...</concept> B".
    stripped = sanitize(strip_concept(clean.text))
    text = stripped.text.strip()
    removed = clean.removed + stripped.removed
    if check.outcome == "kept" and not _has_words(text):
        return Feedback(raw, "", "empty", check.concept, removed=removed)
    return Feedback(raw, text, check.outcome, check.concept, check.matched_word, removed)


def _check(raw: str, clean: str, question: Question, style: Literal["anchored", "generic"]) -> AnchorCheck:
    if not raw.strip():
        return AnchorCheck("fb_none")
    if not _has_words(clean):
        return AnchorCheck("empty")
    return AnchorCheck("kept") if style == "generic" else validate_anchor(clean, question.prompt)


def _has_words(text: str) -> bool:
    return any(character.isalnum() for character in text)
