"""avg@k and its interval: hand-computed means, bounds, and coverage of the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.config import EvaluationConfig, GenerationConfig
from opcod.evaluation.accuracy import evaluate, evaluation_params, score
from opcod.types import Question
from tests.unit.training.small_world import RIGHT, WRONG, ScriptedPolicy, config, tutee

SHARES = st.lists(st.integers(0, 8).map(lambda right: right / 8), min_size=1, max_size=40)


@given(SHARES, st.integers(0, 100))
def test_the_interval_holds_the_mean_and_stays_in_range(shares: list[float], seed: int) -> None:
    found = score(shares, seed=seed)
    assert found.mean == pytest.approx(sum(shares) / len(shares))
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert score(shares, seed=seed) == found


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """60 questions with difficulties of their own, as in a validation set: 95 % nominal, 90 to 99 % over 300 draws."""
    random = np.random.default_rng(0)
    covered = 0
    for draw in range(300):
        difficulty = random.beta(2, 1, size=60)
        shares = random.binomial(16, difficulty) / 16
        found = score(shares.tolist(), seed=draw)
        covered += found.low <= 2 / 3 <= found.high
    assert 0.90 <= covered / 300 <= 0.99


def test_no_question_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one question"):
        score([], seed=0)


def test_evaluation_counts_right_samples_beside_the_most_frequent_answer() -> None:
    questions = [Question(str(place), "physics", "p", answer) for place, answer in enumerate("BBBC")]
    made = tutee(lambda place, index: RIGHT if index < 1 else WRONG, config())
    policy = made.policy
    assert isinstance(policy, ScriptedPolicy)
    params = evaluation_params(EvaluationConfig(samples=4), GenerationConfig(max_response_tokens=9))
    found = evaluate(policy, questions, made.verifiers["physics"], params, student="ann", round=2, split="test", seed=0)
    assert found.score == pytest.approx((3 * 0.25 + 0.75) / 4)
    assert found.majority_baseline == pytest.approx(0.75)
    assert (found.questions, found.samples, found.round, found.split) == (4, 4, 2, "test")
    assert policy.sampled_with == [params]
    assert (params.temperature, params.top_p, params.max_new_tokens) == (0.6, 0.95, 9)
