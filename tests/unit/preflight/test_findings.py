"""What a pre-flight's figures are taken to mean."""

from __future__ import annotations

from typing import Any

from opcod.preflight.findings import SelfTeacherGap, StudentFindings, judge
from opcod.types import BreakRescue, GateDecision


def student(**changes: Any) -> StudentFindings:
    usual: dict[str, Any] = {
        "tutee": "a", "tutor": "b", "gate_open": True, "questions": 8, "rollouts": 32, "accuracy": 0.5, "mixed": 0.5, "truncated": 0.0,
        "answered": 1.0, "prompt_tokens": 20, "response_tokens": 12, "feedback_tokens": 10, "outcomes": {"kept": 30, "no_match": 2},
        "break_rescue": [BreakRescue(1, "a", "b", None, 16, 1, 16, 5)], "examples": [],
        "self_teacher": SelfTeacherGap(taught=1, student=0.5, teacher=0.8, divergence=0.02, responses=32),
    }  # fmt: skip
    return StudentFindings(**usual | changes)


def gate(*, opened: bool) -> GateDecision:
    return GateDecision(1, "b", "cognizance", 0.1 if opened else 0.5, 0.2, opened, ("one",) if opened else ())


def weights(*students: StudentFindings, opened: bool = True) -> list[str]:
    return [one.weight for one in judge([gate(opened=opened)], students, tutored=True)]


def test_a_pair_in_order_is_told_so() -> None:
    assert set(weights(student())) == {"good"}


def test_what_would_waste_hours_comes_first() -> None:
    found = judge([gate(opened=False)], [student(answered=0.1, accuracy=0.0, outcomes={"no_concept_tag": 32})], tutored=True)
    assert [one.weight for one in found[:3]] == ["stop", "stop", "stop"]
    assert all(one.advice for one in found if one.weight != "good")
    assert any("no concept tag" in one.message for one in found)
    assert any("shut" in one.message for one in found)


def test_feedback_that_breaks_more_than_it_rescues_is_minded() -> None:
    assert "mind" in weights(student(break_rescue=[BreakRescue(1, "a", "b", None, 16, 6, 16, 2)]))


def test_a_self_teacher_that_knows_no_more_is_minded() -> None:
    assert "mind" in weights(student(self_teacher=SelfTeacherGap(taught=1, student=0.5, teacher=0.5, divergence=0.0, responses=32)))


def test_a_baseline_has_no_gates_to_speak_of() -> None:
    untutored = student(tutor=None, outcomes={}, break_rescue=[], feedback_tokens=None)
    assert untutored.kept is None
    assert all("gate" not in one.message for one in judge([gate(opened=False)], [untutored], tutored=False))
