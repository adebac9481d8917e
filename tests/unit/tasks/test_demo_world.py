from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.config import DomainConfig, FeedbackConfig, VerifierConfig, load_preset, parse_config
from opcod.errors import DataError
from opcod.feedback.prompts import check_templates
from opcod.feedback.review import review
from opcod.tasks.demo import FACTS, STUDENTS, demo_questions, fact_of, feedback_is_correct, stated_value, taught
from opcod.tasks.demo.language import Problem, feedback
from opcod.tasks.demo.questions import FORMS
from opcod.tasks.demo.world import GUESSES
from opcod.tasks.questions import load_domain
from opcod.tasks.verifiers import make_verifier
from opcod.types import Question

SEEDS = st.integers(0, 10_000)
PROBLEMS = [Problem(domain, name, *form) for domain, facts in FACTS.items() for name in facts for form in FORMS]
VALUES = st.sampled_from(GUESSES)


def questions(domain: str, seed: int = 0) -> dict[str, tuple[Question, ...]]:
    return {split: demo_questions(domain, split, seed) for split in ("train", "validation", "test")}


@given(seed=SEEDS)
def test_the_splits_share_no_question_and_hold_every_fact_alike(seed: int) -> None:
    for domain, facts in FACTS.items():
        splits = questions(domain, seed)
        prompts = [question.prompt for split in splits.values() for question in split]
        assert len(prompts) == len(set(prompts)) == len(facts) * len(FORMS)
        for split, times in (("train", 9), ("validation", 2), ("test", 3)):
            assert Counter(name_of(question) for question in splits[split]) == dict.fromkeys(facts, times)


def test_another_seed_draws_another_split_and_a_name_can_carry_it() -> None:
    assert demo_questions("protons", "test", 3) == demo_questions("protons@3", "test")
    assert demo_questions("protons@3", "test") != demo_questions("protons", "test")
    assert demo_questions("protons", "test") == demo_questions("protons@0", "test")


@pytest.mark.parametrize("domain", ["physics", "densities@", "densities@x", "densities@-1", "", "Densities"])
def test_an_unknown_domain_is_refused_by_name(domain: str) -> None:
    with pytest.raises(DataError, match="no domain"):
        demo_questions(domain, "test")


def test_an_unknown_split_or_student_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="no split 'dev'"):
        demo_questions("densities", "dev")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no student 'physics'"):
        taught("physics")


@given(seed=SEEDS)
def test_what_one_specialist_lacks_the_other_knows(seed: int) -> None:
    known = {student: taught(student, seed) for student in STUDENTS}
    for domain, facts in FACTS.items():
        assert known["densities"][domain] | known["protons"][domain] == set(facts)
        assert len(known[domain][domain]) == 20
        assert len(known["novice"][domain]) < min(len(known["densities"][domain]), len(known["protons"][domain]))
    assert len(known["densities"]["protons"]) == len(known["protons"]["densities"]) == 17


def test_a_seed_changes_who_knows_what() -> None:
    assert len({tuple(sorted(taught("densities", seed)["densities"])) for seed in range(20)}) > 10


def test_the_facts_of_the_two_domains_do_not_help_each_other() -> None:
    densities, protons = FACTS.values()
    assert not densities.keys() & protons.keys()
    assert {*densities.values(), *protons.values()} <= set(GUESSES)


@pytest.mark.parametrize("domain", FACTS)
def test_worked_solutions_are_right_and_a_wrong_fact_gives_a_wrong_answer(domain: str) -> None:
    verifier = make_verifier(VerifierConfig(kind="number"))
    for problem in (problem for problem in PROBLEMS if problem.domain == domain):
        true = FACTS[domain][problem.name]
        answer = str(problem.result(true))
        assert verifier(problem.solution(true), answer).correct
        assert not any(verifier(problem.solution(value), answer).correct for value in GUESSES if value != true)
    assert all(q.solution and verifier(q.solution, q.answer).correct for q in demo_questions(domain, "train"))


@pytest.mark.parametrize("domain", FACTS)
def test_the_sources_of_the_presets_load_like_any_other_data(domain: str) -> None:
    sources = {split: f"demo:{domain}@7:{split}" for split in ("train", "validation", "test")}
    data = load_domain(DomainConfig(name="a", verifier=VerifierConfig(kind="number"), **sources))
    assert (len(data.train), len(data.validation), len(data.test)) == (207, 46, 69)


@pytest.mark.parametrize("preset", ["demo", "tiny"])
def test_the_presets_are_valid(preset: str) -> None:
    config = parse_config(load_preset(preset))
    check_templates(config.method)
    for domain in config.domains:
        load_domain(domain)


def test_the_test_preset_differs_from_the_demo_in_size_alone() -> None:
    demo, tiny = (load_preset(name)["method"]["feedback"]["templates"] for name in ("demo", "tiny"))
    assert demo == tiny


@given(problem=st.sampled_from(PROBLEMS), believed=VALUES, said=VALUES, anchored=st.booleans())
def test_what_a_tutor_writes_is_kept_and_its_fact_can_be_checked(problem: Problem, believed: int, said: int, anchored: bool) -> None:
    question = Question("q", problem.domain, problem.prompt, "0")
    style = FeedbackConfig(style="anchored" if anchored else "generic").style
    reviewed = review(feedback(problem, believed, said, anchored=anchored), question, style)
    assert reviewed.outcome == "kept"
    assert reviewed.removed == ()
    assert reviewed.matched_word == (problem.name if anchored else None)
    assert reviewed.text == feedback(problem, believed, said, anchored=False)
    assert feedback_is_correct(question, reviewed.text) is (believed == FACTS[problem.domain][problem.name])


@given(problem=st.sampled_from(PROBLEMS), value=VALUES)
def test_every_question_names_its_fact_and_every_solution_states_it(problem: Problem, value: int) -> None:
    assert fact_of(Question("q", problem.domain, problem.prompt, "0")) == (problem.name, FACTS[problem.domain][problem.name])
    assert stated_value(problem.solution(value), problem.name) == value


@pytest.mark.parametrize(
    "text", ["", "the response says 12.", "ruby has density 40.", "jade has", "jade has protons", "jade has many protons."]
)
def test_a_feedback_that_states_no_such_fact_is_neither_right_nor_wrong(text: str) -> None:
    assert feedback_is_correct(Question("q", "densities", "What do 2 blocks of jade weigh?", "66"), text) is None
    assert feedback_is_correct(Question("q", "physics", "What is a quark?", "A"), "jade has density 33.") is None


def name_of(question: Question) -> str:
    fact = fact_of(question)
    assert fact is not None
    return fact[0]
