from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.feedback.reveals import CANDIDATE
from opcod.feedback.sanitizing import sanitize
from tests.unit.feedback.reveals import INNOCENT, REVEALS

LONE_LETTER = re.compile(r"(?<![A-Za-z])[A-Da-dＢⒷ𝐁С](?![A-Za-z])")
WHOLE_LINES = re.compile(r"\W*(?:Option )?[A-Z]\W*|B because.*|it is C|.*<answer>B", re.DOTALL)

fragments = st.sampled_from(
    [
        *REVEALS,
        *INNOCENT,
        "answer",
        "the correct",
        "option",
        "is",
        "B",
        "(B)",
        "**",
        "\\box",
        "ed{B}",
        "\\boxed{",
        "}",
        ":",
        "<answer>",
        "\n",
        "so",
        "Ⓑ",
        "\u200b",
    ]
)
mixtures = st.lists(st.one_of(fragments, st.text(max_size=8)), max_size=12).flatmap(
    lambda parts: st.sampled_from(["", " ", "\n"]).map(lambda joint: joint.join(parts))
)


def test_the_corpus_is_large_enough():
    assert len(set(REVEALS)) >= 60
    assert len(set(INNOCENT)) >= 40


@pytest.mark.parametrize("reveal", REVEALS)
def test_a_reveal_is_cut(reveal: str):
    clean = sanitize(reveal)
    assert clean.removed
    assert not LONE_LETTER.search(clean.text)


@pytest.mark.parametrize("reveal", [reveal for reveal in REVEALS if not WHOLE_LINES.fullmatch(reveal)])
def test_a_reveal_is_cut_from_its_sentence_and_the_rest_stays(reveal: str):
    clean = sanitize(f"Check the sign of step 2. {reveal} Then mind the units.")
    assert not LONE_LETTER.search(clean.text)
    assert clean.text.startswith("Check the sign of step 2.")
    assert clean.text.endswith("Then mind the units.")


@pytest.mark.parametrize("text", INNOCENT)
def test_innocent_text_is_left_byte_for_byte(text: str):
    clean = sanitize(text)
    assert clean.text == text
    assert clean.removed == ()


def test_what_was_cut_is_told():
    clean = sanitize("The sign is wrong. The correct answer is (B). Mind the units.")
    assert clean.text == "The sign is wrong. Mind the units."
    assert clean.removed == ("The correct answer is (B)",)


def test_a_reveal_that_a_cut_puts_together_is_cut_too():
    assert not LONE_LETTER.search(sanitize(r"\box\boxed{A}ed{B}").text)


def test_nesting_beyond_reason_costs_the_whole_text():
    text = "\\boxed{C}"
    for _ in range(30):
        text = f"\\box{text}ed{{B}}"
    clean = sanitize(text)
    assert clean.text == ""
    assert clean.removed


@pytest.mark.parametrize("reveal", REVEALS)
def test_the_quick_look_overlooks_no_reveal(reveal: str):
    assert CANDIDATE.search(reveal) or not reveal.isascii() or "\x08" in reveal


@given(mixtures)
def test_sanitising_twice_changes_nothing(text: str):
    once = sanitize(text).text
    again = sanitize(once)
    assert again.text == once
    assert again.removed == ()


@given(st.text())
def test_any_text_is_survived_and_only_ever_cut(text: str):
    clean = sanitize(text)
    assert len(clean.text) <= len(text)
    assert bool(clean.removed) or clean.text == text


HOSTILE = [
    " ",
    "\n",
    "*",
    "(",
    "\\boxed{",
    "answer ",
    "answer is ",
    "answer of ",
    "<answer>",
    "\\answer:",
    "option ",
    "so B ",
    "(B",
    "B, ",
    "correct ",
    "**A: ",
    "答案",
    "respuesta ",
]


@pytest.mark.slow
@pytest.mark.parametrize("unit", HOSTILE)
def test_time_is_linear_in_hostile_text(unit: str):
    """A quadratic form takes 16 times as long, or more, for four times the text; a linear one four times."""
    seconds = []
    for length in (8_000, 32_000):
        text = (unit * length)[:length]
        start = time.process_time()
        for hostile in (text, f"answer is{text}", f"{text}B"):
            sanitize(hostile)
        seconds.append(time.process_time() - start)
    assert seconds[1] < 9 * seconds[0] + 0.5
