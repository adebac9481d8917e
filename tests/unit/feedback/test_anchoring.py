from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.feedback.anchoring import GENERIC_WORDS, strip_concept, validate_anchor, words

QUESTION = "What is the X-ray diffraction angle of the (111) plane? The electric field is E.\n\nA: 5°\nB: 7°"


@pytest.mark.parametrize(
    ("feedback", "outcome"),
    [
        ("<concept>electric field</concept> Your sign is wrong.", "kept"),
        ("<CONCEPT> Electric Field </CONCEPT> Your sign is wrong.", "kept"),
        ("First some words. <concept>diffraction</concept> Then more.", "kept"),
        ("", "fb_none"),
        (" \n\t ", "fb_none"),
        ("Your sign is wrong.", "no_concept_tag"),
        ("concept: electric field", "no_concept_tag"),
        ("<concept>electric field. Your sign is wrong.", "no_concept_tag"),
        ("electric field</concept> Your sign is wrong.", "no_concept_tag"),
        ("<concept><concept>electric</concept></concept> Wrong.", "no_concept_tag"),
        ("</concept>electric<concept> Wrong.", "no_concept_tag"),
        ("<concept>electric</concept> and <concept>plane", "no_concept_tag"),
        ("<concept></concept> Wrong.", "empty"),
        ("<concept> \n </concept> Wrong.", "empty"),
        ("<concept>--</concept> Wrong.", "empty"),
        ("<concept>the answer</concept> Wrong.", "all_generic"),
        ("<concept>Question value</concept> Wrong.", "all_generic"),
        ("<concept>what is the</concept> Wrong.", "all_generic"),
        ("<concept>B</concept> Wrong.", "all_generic"),
        ("<concept>entropy</concept> Wrong.", "no_match"),
        ("<concept>fields</concept> Wrong.", "no_match"),
        ("<concept>elect</concept> Wrong.", "no_match"),
        ("<concept>ray</concept> Wrong.", "no_match"),
    ],
)
def test_each_feedback_ends_in_its_outcome(feedback: str, outcome: str):
    assert validate_anchor(feedback, QUESTION).outcome == outcome


@pytest.mark.parametrize("word", ["problem", "question", "answer", "value", "calculation", "formula", "student", "peer", "specialist"])
def test_the_papers_generic_words_do_not_anchor_though_the_question_has_them(word: str):
    assert validate_anchor(f"<concept>{word}</concept> Wrong.", f"Which {word} is meant?").outcome == "all_generic"


def test_a_generic_word_beside_a_telling_one_does_not_match_for_it():
    check = validate_anchor("<concept>the entropy value</concept> Wrong.", "What is the value of the field?")
    assert check.outcome == "no_match"
    assert check.concept == "the entropy value"
    assert check.matched_word is None


def test_the_matched_word_is_the_first_that_stands_in_the_question():
    check = validate_anchor("<concept>Magnetic Field plane</concept> Wrong.", QUESTION)
    assert check.matched_word == "field"


def test_hyphens_and_letter_forms_are_folded():
    assert validate_anchor("<concept>x\u2011RAY</concept> Wrong.", QUESTION).matched_word == "x-ray"
    assert validate_anchor("<concept>GRÖSSE</concept> Falsch.", "Welche größe hat es?").outcome == "kept"
    assert validate_anchor("<concept>\u212bngström</concept> Wrong.", "in Ångström").outcome == "kept"


def test_the_first_of_several_tags_counts():
    check = validate_anchor("<concept>entropy</concept> and <concept>field</concept>", QUESTION)
    assert check.outcome == "no_match"
    assert check.concept == "entropy"


def test_stripping_takes_all_tags():
    assert strip_concept("<concept>field</concept>\nYour sign <concept>plane</concept> is wrong.") == "Your sign is wrong."


@given(st.text(), st.text())
def test_a_kept_feedback_shares_a_telling_word_with_the_question(concept: str, question: str):
    check = validate_anchor(f"<concept>{concept}</concept> text", question)
    if check.outcome == "kept":
        assert check.matched_word in words(question)
        assert check.matched_word in words(concept)
        assert check.matched_word not in GENERIC_WORDS
    else:
        assert check.matched_word is None
