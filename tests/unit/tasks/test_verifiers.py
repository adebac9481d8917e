from __future__ import annotations

import pickle
import threading
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.config import VerifierConfig
from opcod.tasks.mathematics import MathChecker, last_boxed
from opcod.tasks.quantities import parse_number
from opcod.tasks.verifiers import MAX_EXTRACTED, check_answer, make_verifier, tagged_answer
from opcod.types import Verification

Kind = Literal["multiple_choice", "exact", "number", "math"]


@pytest.mark.parametrize(
    ("response", "correct", "extracted"),
    [
        ("<reasoning>x</reasoning><answer>\nB\n</answer>", True, "B"),
        ("<answer>A</answer> no: <answer>B</answer>", True, "B"),
        ("<answer>B</answer> no: <answer>A</answer>", False, "A"),
        ("<answer>B</answer> trailing </answer> C", True, "B"),
        ("<answer>B", True, "B"),
        ("<answer>b</answer>", False, "b"),
        ("<answer>(B)</answer>", False, "(B)"),
        ("<answer>B: 56 pC</answer>", False, "B: 56 pC"),
        ("B", False, None),
        ("The answer is B", False, None),
        ("<answer> </answer>", False, None),
        ("", False, None),
        ("<answer>" + "B" * (MAX_EXTRACTED + 1), False, None),
    ],
)
def test_multiple_choice_reads_the_last_tag(response: str, correct: bool, extracted: str | None):
    assert make_verifier(VerifierConfig())(response, "B") == Verification(correct, extracted)


def test_exact_compares_stripped_text():
    verify = make_verifier(VerifierConfig(kind="exact"))
    assert verify("<answer> sodium chloride\n</answer>", "sodium chloride").correct
    assert not verify("<answer>Sodium chloride</answer>", "sodium chloride").correct


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        ("-4", -4),
        ("−4", -4),
        ("+.5", 0.5),
        ("42.", 42),
        ("1,200", 1200),
        ("1 200.5", 1200.5),
        ("1.5e3", 1500),
        ("1.5E-3 m", 0.0015),
        ("42 kJ/mol", 42),
        ("42kJ", 42),
        ("9.8 m s^-2", 9.8),
        ("9.8 m/s²", 9.8),
        ("5 m³", 5),
        ("5 eV", 5),
        ("25 °C", 25),
        ("50%", 50),
        (r"50\%", 50),
        (r"3 \times 10^4", 3e4),
        (r"$3.0 \times 10^{-4} \mathrm{~N}$", 3e-4),
        ("6.02×10²³", 6.02e23),
        ("10^{-3}", 1e-3),
        ("10³", 1000),
        ("-10^2", -100),
        ("3/4", 0.75),
        (r"\frac{1}{2}", 0.5),
        (r"-\frac{1}{2} m", -0.5),
        ("½", 0.5),
        ("E = 5 J", 5),
        ("E = mc^2 = 5 J", 5),
        ("≈ 3", 3),
        (r"\approx 3", 3),
        ("about 7 N", 7),
        ("**42**", 42),
        (r"\text{42 J}", 42),
        ("€5", 5),
    ],
)
def test_numbers_are_read(text: str, value: float):
    assert parse_number(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "B",
        "abc",
        "3 or 4",
        "3-4",
        "3, 4",
        "3,14",
        "1,2000",
        "x = 1, y = 2",
        "5 ± 0.1",
        "2 1/2",
        "3½",
        "1/0",
        "1e999",
        "nan",
        "inf",
        "4.2.1",
        "9" * 300,
    ],
)
def test_what_gives_no_single_number_is_none(text: str):
    assert parse_number(text) is None


def test_number_accepts_the_tolerance_and_no_more():
    verify = make_verifier(VerifierConfig(kind="number", relative_tolerance=0.01))
    assert verify("<answer>101 kJ</answer>", "100").correct
    assert verify("<answer>-99.0</answer>", "-100 J").correct
    assert not verify("<answer>101.1</answer>", "100").correct
    assert not verify("<answer>-100</answer>", "100").correct
    assert not verify("<answer>many</answer>", "100").correct
    zero = make_verifier(VerifierConfig(kind="number", absolute_tolerance=0.5))
    assert zero("<answer>0.5</answer>", "0").correct
    assert not zero("<answer>0.51</answer>", "0").correct


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_written_float_is_read_back(value: float):
    assert parse_number(repr(value)) == value
    assert parse_number(f"{value!r} kJ/mol") == value


@given(st.text(), st.sampled_from(["multiple_choice", "exact", "number"]))
def test_any_text_is_survived(text: str, kind: Kind):
    verify = make_verifier(VerifierConfig(kind=kind))
    for response in (text, f"<answer>{text}</answer>"):
        assert verify(response, "7").extracted == tagged_answer(response)
    check_answer(VerifierConfig(kind=kind), text)
    last_boxed(f"\\boxed{{{text}")


@pytest.mark.parametrize(
    ("kind", "answer", "complaint"),
    [
        ("multiple_choice", "B", None),
        ("multiple_choice", "E5", "answer 'E5' is no letter A-Z"),
        ("multiple_choice", "b", "answer 'b' is no letter A-Z"),
        ("multiple_choice", " ", "the answer is blank"),
        ("exact", "salt", None),
        ("exact", "</answer>", "answer '</answer>' holds an <answer> tag"),
        ("number", "42 kJ", None),
        ("number", "many", "answer 'many' is no number"),
        ("math", r"\frac{1}{2}", None),
        ("math", r"\boxed{1", r"answer '\\boxed{1' has a \boxed{ that is empty or never closed"),
        ("exact", "x" * 1001, "answer '" + "x" * 40 + "…' is longer than 1,000 characters"),
    ],
)
def test_an_answer_that_cannot_be_used_is_complained_of(kind: Kind, answer: str, complaint: str | None):
    assert check_answer(VerifierConfig(kind=kind), answer) == complaint


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{1} then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}} end", r"\{1, 2\}"),
        (r"\boxed{1} then \boxed{2", None),
        (r"\boxed{ }", None),
        ("boxed 1", None),
        (r"\boxed{" + "x" * 2000 + "}", None),
    ],
)
def test_the_last_box_counts(text: str, found: str | None):
    assert last_boxed(text) == found


@pytest.fixture(scope="module")
def checker() -> MathChecker:
    pytest.importorskip("math_verify")
    return MathChecker(seconds=30)


@pytest.mark.parametrize(
    ("response", "answer", "correct"),
    [
        (r"so \boxed{0.5}", r"\frac{1}{2}", True),
        (r"\boxed{x^2 + 2x + 1}", r"$\boxed{(x+1)^2}$", True),
        (r"\boxed{2\sqrt{2}}", r"\sqrt{8}", True),
        (r"\boxed{3}", "4", False),
        (r"\boxed{}", "4", False),
        ("4", "4", False),
        (r"\boxed{\undefined{{{}", "4", False),
        (r"\boxed{__import__('os').getcwd()}", "4", False),
    ],
)
def test_boxed_mathematics(checker: MathChecker, response: str, answer: str, correct: bool):
    assert checker(response, answer).correct is correct


def test_mathematics_works_off_the_main_thread_and_in_a_copy(checker: MathChecker):
    found: list[bool] = []
    copy = pickle.loads(pickle.dumps(checker))
    thread = threading.Thread(target=lambda: found.append(copy(r"\boxed{0.25}", r"\frac{1}{4}").correct))
    thread.start()
    thread.join()
    assert found == [True]


@pytest.mark.slow
def test_a_formula_that_never_ends_is_wrong_and_the_next_one_still_counts():
    pytest.importorskip("math_verify")
    checker = MathChecker(seconds=0.5)
    assert not checker(r"\boxed{9^{9^{9^9}}}", "4").correct
    patient = MathChecker(seconds=60)
    assert not patient(r"\boxed{9^{9^{9^9}}}", "4").correct
    assert patient(r"\boxed{\frac{8}{2}}", "4").correct
