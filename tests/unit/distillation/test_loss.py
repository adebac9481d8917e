"""The loss of a batch: importance weights, aggregation, memory-saving chunks that change nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from trl.experimental.sdpo.loss_utils import apply_importance_sampling_clipping

from opcod.distillation import loss as loss_module
from opcod.distillation.divergence import jensen_shannon
from opcod.distillation.loss import aggregate, importance_weights, score_distillation, score_sampled


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestImportanceWeights:
    def test_equal_trl_and_let_no_gradient_through(self) -> None:
        now, old, losses = 3 * drawn(4, 6), 3 * drawn(4, 6, seed=1), drawn(4, 6, seed=2).abs()
        now.requires_grad_()
        weights = importance_weights(now, old, clip=2.0)
        theirs = apply_importance_sampling_clipping(losses, now, old, 2.0)
        torch.testing.assert_close(losses * weights, theirs, atol=1e-12, rtol=0)
        assert not weights.requires_grad

    def test_are_one_on_policy_and_capped_above_alone(self) -> None:
        same = drawn(1, 3)
        assert importance_weights(same, same, clip=2.0).tolist() == [[1.0, 1.0, 1.0]]
        weights = importance_weights(torch.tensor([[0.0, -1.0, 1.0]]), torch.tensor([[-5.0, 0.0, 0.5]]), clip=2.0)
        assert weights[0].tolist() == pytest.approx([2.0, 0.36787944, 1.6487213])

    def test_can_be_turned_off(self) -> None:
        assert importance_weights(drawn(1, 2), drawn(1, 2, seed=1), clip=None).tolist() == [[1.0, 1.0]]

    def test_an_impossible_token_gives_a_finite_weight(self) -> None:
        weights = importance_weights(torch.tensor([[0.0, -torch.inf]]), torch.tensor([[-torch.inf, 0.0]]), clip=1e12)
        assert weights.isfinite().all()


class TestAggregation:
    VALUES = torch.tensor([[1.0, 2.0, 3.0], [10.0, 99.0, 99.0]])
    MASK = torch.tensor([[True, True, True], [True, False, False]])

    def test_token_mean_weighs_every_token_alike(self) -> None:
        assert aggregate(self.VALUES, self.MASK, how="token_mean", tokens=4, sequences=2).item() == pytest.approx(16 / 4)

    def test_sequence_mean_weighs_every_response_alike(self) -> None:
        assert aggregate(self.VALUES, self.MASK, how="sequence_mean", tokens=4, sequences=2).item() == pytest.approx((2 + 10) / 2)

    @pytest.mark.parametrize("how", ["token_mean", "sequence_mean"])
    def test_nan_behind_the_mask_reaches_neither_value_nor_gradient(self, how: str) -> None:
        values = torch.tensor([[1.0, float("nan")]], requires_grad=True)
        total = aggregate(values, torch.tensor([[True, False]]), how=how, tokens=1, sequences=1)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(total, values)
        assert total.item() == 1.0
        assert gradient.tolist() == [[1.0, 0.0]]

    @given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=12), cut=st.integers(1, 11), seed=st.integers(0, 999))
    @pytest.mark.parametrize("how", ["token_mean", "sequence_mean"])
    def test_shares_of_micro_batches_add_up_to_the_whole(self, how: str, lengths: list[int], cut: int, seed: int) -> None:
        values = drawn(len(lengths), 8, seed=seed)
        mask = torch.arange(8) < torch.tensor(lengths).unsqueeze(-1)
        whole = {"how": how, "tokens": sum(lengths), "sequences": len(lengths)}
        parts = [aggregate(values[part], mask[part], **whole) for part in (slice(0, cut), slice(cut, None))]  # type: ignore[arg-type]
        rows = [values[row, :length] for row, length in enumerate(lengths)]
        expected = torch.cat(rows).mean() if how == "token_mean" else torch.stack([row.mean() for row in rows]).mean()
        torch.testing.assert_close(torch.stack(parts).sum(), expected)


class TestScores:
    @pytest.mark.parametrize("chunk_tokens", [1, 7, 10_000])
    @pytest.mark.parametrize("temperature", [1.0, 0.7])
    def test_equal_the_plain_divergence_whatever_the_chunks(
        self, chunk_tokens: int, temperature: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loss_module, "CHUNK_TOKENS", chunk_tokens)
        student, teacher, weights = 3 * drawn(3, 11, 50), 3 * drawn(3, 11, 50, seed=1), drawn(3, 11, seed=2)
        student.requires_grad_()
        sampled = torch.arange(33).reshape(3, 11)
        scores = score_distillation(student, teacher, sampled, temperature=temperature, alpha=0.5, top_k=10, tail_bucket=True)
        plain = jensen_shannon(student / temperature, teacher / temperature, top_k=10)
        torch.testing.assert_close(scores.divergence, plain)
        ours = torch.autograd.grad((scores.divergence * weights).sum(), student)[0]
        expected = torch.autograd.grad((plain * weights).sum(), student)[0]
        torch.testing.assert_close(ours, expected)

    def test_log_probabilities_and_entropies_are_those_of_the_sampled_distribution(self) -> None:
        logits = 3 * drawn(2, 5, 30)
        sampled = torch.arange(10).reshape(2, 5)
        distribution = torch.distributions.Categorical(logits=logits / 0.7)
        log_probs, entropy = score_sampled(logits, sampled, temperature=0.7)
        torch.testing.assert_close(log_probs, distribution.log_prob(sampled))
        torch.testing.assert_close(entropy, distribution.entropy())
        scores = score_distillation(logits, logits, sampled, temperature=0.7, alpha=0.5, top_k=3, tail_bucket=True)
        torch.testing.assert_close(scores.log_probs, log_probs)
        torch.testing.assert_close(scores.entropy, entropy)

    def test_no_gradient_reaches_the_teacher(self) -> None:
        student, teacher = drawn(1, 4, 9).requires_grad_(), drawn(1, 4, 9, seed=1).requires_grad_()
        scores = score_distillation(
            student, teacher, torch.zeros(1, 4, dtype=torch.long), temperature=1, alpha=0.5, top_k=3, tail_bucket=True
        )
        scores.divergence.sum().backward()
        assert teacher.grad is None
        assert student.grad is not None

    def test_half_precision_logits_are_compared_in_single_precision(self) -> None:
        student, teacher = drawn(1, 4, 200).bfloat16(), drawn(1, 4, 200, seed=1).bfloat16()
        sampled = torch.zeros(1, 4, dtype=torch.long)
        scores = score_distillation(student, teacher, sampled, temperature=1, alpha=0.5, top_k=100, tail_bucket=True)
        assert scores.divergence.dtype == torch.float32
        torch.testing.assert_close(scores.divergence.double(), jensen_shannon(student.double(), teacher.double()), atol=1e-5, rtol=1e-4)
