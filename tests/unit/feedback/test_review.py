from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.feedback.review import review
from opcod.types import Question
from tests.unit.feedback.reveals import REVEALS

QUESTION = Question("1", "physics", "What is the electric field?\n\nA: 5\nB: 7", "B")
STYLES: tuple[Literal["anchored", "generic"], ...] = ("anchored", "generic")


def test_a_kept_feedback_loses_tag_and_reveal_and_keeps_the_record():
    raw = "<concept>electric field</concept>\nYour sign in step 2 is wrong. The correct answer is B."
    feedback = review(raw, QUESTION, "anchored")
    assert feedback.outcome == "kept"
    assert feedback.text == "Your sign in step 2 is wrong."
    assert feedback.concept == "electric field"
    assert feedback.matched_word == "electric"
    assert feedback.removed == ("The correct answer is B",)
    assert feedback.raw == raw


@pytest.mark.parametrize(
    "raw", ["<concept>field</concept>", "<concept>field</concept> The answer is B.", "<concept>field</concept> \n ...", "**B**"]
)
def test_nothing_left_to_say_is_empty(raw: str):
    feedback = review(raw, QUESTION, "anchored")
    assert feedback.outcome == "empty"
    assert feedback.text == ""


def test_a_reveal_around_the_tag_is_cut_too():
    feedback = review("So the answer is <concept>field</concept> B. Mind your sign.", QUESTION, "anchored")
    assert feedback.outcome == "kept"
    assert " B" not in feedback.text
    assert feedback.removed


def test_a_reveal_within_the_tag_anchors_nothing():
    assert review("<concept>**B**</concept> Wrong.", QUESTION, "anchored").outcome == "empty"


def test_generic_feedback_needs_no_anchor():
    feedback = review("Your sign is wrong.", QUESTION, "generic")
    assert feedback.outcome == "kept"
    assert feedback.text == "Your sign is wrong."
    assert feedback.concept is None


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("raw", "outcome"), [("", "fb_none"), (" \n", "fb_none"), (r"\boxed{B}", "empty"), ("...", "empty")])
def test_silence_and_bare_reveals_never_pass(style: Literal["anchored", "generic"], raw: str, outcome: str):
    assert review(raw, QUESTION, style).outcome == outcome


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("reveal", [reveal for reveal in REVEALS if reveal.endswith("B.") and len(reveal) > 20])
def test_no_style_lets_a_reveal_through(style: Literal["anchored", "generic"], reveal: str):
    feedback = review(f"<concept>electric field</concept> Mind the sign. {reveal}", QUESTION, style)
    assert feedback.outcome == "kept"
    assert "B" not in feedback.text


@given(st.one_of(st.text(), st.text().map(lambda text: f"<concept>field</concept>{text}")), st.sampled_from(STYLES))
def test_what_is_kept_has_words_and_any_text_is_survived(raw: str, style: Literal["anchored", "generic"]):
    feedback = review(raw, QUESTION, style)
    assert feedback.raw == raw
    if feedback.outcome == "kept":
        assert any(character.isalnum() for character in feedback.text)
