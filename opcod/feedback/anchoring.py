"""Whether a feedback is about the question: its anchor (paper Appendix C, Table 3)."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from opcod.types import FeedbackOutcome

_GENERIC = """
    problem problems question questions answer answers value values calculation calculations formula formulas formulae
    student students peer peers specialist specialists
"""
_FUNCTION_WORDS = """
    a an the this that these those it its he she they we you i his her their our your my
    is are was were be been being am do does did has have had can could will would shall should may might must
    and or but nor not no if then than so as of at by for from in into on onto to with without within over under between about
    what which who whom whose when where why how there here all any each every both either neither some such only also very more most
"""
GENERIC_WORDS = frozenset((_GENERIC + _FUNCTION_WORDS).split())
"""Words that cannot anchor a feedback: the paper's list with its plurals, and English function words."""

_TAG = re.compile(r"<(/?)\s{0,8}concept\s{0,8}>", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_TYPOGRAPHIC = str.maketrans({"\u2010": "-", "\u2011": "-", "\u2019": "'"})


@dataclass(frozen=True, slots=True)
class AnchorCheck:
    """The outcome, the concept as written (None without a well-formed tag) and the word found in the question, casefolded."""

    outcome: FeedbackOutcome
    concept: str | None = None
    matched_word: str | None = None


def validate_anchor(feedback: str | None, question: str) -> AnchorCheck:
    """Judge a feedback by its ``<concept>`` (paper Table 3); precision comes before recall.

    A word is a run of letters and digits, hyphens and apostrophes inside it included. It matches
    when the same whole word stands in the question, compatibility forms and case folded: ``field`` does not
    match ``fields``, ``ray`` does not match ``X-ray``, for the prompt asks for the question's exact wording. The tag is asked for before
    any other text but accepted anywhere. Of several tags the first counts; an unclosed, stray or
    nested one anywhere makes the feedback malformed. A concept without any word, such as dashes, is `empty`;
    a single Latin letter or digit is as generic as the list, for every option of a question starts with one.
    """
    if feedback is None or not feedback.strip():
        return AnchorCheck("fb_none")
    tags = list(_TAG.finditer(feedback))
    if not tags or [tag.group(1) for tag in tags] != ["", "/"] * (len(tags) // 2):
        return AnchorCheck("no_concept_tag")
    concept = feedback[tags[0].end() : tags[1].start()].strip()
    concept_words = words(concept)
    if not concept_words:
        return AnchorCheck("empty", concept)
    telling = [word for word in concept_words if word not in GENERIC_WORDS and not (len(word) == 1 and word.isascii())]
    if not telling:
        return AnchorCheck("all_generic", concept)
    in_question = set(words(question))
    matched = next((word for word in telling if word in in_question), None)
    return AnchorCheck("kept" if matched else "no_match", concept, matched)


def strip_concept(feedback: str) -> str:
    """The feedback without its concept tags and what stands in them, trimmed. For well-formed tags only."""
    tags = list(_TAG.finditer(feedback))
    kept = []
    start = 0
    for opening, closing in zip(tags[::2], tags[1::2], strict=False):
        kept.append(feedback[start : opening.start()].rstrip())
        start = closing.end()
    kept.append(feedback[start:])
    return " ".join(part.strip() for part in kept if part.strip())


def words(text: str) -> list[str]:
    """Casefolded words, in order."""
    folded = unicodedata.normalize("NFKC", text).translate(_TYPOGRAPHIC).casefold()
    return _WORD.findall(folded)
