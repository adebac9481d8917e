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
from opcod.distillation.loss import TokenScores, aggregate, importance_weights, score_distillation, score_sampled
from opcod.distillation.readout import Readout


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
    VALUES = torch.tensor([1.0, 2.0, 3.0, 10.0])
    LENGTHS = (3, 1)

    def test_token_mean_weighs_every_token_alike(self) -> None:
        assert aggregate(self.VALUES, self.LENGTHS, how="token_mean", tokens=4, sequences=2).item() == pytest.approx(16 / 4)

    def test_sequence_mean_weighs_every_response_alike(self) -> None:
        assert aggregate(self.VALUES, self.LENGTHS, how="sequence_mean", tokens=4, sequences=2).item() == pytest.approx((2 + 10) / 2)

    @given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=12), cut=st.integers(1, 11), seed=st.integers(0, 999))
    @pytest.mark.parametrize("how", ["token_mean", "sequence_mean"])
    def test_shares_of_micro_batches_add_up_to_the_whole(self, how: str, lengths: list[int], cut: int, seed: int) -> None:
        values = drawn(sum(lengths), seed=seed)
        whole = {"how": how, "tokens": sum(lengths), "sequences": len(lengths)}
        rows = values.split(lengths)
        parts = [
            aggregate(torch.cat(rows[part]), lengths[part], **whole)  # type: ignore[arg-type]
            for part in (slice(0, cut), slice(cut, None))
            if rows[part]
        ]
        expected = torch.cat(rows).mean() if how == "token_mean" else torch.stack([row.mean() for row in rows]).mean()
        torch.testing.assert_close(torch.stack(parts).sum(), expected)


CHUNKS = [1, 7 * 50, 10_000 * 50]
"""Logits a chunk: a token each, some, all."""


def scored(student: Readout, teacher: Readout, *, temperature: float = 1.0, top_k: int | None = 10) -> TokenScores:
    sampled = torch.arange(len(student.features)) % student.vocabulary
    return score_distillation(student, teacher, sampled, temperature=temperature, alpha=0.5, top_k=top_k, tail_bucket=True)


class TestScores:
    @pytest.mark.parametrize("chunk", CHUNKS)
    @pytest.mark.parametrize("temperature", [1.0, 0.7])
    def test_equal_the_plain_divergence_whatever_the_chunks(self, chunk: int, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loss_module, "CHUNK_LOGITS", chunk)
        student, teacher, weights = 3 * drawn(33, 50), 3 * drawn(33, 50, seed=1), drawn(33, seed=2)
        student.requires_grad_()
        scores = scored(Readout(student), Readout(teacher), temperature=temperature)
        plain = jensen_shannon(student / temperature, teacher / temperature, top_k=10)
        torch.testing.assert_close(scores.divergence, plain)
        ours = torch.autograd.grad((scores.divergence * weights).sum(), student)[0]
        expected = torch.autograd.grad((plain * weights).sum(), student)[0]
        torch.testing.assert_close(ours, expected)

    @given(
        seed=st.integers(0, 2**32 - 1),
        tokens=st.integers(1, 9),
        vocabulary=st.integers(2, 40),
        chunk=st.integers(1, 400),
        alpha=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        top_k=st.sampled_from([1, 3, 100, None]),
        tail=st.booleans(),
        temperature=st.sampled_from([1.0, 0.7, 2.5]),
        bias=st.booleans(),
        frozen=st.booleans(),
        single=st.booleans(),
    )
    def test_through_a_head_equal_the_plain_ones(
        self,
        seed: int,
        tokens: int,
        vocabulary: int,
        chunk: int,
        alpha: float,
        top_k: int | None,
        tail: bool,
        temperature: float,
        bias: bool,
        frozen: bool,
        single: bool,
    ) -> None:
        """Values and all gradients: hidden states, head, bias; of the divergence and of the log-probabilities at once."""
        draw = torch.Generator().manual_seed(seed)
        dtype = torch.float32 if single else torch.float64
        shapes = (tokens, 6), (vocabulary, 6), (vocabulary,)
        ours, theirs = ([torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for shape in shapes] for _ in range(2))
        values = [part.requires_grad_(place == 0 or not frozen) for place, part in enumerate(ours)]
        sampled = torch.randint(vocabulary, (tokens,), generator=draw)
        by_divergence, by_log_probs = torch.randn(2, tokens, generator=draw, dtype=torch.float64).to(dtype)
        student, teacher = (Readout(*parts) if bias else Readout(*parts[:2]) for parts in (values, theirs))

        x, y = student.logits() / temperature, teacher.logits() / temperature
        plain = jensen_shannon(x, y, alpha=alpha, top_k=top_k, tail_bucket=tail)
        log_probs = x.log_softmax(-1).gather(-1, sampled.unsqueeze(-1)).squeeze(-1)
        how = {"temperature": temperature, "alpha": alpha, "top_k": top_k, "tail_bucket": tail}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loss_module, "CHUNK_LOGITS", chunk)
            scores = score_distillation(student, teacher, sampled, **how)  # type: ignore[arg-type]
            wanted = [part for part in values if part.requires_grad][: 1 if frozen else 2 + bias]
            found = torch.autograd.grad((scores.divergence * by_divergence + scores.log_probs * by_log_probs).sum(), wanted)
        expected = torch.autograd.grad((plain * by_divergence + log_probs * by_log_probs).sum(), wanted)
        torch.testing.assert_close(scores.divergence, plain, atol=1e-5 if single else 1e-11, rtol=0)
        torch.testing.assert_close(scores.log_probs, log_probs)
        for here, there in zip(found, expected, strict=True):
            assert (here - there).norm() <= (1e-4 if single else 1e-9) * there.norm() + 1e-6

    def test_log_probabilities_and_entropies_are_those_of_the_sampled_distribution(self) -> None:
        logits = 3 * drawn(10, 30)
        sampled = torch.arange(10)
        distribution = torch.distributions.Categorical(logits=logits / 0.7)
        log_probs, entropy = score_sampled(Readout(logits), sampled, temperature=0.7)
        torch.testing.assert_close(log_probs, distribution.log_prob(sampled))
        torch.testing.assert_close(entropy, distribution.entropy())
        scores = scored(Readout(logits), Readout(logits), temperature=0.7, top_k=3)
        torch.testing.assert_close(scores.log_probs, log_probs)
        torch.testing.assert_close(scores.entropy, entropy)

    @pytest.mark.parametrize("top_k", [3, None])
    def test_no_gradient_reaches_the_teacher(self, top_k: int | None) -> None:
        student, teacher = drawn(4, 9).requires_grad_(), drawn(4, 9, seed=1).requires_grad_()
        scored(Readout(student), Readout(teacher), top_k=top_k).divergence.sum().backward()
        assert teacher.grad is None
        assert student.grad is not None

    def test_half_precision_logits_are_compared_in_single_precision(self) -> None:
        student, teacher = drawn(4, 200).bfloat16(), drawn(4, 200, seed=1).bfloat16()
        scores = scored(Readout(student), Readout(teacher), top_k=100)
        assert scores.divergence.dtype == torch.float32
        torch.testing.assert_close(scores.divergence.double(), jensen_shannon(student.double(), teacher.double()), atol=1e-5, rtol=1e-4)

    def test_the_heads_gradient_in_half_precision_loses_little_over_many_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hidden, teacher, head = (part.bfloat16() for part in (drawn(1600, 8) + 0.3, drawn(1600, 8, seed=1), drawn(30, 8, seed=2)))

        def gradient(chunk: int) -> Tensor:
            monkeypatch.setattr(loss_module, "CHUNK_LOGITS", chunk * 30)
            ours = head.clone().requires_grad_()
            scored(Readout(hidden, ours), Readout(teacher, head)).divergence.sum().backward()
            assert ours.grad is not None
            return ours.grad.double()

        whole = gradient(1600)
        assert (gradient(2) - whole).norm() < 0.01 * whole.norm()

    def test_logits_given_are_left_as_they_are(self) -> None:
        student, teacher = drawn(4, 9).float(), drawn(4, 9, seed=1).float()
        before = student.clone(), teacher.clone()
        scores = scored(Readout(student.requires_grad_()), Readout(teacher))
        scores.divergence.sum().backward()
        assert (student.equal(before[0]), teacher.equal(before[1])) == (True, True)
