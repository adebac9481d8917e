"""Whether a response is right: multiple choice, exact text, numbers, mathematics (method section 9)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from opcod.config import VerifierConfig
from opcod.tasks.mathematics import MathChecker, last_boxed
from opcod.tasks.quantities import parse_number
from opcod.types import Verification

MAX_EXTRACTED = 1000
"""Longest answer that is taken from a response, in characters; a longer one counts as none."""

_LETTER = re.compile(r"[A-Z]")


class Verifier(Protocol):
    """Judges a response against the reference answer; never raises on what a model wrote."""

    def __call__(self, response: str, answer: str) -> Verification:
        """`correct` with the `extracted` answer, or None where the response holds none."""


def make_verifier(config: VerifierConfig) -> Verifier:
    """The verifier of a domain.

    Raises:
        ConfigError: `math` is asked for and math-verify is not installed.
    """
    if config.kind == "math":
        return MathChecker()
    if config.kind == "number":
        return _tagged(lambda found, answer: _same_number(found, answer, config))
    return _tagged(lambda found, answer: found == answer.strip())


def check_answer(config: VerifierConfig, answer: str) -> str | None:
    """What is wrong with a reference answer, in words that end a sentence; None where the verifier can use it."""
    answer = answer.strip()
    if not answer:
        return "the answer is blank"
    shown = repr(answer if len(answer) <= 40 else answer[:40] + "…")
    if len(answer) > MAX_EXTRACTED:
        return f"answer {shown} is longer than {MAX_EXTRACTED:,} characters"
    if config.kind == "multiple_choice" and not _LETTER.fullmatch(answer):
        return f"answer {shown} is no letter A-Z"
    if config.kind == "exact" and re.search(r"</?answer>", answer):
        return f"answer {shown} holds an <answer> tag"
    if config.kind == "number" and parse_number(answer) is None:
        return f"answer {shown} is no number"
    if config.kind == "math" and r"\boxed" in answer and last_boxed(answer) is None:
        return f"answer {shown} has a \\boxed{{ that is empty or never closed"
    return None


def tagged_answer(response: str) -> str | None:
    """The text after the last ``<answer>`` up to ``</answer>``, or to the end where that is missing, stripped (method section 9).

    None where there is no tag, nothing in it, or more than `MAX_EXTRACTED` characters.
    """
    _, tag, rest = response.rpartition("<answer>")
    found = rest.partition("</answer>")[0].strip()
    return found if tag and 0 < len(found) <= MAX_EXTRACTED else None


def _tagged(matches: Callable[[str, str], bool]) -> Verifier:
    def verify(response: str, answer: str) -> Verification:
        found = tagged_answer(response)
        return Verification(correct=found is not None and matches(found, answer), extracted=found)

    return verify


def _same_number(found: str, answer: str, config: VerifierConfig) -> bool:
    value, reference = parse_number(found), parse_number(answer)
    if value is None or reference is None:
        return False
    return abs(value - reference) <= max(config.absolute_tolerance, config.relative_tolerance * abs(reference))
