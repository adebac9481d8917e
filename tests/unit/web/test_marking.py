from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.marking import LONG, SHORT, feedback_spans, passage, question_spans

marks = st.sampled_from(["match", "concept", "cut"])


@given(st.text(), st.lists(st.tuples(st.integers(-5, 60), st.integers(-5, 60), marks)))
def test_pieces_join_to_the_text_whatever_the_spans(text: str, spans: list[tuple[int, int, str]]) -> None:
    sane = [(max(0, start), end, mark) for start, end, mark in spans]
    assert passage(text, sane).text == text[:SHORT]  # type: ignore[arg-type]


def test_of_overlapping_spans_the_first_wins() -> None:
    pieces = passage("abcdef", [(1, 4, "cut"), (2, 5, "concept"), (4, 6, "match")]).pieces
    assert [(piece.text, piece.mark) for piece in pieces] == [("a", ""), ("bcd", "cut"), ("ef", "match")]


def test_a_long_text_is_cut_at_a_stated_length_even_when_all_of_it_is_asked_for() -> None:
    short, whole = passage("x" * (LONG + 5)), passage("x" * (LONG + 5), full=True)
    assert (len(short.text), short.cut, short.more) == (SHORT, True, True)
    assert (len(whole.text), whole.cut, whole.more, whole.characters) == (LONG, True, False, LONG + 5)


@pytest.mark.parametrize(
    ("question", "concept", "word", "found"),
    [
        ("What is the Molar  mass of it?", "molar mass", "molar", ["Molar  mass"]),
        ("The density of densities.", "density", "density", ["density"]),
        ("Its entropy rises; entropy is S.", "free entropy", "entropy", ["entropy", "entropy"]),
        ("a.b or axb", "a.b", "a.b", ["a.b"]),
        ("nothing here", "entropy", "entropy", []),
        ("not matched by the check, so not marked", "matched", None, []),
    ],
)
def test_the_anchor_is_found_in_the_question(question: str, concept: str, word: str | None, found: list[str]) -> None:
    assert [question[start:end] for start, end, _ in question_spans(question, concept, word)] == found


def test_what_was_cut_and_what_was_named_are_found_in_the_feedback() -> None:
    raw = "<concept>density</concept> The answer is B. Good. The answer is B."
    spans = feedback_spans(raw, "density", ["The answer is B.", "The answer is B.", "not in it", ""])
    assert [(raw[start:end], mark) for start, end, mark in sorted(spans)] == [
        ("density", "concept"),
        ("The answer is B.", "cut"),
        ("The answer is B.", "cut"),
    ]
    assert len({start for start, _, _ in spans}) == 3
