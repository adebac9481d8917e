"""The pre-flight of the demo pair, with its real students: a second or two."""

from __future__ import annotations

import pytest

from opcod.config import load_preset, merge, parse_config
from opcod.preflight.findings import Preflight, PreflightSize
from opcod.preflight.look import Stopped, preflight
from opcod.preflight.words import lines

SMALL = PreflightSize(questions=4, rollouts=3, validation_questions=6, samples=2)


@pytest.fixture(scope="module")
def found() -> Preflight:
    return preflight(parse_config(load_preset("tiny")), SMALL)


def test_every_student_is_validated_and_its_gap_follows(found: Preflight) -> None:
    assert {(one.student, one.domain) for one in found.evaluations} == {
        (student, domain) for student in ("student1", "student2") for domain in ("densities", "protons")
    }
    assert all((one.questions, one.samples, one.split) == (6, 2, "validation") for one in found.evaluations)
    scores = {name: {one.domain: one.score for one in found.evaluations if one.student == name} for name in ("student1", "student2")}
    best = {domain: max(of[domain] for of in scores.values()) for domain in ("densities", "protons")}
    for decision in found.decisions:
        own = scores[decision.tutor]
        assert decision.gap == pytest.approx(sum((best[domain] - own[domain]) / best[domain] for domain in best))


def test_every_rollout_is_tutored_and_counted(found: Preflight) -> None:
    for one in found.students:
        assert one.rollouts == 4 * 3 == sum(one.outcomes.values())
        assert one.kept is not None
        breaks = one.breaks
        assert breaks is not None
        assert breaks.correct_before + breaks.wrong_before == one.outcomes["kept"]
        teacher = one.self_teacher
        assert teacher is not None
        assert teacher.taught >= one.outcomes["kept"] / one.rollouts
        assert teacher.divergence > 0


def test_examples_say_what_feedback_did(found: Preflight) -> None:
    examples = [example for one in found.students for example in one.examples]
    assert examples
    for example in examples:
        if example.turn in ("rescued", "broken"):
            assert example.outcome == "kept"
            assert example.correct_again is (example.turn == "rescued")
            assert example.correct is not example.correct_again
    assert Preflight.model_validate_json(found.model_dump_json()) == found
    assert any("self-teacher" in line for line in lines(found))


def test_a_baseline_is_looked_at_without_tutors() -> None:
    config = parse_config(merge(load_preset("tiny"), {"method": {"algorithm": "grpo"}}))
    found = preflight(config, SMALL)
    assert all(one.tutor is None and one.self_teacher is None and not one.outcomes for one in found.students)


def test_it_ends_when_asked_to() -> None:
    class Now:
        def requested(self) -> bool:
            return True

    with pytest.raises(Stopped):
        preflight(parse_config(load_preset("tiny")), SMALL, stop=Now())
