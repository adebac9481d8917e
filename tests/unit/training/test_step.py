"""A step keeps the method's rules (method sections 4 to 6 and 10): who is shown what, what enters the loss, what is skipped."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opcod.errors import NumericsError
from opcod.training import update as update_module
from opcod.training.step import Tutoring, run_step
from opcod.types import Exchange
from tests.unit.training.small_world import QUESTIONS, RIGHT, WRONG, Answer, ScriptedPolicy, config, tutee, tutoring, weights

KEPT = "<concept>force</concept> The pull of KEPTWORD is missing."
UNKEPT = {
    "no_concept_tag": "The pull of DROPPEDWORD is missing.",
    "empty": "<concept></concept> DROPPEDWORD.",
    "all_generic": "<concept>answer</concept> DROPPEDWORD.",
    "no_match": "<concept>enthalpy</concept> DROPPEDWORD.",
    "fb_none": "  ",
}


def all_wrong(place: int, index: int) -> str:
    return WRONG


def first_right(place: int, index: int) -> str:
    return f"way {index} {RIGHT}" if index == 0 else f"way {index} {WRONG}"


def exchanges_of(answer, say=None, **overrides) -> tuple[list[Exchange], dict[str, float]]:
    made = tutee(answer, config(**overrides))
    record = run_step(made, tutoring(say) if say else Tutoring(), round=1, step=1, measure_breaks=False)
    return list(record.exchanges), record.metrics


@pytest.mark.parametrize("outcome", UNKEPT)
def test_dropped_feedback_never_reaches_the_self_teacher(outcome: str) -> None:
    exchanges, metrics = exchanges_of(first_right, lambda place, index: UNKEPT[outcome])
    for exchange in exchanges:
        assert exchange.feedback is not None
        assert exchange.feedback.outcome == outcome
        assert "DROPPEDWORD" not in (exchange.teacher_prompt or "")
    assert metrics["ann/self_distillation/feedback_used_fraction"] == 0
    assert metrics[f"ann/feedback/{outcome}_fraction"] == 1


def test_kept_feedback_reaches_the_rollout_it_speaks_of() -> None:
    exchanges, _ = exchanges_of(all_wrong, lambda place, index: f"<concept>force</concept> NOTE{place}.")
    for place, exchange in enumerate(exchanges):
        assert exchange.tutor == "bob"
        assert exchange.teacher_prompt is not None
        assert f"NOTE{place}." in exchange.teacher_prompt
        assert exchange.teacher_prompt.count("NOTE") == 1
        assert "<concept>" not in exchange.teacher_prompt


def test_the_tutor_is_shown_the_question_and_the_rollout_it_is_asked_about() -> None:
    peer = tutoring(lambda place, index: KEPT)
    run_step(tutee(first_right, config()), peer, round=1, step=1, measure_breaks=False)
    policy = peer.tutors["bob"].policy
    assert isinstance(policy, ScriptedPolicy)
    (asked,) = policy.asked
    assert len(asked) == 9  # every rollout, in one batch
    assert sum("way 0" in prompt for prompt in asked) == 3
    assert all(sum(question.prompt in prompt for question in QUESTIONS) == 1 for prompt in asked)


def test_a_solution_comes_from_the_same_question_and_never_from_itself() -> None:
    def answer(place: int, index: int) -> str:
        return f"PLACE{place} INDEX{index} {RIGHT if index != 1 else WRONG}"

    exchanges, _ = exchanges_of(answer)
    for place in range(3):
        group = [exchange for exchange in exchanges if exchange.group == place]
        for exchange in group:
            index = exchange.rollout.index
            expected = f"PLACE{place} INDEX{2 if index == 0 else 0}"
            assert exchange.own_solution is not None
            assert exchange.own_solution.startswith(expected)
            assert exchange.teacher_prompt is not None
            assert exchange.teacher_prompt.count("PLACE") == 1


def test_the_rollout_itself_is_no_context_of_its_teacher() -> None:
    exchanges, _ = exchanges_of(all_wrong, lambda place, index: KEPT)
    assert all(WRONG not in (exchange.teacher_prompt or "") for exchange in exchanges)


def test_a_rollout_with_nothing_to_show_is_masked_out() -> None:
    exchanges, metrics = exchanges_of(first_right)
    for exchange in exchanges:
        only_success = exchange.rollout.correct
        assert exchange.in_loss is not only_success
        assert (exchange.divergence_mean is None) is only_success
    assert metrics["ann/self_distillation/reprompt_sample_fraction"] == pytest.approx(6 / 9)
    assert metrics["ann/self_distillation/success_group_fraction"] == 1


def test_an_empty_batch_changes_nothing_and_is_counted() -> None:
    made = tutee(all_wrong, config())
    before = weights(made)
    record = run_step(made, Tutoring(), round=1, step=1, measure_breaks=False)
    assert record.metrics["ann/train/skipped_updates"] == 1
    assert record.metrics["ann/train/updates"] == 0
    assert "ann/train/loss" not in record.metrics
    assert all(torch.equal(before[name], now) for name, now in weights(made).items())
    assert made.learner.optimizer.updates == 0


@pytest.mark.parametrize("marks", [all_wrong, lambda place, index: RIGHT])
def test_grpo_skips_groups_without_a_difference(marks) -> None:
    made = tutee(marks, config(method={"algorithm": "grpo"}))
    record = run_step(made, Tutoring(), round=1, step=1, measure_breaks=False)
    assert record.metrics["ann/train/skipped_updates"] == 1
    assert not any(exchange.in_loss for exchange in record.exchanges)


def test_grpo_makes_the_right_rollout_likelier() -> None:
    made = tutee(first_right, config(method={"algorithm": "grpo"}, optimizer={"learning_rate": 1e-2}))
    first = run_step(made, Tutoring(), round=1, step=1, measure_breaks=False)
    assert first.metrics["ann/train/updates"] == 1
    assert all(exchange.feedback is None and exchange.teacher_prompt is None for exchange in first.exchanges)
    assert all(exchange.in_loss and exchange.divergence_mean is None for exchange in first.exchanges)


def test_the_teacher_moves_after_the_student_and_towards_it() -> None:
    """With rate 1 the teacher must equal the student AFTER its update: an average taken before would lag one step."""
    made = tutee(first_right, config(method={"teacher": {"ema_rate": 1.0}}))
    before = weights(made)
    run_step(made, Tutoring(), round=1, step=1, measure_breaks=False)
    after = weights(made)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert made.learner.teacher is not None
    for name, weight in made.learner.teacher.model.named_parameters():
        assert torch.equal(weight, after[name])


def test_a_loss_that_is_not_finite_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **named: object) -> torch.Tensor:
        return torch.tensor(math.nan, requires_grad=True)

    monkeypatch.setattr(update_module, "aggregate", broken)
    made = tutee(first_right, config())
    before = weights(made)
    with pytest.raises(NumericsError, match="not finite"):
        run_step(made, Tutoring(), round=1, step=1, measure_breaks=False)
    assert all(torch.equal(before[name], now) for name, now in weights(made).items())


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_the_gradient_does_not_depend_on_the_micro_batches(aggregation: str) -> None:
    results = []
    for tokens in (64, 100_000):
        made = tutee(first_right, config(compute={"micro_batch_tokens": tokens}, method={"loss": {"aggregation": aggregation}}))
        record = run_step(made, Tutoring(), round=1, step=1, measure_breaks=False)
        results.append((record.metrics["ann/train/loss"], record.metrics["ann/train/gradient_norm"]))
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_mini_batches_make_several_updates_with_weights() -> None:
    made = tutee(first_right, config(optimizer={"mini_batch_questions": 1}))
    record = run_step(made, Tutoring(), round=1, step=1, measure_breaks=False)
    assert record.metrics["ann/train/updates"] == 3
    assert made.learner.optimizer.updates == 3


def test_break_and_rescue_are_counted_on_kept_feedback_only() -> None:
    def say(place: int, index: int) -> str:
        return KEPT if place % 3 else UNKEPT["no_match"]  # each question's first rollout gets no usable feedback

    speak: list[Answer] = [first_right]
    made = tutee(lambda place, index: speak[0](place, index), config(evaluation={"break_rescue_questions": 2}))
    peer = tutoring(say)
    policy = made.policy
    assert isinstance(policy, ScriptedPolicy)

    respond = policy.respond

    def switching(*arguments: Any, **named: Any) -> Any:
        made_now = respond(*arguments, **named)
        speak[0] = lambda place, index: RIGHT  # the second time round it is always right
        return made_now

    policy.respond = switching  # type: ignore[method-assign]
    record = run_step(made, peer, round=1, step=1, measure_breaks=True)
    overall = record.break_rescue[0]
    assert overall.difficulty is None
    assert (overall.correct_before, overall.broken, overall.wrong_before, overall.rescued) == (0, 0, 4, 4)
    asked = [exchange for exchange in record.exchanges if exchange.again is not None]
    assert {exchange.effect for exchange in asked} == {"rescue"}
    assert len(asked) == 4
    assert all(exchange.feedback and exchange.feedback.outcome == "kept" and exchange.group < 2 for exchange in asked)
    assert {exchange.again.text for exchange in asked if exchange.again} == {RIGHT}


@settings(max_examples=15)
@given(
    st.lists(st.lists(st.sampled_from([RIGHT, WRONG, "no answer at all"]), min_size=3, max_size=3), min_size=3, max_size=3), st.booleans()
)
def test_metrics_are_finite_and_fractions_fractions(answers: list[list[str]], tutored: bool) -> None:
    _, metrics = exchanges_of(lambda place, index: answers[place][index], (lambda place, index: KEPT) if tutored else None)
    for name, value in metrics.items():
        assert math.isfinite(value), name
        if name.endswith("_fraction") or "/accuracy" in name:
            assert 0 <= value <= 1, name
