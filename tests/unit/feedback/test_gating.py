from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.config import GateConfig
from opcod.feedback.gating import choose_tutor, cognizance_gaps, decide
from opcod.types import Algorithm, GateDecision, GateStrategy

BALANCED = {"first": {"a": 100.0, "b": 70.0}, "second": {"a": 70.0, "b": 100.0}}
WEAK = {"strong": {"a": 0.9, "b": 0.8}, "weak": {"a": 0.2, "b": 0.6}}


def open_domains(strategy: GateStrategy, scores: dict[str, dict[str, float]], algorithm: Algorithm = "opcod") -> dict[str, tuple[str, ...]]:
    decisions = decide(GateConfig(strategy=strategy), scores, round=1, algorithm=algorithm)
    return {decision.tutor: decision.domains for decision in decisions}


def test_the_methods_example():
    assert cognizance_gaps(BALANCED) == pytest.approx({"first": 0.3, "second": 0.3})
    assert open_domains("cognizance", BALANCED) == {"first": (), "second": ()}


def test_a_domain_that_nobody_solves_adds_nothing():
    assert cognizance_gaps({"first": {"a": 0.0, "b": 0.5}, "second": {"a": 0.0, "b": 0.25}}) == {"first": 0.0, "second": 0.5}


def test_a_gap_of_tau_itself_may_tutor():
    decisions = decide(GateConfig(threshold=0.3), {"first": {"a": 1.0}, "second": {"a": 0.7}}, round=1, algorithm="opcod")
    assert all(decision.cognizant and decision.domains == ("a",) for decision in decisions)


def test_the_best_score_is_taken_over_all_students():
    gaps = cognizance_gaps({"x": {"a": 0.5, "b": 0.4}, "y": {"a": 1.0, "b": 0.2}, "z": {"a": 0.25, "b": 0.8}})
    assert gaps == pytest.approx({"x": 0.5 + 0.5, "y": 0.75, "z": 0.75})


def test_the_four_strategies():
    assert open_domains("cognizance", WEAK) == {"strong": ("a", "b"), "weak": ()}
    assert open_domains("always", WEAK) == {"strong": ("a", "b"), "weak": ("a", "b")}
    assert open_domains("never", WEAK) == {"strong": (), "weak": ()}
    assert open_domains("domain_selective", WEAK) == {"strong": ("a", "b"), "weak": ("b",)}


def test_selective_keeps_ties_of_its_own_best_but_no_zero():
    scores = {"strong": {"a": 0.9, "b": 0.9}, "tied": {"a": 0.3, "b": 0.3}, "lost": {"a": 0.0, "b": 0.0}}
    assert open_domains("domain_selective", scores) == {"strong": ("a", "b"), "tied": ("a", "b"), "lost": ()}


@pytest.mark.parametrize("algorithm", ["sdpo", "grpo"])
@pytest.mark.parametrize("strategy", ["cognizance", "always", "domain_selective"])
def test_the_baselines_have_no_tutors(algorithm: Algorithm, strategy: GateStrategy):
    decisions = decide(GateConfig(strategy=strategy), WEAK, round=3, algorithm=algorithm)
    assert [decision.domains for decision in decisions] == [(), ()]
    assert [decision.gap for decision in decisions] == list(cognizance_gaps(WEAK).values())
    assert {decision.round for decision in decisions} == {3}


@pytest.mark.parametrize("scores", [{"x": {"a": 1.0}, "y": {"b": 1.0}}, {"x": {"a": float("nan")}}, {"x": {"a": -0.1}}])
def test_scores_that_make_no_sense_are_refused(scores: dict[str, dict[str, float]]):
    with pytest.raises(ValueError, match=r"scored on|negative or not finite"):
        cognizance_gaps(scores)


def decision(tutor: str, gap: float, *domains: str) -> GateDecision:
    return GateDecision(1, tutor, "always", gap, 0.2, True, domains)


def test_with_two_students_the_tutor_is_the_peer_or_nobody():
    decisions = [decision("x", 0.1, "a"), decision("y", 0.1, "a", "b")]
    scores = {"x": {"a": 0.9, "b": 0.1}, "y": {"a": 0.1, "b": 0.9}}
    assert choose_tutor(decisions, scores, "x", "a") == "y"
    assert choose_tutor(decisions, scores, "y", "a") == "x"
    assert choose_tutor(decisions, scores, "y", "b") is None


def test_among_more_the_best_on_the_domain_then_the_smallest_gap_then_the_order():
    decisions = [decision("v", 0.3, "a"), decision("w", 0.3, "a"), decision("x", 0.1, "a"), decision("y", 0.0), decision("z", 0.0, "a")]
    scores = {"v": {"a": 0.5}, "w": {"a": 0.5}, "x": {"a": 0.5}, "y": {"a": 1.0}, "z": {"a": 0.4}}
    assert choose_tutor(decisions, scores, "z", "a") == "x"
    assert choose_tutor(decisions, scores, "x", "a") == "v"
    assert choose_tutor([decision("u", 0.0, "a"), *decisions], {**scores, "u": {"a": 0.45}}, "x", "a") == "v"


@given(
    st.integers(1, 4).flatmap(
        lambda domains: st.lists(st.lists(st.floats(0, 1), min_size=domains, max_size=domains), min_size=2, max_size=5)
    ),
    st.floats(0.01, 100),
)
def test_gaps_lie_between_zero_and_the_number_of_domains_and_know_no_unit(table: list[list[float]], unit: float):
    scores = {f"s{i}": {f"d{j}": score for j, score in enumerate(row)} for i, row in enumerate(table)}
    gaps = cognizance_gaps(scores)
    assert all(0 <= gap <= len(table[0]) for gap in gaps.values())
    if all(score == 0 or score > 1e-3 for row in table for score in row):
        scaled = {student: {domain: score * unit for domain, score in of.items()} for student, of in scores.items()}
        assert cognizance_gaps(scaled) == pytest.approx(gaps, abs=1e-9)
