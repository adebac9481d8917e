from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.evaluation.pareto import dominates, is_mutual_improvement, undominated, verdict

INITIAL = {"x": {"a": 0.5, "b": 0.2}, "y": {"a": 0.1, "b": 0.6}}
scores = st.fixed_dictionaries({"a": st.integers(0, 3), "b": st.integers(0, 3)})


def test_domination_needs_no_loss_and_one_gain():
    assert dominates({"a": 1, "b": 2}, {"a": 1, "b": 1})
    assert not dominates({"a": 1, "b": 1}, {"a": 1, "b": 1})
    assert not dominates({"a": 2, "b": 0}, {"a": 1, "b": 1})


def test_other_domains_cannot_be_compared():
    with pytest.raises(ValueError, match="cannot be compared"):
        dominates({"a": 1}, {"b": 1})
    with pytest.raises(ValueError, match="cannot be compared"):
        is_mutual_improvement({"x": {"a": 1}}, {"y": {"a": 1}})


def test_mutual_means_every_student():
    better = {"x": {"a": 0.5, "b": 0.3}, "y": {"a": 0.2, "b": 0.7}}
    one_lost = {"x": {"a": 0.5, "b": 0.3}, "y": {"a": 0.2, "b": 0.5}}
    assert is_mutual_improvement(INITIAL, better)
    assert not is_mutual_improvement(INITIAL, one_lost)
    assert not is_mutual_improvement(INITIAL, INITIAL)
    assert not is_mutual_improvement({}, {})


def test_the_papers_table_in_which_sdpo_fails_and_opcod_succeeds():
    initial = {"mat": {"mat": 65.1, "phys": 48.1}, "phys": {"mat": 56.0, "phys": 51.6}}
    assert is_mutual_improvement(initial, {"mat": {"mat": 70.5, "phys": 55.3}, "phys": {"mat": 66.1, "phys": 54.3}})
    assert not is_mutual_improvement(initial, {"mat": {"mat": 62.2, "phys": 52.3}, "phys": {"mat": 58.8, "phys": 51.9}})


def test_the_verdict_is_open_while_scores_are_missing():
    assert verdict({}, {}).mutual_improvement is None
    open_run = verdict(INITIAL, {})
    assert open_run.mutual_improvement is None
    assert open_run.students == {"x": None, "y": None}
    half = verdict(INITIAL, {"x": {"a": 0.6, "b": 0.2}, "y": {"a": 0.9}})
    assert half.students == {"x": True, "y": None}
    assert half.mutual_improvement is None
    lost = verdict(INITIAL, {"x": {"a": 0.4, "b": 0.9}})
    assert lost.students == {"x": False, "y": None}
    assert lost.mutual_improvement is False


@given(scores, scores, scores)
def test_domination_is_a_strict_partial_order(a: dict[str, float], b: dict[str, float], c: dict[str, float]):
    assert not dominates(a, a)
    assert not (dominates(a, b) and dominates(b, a))
    if dominates(a, b) and dominates(b, c):
        assert dominates(a, c)


@given(*[st.fixed_dictionaries({"x": scores, "y": scores})] * 2)
def test_the_verdict_agrees_with_mutual_improvement(initial: dict[str, dict[str, float]], final: dict[str, dict[str, float]]):
    assert verdict(initial, final).mutual_improvement is is_mutual_improvement(initial, final)


@given(st.lists(scores, max_size=6))
def test_undominated_are_those_that_none_dominates(every: list[dict[str, float]]):
    expected = [not any(dominates(other, own) for other in every) for own in every]
    assert undominated([(one["a"], one["b"]) for one in every]) == expected
