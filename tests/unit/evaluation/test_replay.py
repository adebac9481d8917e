"""Asking again: what differs between arms is the context alone."""

from __future__ import annotations

import pytest

from opcod.evaluation.intervals import wilson
from opcod.evaluation.replay import Context, ask_again, contexts
from opcod.tasks.verifiers import make_verifier
from tests.unit.training.small_world import QUESTIONS, RIGHT, WRONG, ScriptedPolicy, config, student

NOTHING = Context(None, None)


def test_only_arms_that_differ_are_asked() -> None:
    shown, other = Context("s", "f"), Context("s", "g")
    assert list(contexts(shown, other)) == ["question", "recorded", "edited"]
    assert list(contexts(shown, shown)) == ["question", "recorded"]
    assert list(contexts(shown, NOTHING)) == ["question", "recorded"]
    assert list(contexts(NOTHING, other)) == ["question", "edited"]
    assert list(contexts(NOTHING, NOTHING)) == ["question"]


def test_each_arm_is_shown_its_own_words_and_judged() -> None:
    policy = ScriptedPolicy(student(), lambda place, index: RIGHT if index < 3 else WRONG)
    settings = config()
    arms = contexts(Context("OWN", "OLD"), Context(None, "NEW"))
    verifier = make_verifier(settings.domains[0].verifier)
    question, recorded, edited = ask_again(policy, settings, QUESTIONS[0], arms, verifier, samples=4, number=1)
    assert [arm.accuracy for arm in (question, recorded, edited)] == [0.75] * 3
    assert [answer.correct for answer in edited.answers] == [True, True, True, False]
    words = [{word for word in ("OWN", "OLD", "NEW") if word in arm.prompt} for arm in (question, recorded, edited)]
    assert words == [set(), {"OWN", "OLD"}, {"NEW"}]
    assert all(len(asked) == 1 and QUESTIONS[0].prompt in asked[0] for asked in policy.asked)
    (params,) = set(policy.sampled_with)
    assert (params.n, params.temperature) == (4, settings.generation.temperature)


@pytest.mark.parametrize(("right", "samples", "low", "high"), [(0, 8, 0.0, 0.324), (8, 8, 0.676, 1.0), (5, 10, 0.237, 0.763)])
def test_the_interval_is_wilsons(right: int, samples: int, low: float, high: float) -> None:
    assert wilson(right, samples) == pytest.approx((low, high), abs=1e-3)
