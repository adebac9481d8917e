"""The lessons of examples/sciknoweval: in the run's own formats, true to the answers, and never giving a letter away."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

from opcod.config import ExperimentConfig, parse_config, parse_yaml
from opcod.feedback.prompts import check_templates
from opcod.feedback.review import review
from opcod.tasks.verifiers import make_verifier
from opcod.types import Question

FOLDER = Path(__file__).parents[3] / "examples" / "sciknoweval"


@pytest.fixture(scope="module")
def config() -> ExperimentConfig:
    return parse_config(parse_yaml((FOLDER / "physics-chemistry.yaml").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_specialists", FOLDER / "make_specialists.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_specialists"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


STEMS = (
    ("What is the critical current density of a Josephson junction at 9 K?", "critical current density"),
    ("Question: What is the net electric flux of the cube?", "electric flux"),
    ("What is the molar weight (g/mol) of the molecule 'C1CC1C(=O)NCCC=O'?", "molar weight"),
)
OPTIONS = {"A": "In short: 141.17 units", "B": "In short: 172.27 units", "C": "In short: COC(=O)C=C(C)c1cccnc1.", "D": "In short: none"}


def question(stem: str = STEMS[0][0], answer: str = "B", name: str = "q") -> Question:
    options = "\n".join(f"{letter}: {text}" for letter, text in OPTIONS.items())
    return Question(name, "physics", f"{stem}\n\n{options}\nPlease reason step by step.", answer, system="Be brief.")


def test_the_configuration_is_valid_and_its_templates_are_whole(config: ExperimentConfig) -> None:
    check_templates(config.method)
    assert config.method.feedback.style == "anchored"


@pytest.mark.parametrize(("stem", "term"), STEMS)
def test_the_term_is_the_subject_of_the_question(stem: str, term: str, example: ModuleType) -> None:
    assert example.term_of(question(stem)) == term


@pytest.mark.parametrize("letter", list(OPTIONS))
def test_a_response_is_read_as_its_letter(letter: str, example: ModuleType, config: ExperimentConfig) -> None:
    verification = make_verifier(config.domains[0].verifier)(example.response(question(), letter), "B")
    assert (verification.extracted, verification.correct) == (letter, letter == "B")


@pytest.mark.parametrize("letter", list(OPTIONS))
def test_feedback_is_kept_whole_and_names_no_letter(letter: str, example: ModuleType) -> None:
    found = review(example.feedback(question(), letter), question(), "anchored")
    assert (found.outcome, found.removed) == ("kept", ())
    assert ("does not fit" in found.text) is (letter != "B")
    assert f"option {letter}".casefold() not in found.text.casefold()


def test_options_are_quoted_from_where_they_differ(example: ModuleType) -> None:
    assert example.shown(question(), "B") == '"172.27 units"'


def test_shuffling_moves_the_letter_with_its_text(example: ModuleType) -> None:
    letters = set()
    for seed in range(20):
        other = example.shuffled(question(), random.Random(seed))
        assert example.options_of(other)[other.answer] == OPTIONS["B"]
        assert sorted(example.options_of(other).values()) == sorted(OPTIONS.values())
        letters.add(other.answer)
    assert letters == set("ABCD")


def test_lessons_cover_answers_feedback_and_open_book(example: ModuleType, config: ExperimentConfig) -> None:
    lessons = list(example.Lessons(config, "physics", "chemistry", random.Random(0)).all([question(name=str(n)) for n in range(12)]))
    prompts = [lesson.messages[-1].content for lesson in lessons]
    kinds = ["feedback" if "The peer's response" in p else "open book" if "original question" in p else "answer" for p in prompts]
    assert {kind: kinds.count(kind) for kind in kinds} == {"answer": 12, "feedback": 6, "open book": 3}
    shown = [("Correct solution" in p, "Feedback on" in p) for p, kind in zip(prompts, kinds, strict=True) if kind == "open book"]
    assert shown == [(True, False), (False, True), (True, True)]
    verdicts = ["does not fit" in lesson.completion for lesson, kind in zip(lessons, kinds, strict=True) if kind == "feedback"]
    assert verdicts == [False, True] * 3
    assert all(lesson.messages[0].role == ("user" if kind == "feedback" else "system") for lesson, kind in zip(lessons, kinds, strict=True))
