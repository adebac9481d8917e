"""One whole update against a naive one: every row alone and unpadded, straight from the equations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from opcod.config import GrpoConfig, LossConfig, OptimizerConfig
from opcod.distillation.divergence import jensen_shannon
from opcod.distillation.packing import packed_tokens
from opcod.distillation.readout import Readout, response_readout
from opcod.errors import ResourceError
from opcod.students.ema import ExponentialAverage
from opcod.students.loading import without_dropout
from opcod.training import update as update_module
from opcod.training.micro_batch_size import MicroBatchSize
from opcod.training.optimizer import Optimizer
from opcod.training.update import Learner, ScoredResponse, distill, reinforce, sampled_log_probs
from tests.unit.distillation.test_scoring import alone
from tests.unit.students.tiny_models import FAMILIES, make_model

Texts = Sequence[Sequence[int]]
END = 256
TEMPERATURE = 0.8
BATCH = [
    ScoredResponse(prompt=[5, 6, 7], response=[40, 41, 42, END], rollout_log_probs=[-5.6] * 4, teacher_prompt=[5, 6, 7, 8, 9, 10, 11, 12]),
    ScoredResponse(prompt=[1], response=[END], rollout_log_probs=[-9.0], teacher_prompt=[90, 91]),
    ScoredResponse(prompt=[2, 3, 4, 5, 6, 7, 8, 9], response=[60, 61], rollout_log_probs=[-5.0, -6.0], teacher_prompt=[33]),
]


def learner(family: str = "qwen3", *, micro_batch_tokens: int = 10_000, ema_rate: float = 0.05, teacher_seed: int = 1) -> Learner:
    """A student with a self-teacher that differs from it, as after some updates."""
    model = without_dropout(make_model(family))
    teacher = ExponentialAverage(model, ema_rate)
    teacher.load_state_dict({name: value.detach() for name, value in make_model(family, seed=teacher_seed).named_parameters()})
    optimizer = Optimizer(model, OptimizerConfig(learning_rate=1e-3, warmup_steps=0))
    return Learner(model=model, teacher=teacher, optimizer=optimizer, pad_id=END, micro_batches=MicroBatchSize(micro_batch_tokens))


def weights_of(model: PreTrainedModel) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def naive(
    student: PreTrainedModel, teacher: PreTrainedModel, batch: Sequence[ScoredResponse], config: LossConfig
) -> tuple[float, list[list[float]]]:
    """(loss, divergences of each response)."""
    rows, weighted = [], []
    for one in batch:
        response = list(one.response)
        here = alone(student, list(one.prompt), response).double() / TEMPERATURE
        there = alone(teacher, list(one.teacher_prompt or []), response).double() / TEMPERATURE
        divergence = jensen_shannon(here[None], there[None], alpha=config.alpha, top_k=config.top_k, tail_bucket=config.tail_bucket)[0]
        now = here.log_softmax(-1)[range(len(response)), response]
        ratio = (now - torch.tensor(one.rollout_log_probs)).exp().clamp(max=config.importance_clip)
        rows.append(divergence.tolist())
        weighted.append(divergence * ratio)
    mean = torch.cat(weighted).mean() if config.aggregation == "token_mean" else torch.stack([row.mean() for row in weighted]).mean()
    return mean.item(), rows


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_divergences_are_those_of_the_equations(family: str, aggregation: str) -> None:
    config = LossConfig(top_k=20, aggregation=aggregation)
    it = learner(family)
    assert it.teacher is not None
    expected, rows = naive(it.model, it.teacher.model, BATCH, config)  # type: ignore[arg-type]
    report = distill(it, BATCH, config, temperature=TEMPERATURE)
    assert report.loss == pytest.approx(expected, rel=1e-4)
    for tokens, row in zip(report.tokens, rows, strict=True):
        assert tokens.loss == pytest.approx(row, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("micro_batch_tokens", [1, 20, 10_000])
@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_the_cut_into_micro_batches_changes_nothing(aggregation: str, micro_batch_tokens: int) -> None:
    config = LossConfig(top_k=20, aggregation=aggregation)
    whole, cut = learner(), learner(micro_batch_tokens=micro_batch_tokens)
    expected, found = (distill(it, BATCH, config, temperature=TEMPERATURE) for it in (whole, cut))
    assert found.loss == pytest.approx(expected.loss, abs=1e-7)
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
    torch.testing.assert_close(weights_of(cut.model), weights_of(whole.model), atol=2e-5, rtol=0)


@pytest.mark.parametrize("room", [14, 11])
def test_an_update_that_does_not_fit_in_memory_is_made_in_smaller_micro_batches(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The self-teacher's batch is refused at more than `room` tokens, after smaller ones have left their gradients."""
    asked: list[int] = []

    def small(model: torch.nn.Module, prompts: Texts, responses: Texts, *, pad_id: int) -> Readout:
        asked.append(packed_tokens(prompts, responses))
        if asked[-1] > room:
            raise torch.OutOfMemoryError("no room")
        return response_readout(model, prompts, responses, pad_id=pad_id)

    plain, tight = learner(), learner()
    expected = distill(plain, BATCH, LossConfig(), temperature=TEMPERATURE)
    monkeypatch.setattr(update_module, "response_readout", small)
    found = distill(tight, BATCH, LossConfig(), temperature=TEMPERATURE)
    assert max(asked) > room
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    torch.testing.assert_close(weights_of(tight.model), weights_of(plain.model), atol=2e-5, rtol=0)


@pytest.mark.parametrize("backward", [False, True])
def test_memory_that_runs_out_anywhere_leaves_the_same_loss_and_gradient(backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each pass of an update once, forward or on the way back; what went before has left its gradient by then."""
    batch = [*BATCH, *BATCH]
    plain = learner()
    expected = distill(plain, batch, LossConfig(), temperature=TEMPERATURE)
    for place in count():
        tight = learner(micro_batch_tokens=18)
        refusing = _Refusing(place, backward=backward)
        monkeypatch.setattr(update_module, "response_readout", refusing)
        found = distill(tight, batch, LossConfig(), temperature=TEMPERATURE)
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
        torch.testing.assert_close(weights_of(tight.model), weights_of(plain.model), atol=2e-5, rtol=0)
        if not refusing.refused:
            break
        assert found.micro_batch_tokens < 18
    assert place == refusing.passes >= 2


class _Refusing:
    """Reads out as ever, but for one pass that finds no memory."""

    def __init__(self, place: int, *, backward: bool) -> None:
        self.place, self.backward = place, backward
        self.passes, self.refused = 0, False

    def __call__(self, model: torch.nn.Module, prompts: Texts, responses: Texts, *, pad_id: int) -> Readout:
        due = False
        if not self.backward or torch.is_grad_enabled():
            due = self.passes == self.place
            self.passes += 1
        if due and not self.backward:
            self._refuse()
        found = response_readout(model, prompts, responses, pad_id=pad_id)
        if not due:
            return found
        features = found.features * 1.0
        features.register_hook(self._refuse)
        return replace(found, features=features)

    def _refuse(self, *_: Tensor) -> None:
        self.refused = True
        raise torch.OutOfMemoryError("no room")


def test_memory_that_ran_out_is_not_tried_again_in_the_next_update(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def small(model: torch.nn.Module, prompts: Texts, responses: Texts, *, pad_id: int) -> Readout:
        asked.append(packed_tokens(prompts, responses))
        if asked[-1] > 14:
            raise torch.OutOfMemoryError("no room")
        return response_readout(model, prompts, responses, pad_id=pad_id)

    monkeypatch.setattr(update_module, "response_readout", small)
    tight = learner()
    first = distill(tight, BATCH, LossConfig(), temperature=TEMPERATURE)
    assert max(asked) > 14
    asked.clear()
    second = distill(tight, BATCH, LossConfig(), temperature=TEMPERATURE)
    assert max(asked) <= 14
    assert second.micro_batch_tokens == first.micro_batch_tokens


def test_the_scoring_before_an_update_goes_on_in_smaller_passes_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [*BATCH, *BATCH]
    expected = sampled_log_probs(learner(), batch, temperature=TEMPERATURE)
    for place in count():
        tight = learner(micro_batch_tokens=18)
        refusing = _Refusing(place, backward=False)
        monkeypatch.setattr(update_module, "response_readout", refusing)
        for found, row in zip(sampled_log_probs(tight, batch, temperature=TEMPERATURE), expected, strict=True):
            assert found == pytest.approx(row, abs=1e-5)
        if not refusing.refused:
            break
        assert tight.micro_batches.begin() < 18
    assert place == refusing.passes >= 2


def test_the_scoring_before_an_update_keeps_to_what_was_learned_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run scores first; its old log-probabilities must be rounded as those of an undisturbed one."""
    asked: list[int] = []

    def seen(model: torch.nn.Module, prompts: Texts, responses: Texts, *, pad_id: int) -> Readout:
        asked.append(packed_tokens(prompts, responses))
        return response_readout(model, prompts, responses, pad_id=pad_id)

    monkeypatch.setattr(update_module, "response_readout", seen)
    ran_out = learner()
    ran_out.micro_batches.ran_out([24])
    resumed = learner()
    resumed.micro_batches.load_state(ran_out.micro_batches.state())
    sampled_log_probs(resumed, BATCH, temperature=TEMPERATURE)
    assert max(asked) <= 12


def test_one_response_that_does_not_fit_is_said_and_leaves_the_student_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> Readout:
        raise torch.OutOfMemoryError("no room")

    it = learner()
    before = weights_of(it.model)
    monkeypatch.setattr(update_module, "response_readout", never)
    with pytest.raises(ResourceError, match="one response at a time"):
        distill(it, BATCH, LossConfig(), temperature=TEMPERATURE)
    assert torch.equal(weights_of(it.model), before)
    assert all(parameter.grad is None for parameter in it.model.parameters())


def test_the_padding_token_is_without_meaning() -> None:
    one, other = learner(), replace(learner(), pad_id=3)
    reports = [distill(it, BATCH, LossConfig(), temperature=TEMPERATURE) for it in (one, other)]
    assert reports[0].loss == pytest.approx(reports[1].loss, rel=1e-6)
    torch.testing.assert_close(weights_of(one.model), weights_of(other.model), atol=1e-6, rtol=0)


def test_the_end_of_turn_token_is_in_the_loss() -> None:
    """A response that is nothing but its end: the student learns from it how likely the end is."""
    it = learner()
    ended = [BATCH[1]]
    report = distill(it, ended, LossConfig(), temperature=TEMPERATURE)
    assert [len(tokens.loss) for tokens in report.tokens] == [1]
    assert report.loss > 0
    assert report.gradient_norm > 0


def test_a_self_teacher_with_the_same_weights_and_prompt_has_nothing_to_teach() -> None:
    """Also a check of alignment: shifted by one position the two would differ."""
    it = learner(teacher_seed=0)
    same = [replace(one, teacher_prompt=one.prompt) for one in BATCH]
    report = distill(it, same, LossConfig(), temperature=TEMPERATURE)
    assert report.loss == pytest.approx(0, abs=1e-7)
    assert report.gradient_norm == pytest.approx(0, abs=1e-5)


def test_updates_bring_the_student_to_its_teacher() -> None:
    it = learner(ema_rate=0.0)
    reports = [distill(it, BATCH, LossConfig(importance_clip=None), temperature=TEMPERATURE) for _ in range(20)]
    assert reports[-1].loss < 0.3 * reports[0].loss


def test_the_teacher_takes_in_the_weights_that_the_update_made() -> None:
    """theta_T <- (1 - rate) theta_T + rate theta with theta AFTER the optimiser's step (method section 10)."""
    it = learner(ema_rate=0.25)
    assert it.teacher is not None
    before = weights_of(it.teacher.model)  # type: ignore[arg-type]
    distill(it, BATCH, LossConfig(), temperature=TEMPERATURE)
    expected = 0.75 * before + 0.25 * weights_of(it.model)
    torch.testing.assert_close(weights_of(it.teacher.model), expected, atol=1e-7, rtol=0)  # type: ignore[arg-type]


def test_an_empty_batch_is_refused_rather_than_averaged() -> None:
    with pytest.raises(ValueError, match="at least one"):
        distill(learner(), [], LossConfig(), temperature=TEMPERATURE)


def test_grpo_raises_the_better_response_and_lowers_the_worse() -> None:
    it = replace(learner(), teacher=None)
    batch = [replace(BATCH[0], advantage=0.5), replace(BATCH[2], advantage=-0.5)]
    before = [math.fsum(row) for row in sampled_log_probs(it, batch, temperature=TEMPERATURE)]
    on_policy = [
        replace(one, rollout_log_probs=row) for one, row in zip(batch, sampled_log_probs(it, batch, temperature=TEMPERATURE), strict=True)
    ]
    report = reinforce(it, on_policy, GrpoConfig(), temperature=TEMPERATURE, old_log_probs=None)
    after = [math.fsum(row) for row in sampled_log_probs(it, batch, temperature=TEMPERATURE)]
    # On policy every ratio is 1: the loss is minus the token-weighted mean advantage.
    assert report.loss == pytest.approx(-(4 * 0.5 - 2 * 0.5) / 6, rel=1e-4)
    assert after[0] > before[0]
    assert after[1] < before[1]
