"""Hidden states and a head instead of logits: the same losses and weights, exact for every kind of head, and lean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, GraniteConfig, PreTrainedModel

from opcod.config import AdaptersConfig, GrpoConfig, LossConfig, OptimizerConfig
from opcod.distillation import loss as loss_module
from opcod.distillation import readout as readout_module
from opcod.distillation.lens import Lens
from opcod.distillation.loss import score_distillation
from opcod.distillation.readout import Readout, plain_head, response_readout
from opcod.distillation.scoring import pad, response_logits
from opcod.profiling.held import Held
from opcod.students.ema import ExponentialAverage
from opcod.students.loading import without_dropout
from opcod.students.lora import add_adapters
from opcod.training.micro_batch_size import MicroBatchSize
from opcod.training.optimizer import Optimizer
from opcod.training.update import Learner, UpdateReport, distill, reinforce, sampled_log_probs
from tests.unit.distillation.test_update import BATCH, END, TEMPERATURE
from tests.unit.students.tiny_models import make_model

GIB = 2**30


@contextmanager
def by_parts(chunk: int = 5 * 288) -> Iterator[None]:
    """Few logits at a time, however few there are in all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readout_module, "WHOLE_LOGITS", 0)
        patch.setattr(loss_module, "CHUNK_LOGITS", chunk)
        yield


def scaling(kind: type[CohereConfig | GraniteConfig], **extra: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    build: Any = AutoModelForCausalLM.from_config
    small: Any = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    config: Any = kind(vocab_size=288, bos_token_id=None, eos_token_id=256, pad_token_id=256, **small, **extra)
    return cast(PreTrainedModel, build(config).eval())


class TestHeads:
    @pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2"])
    def test_a_linear_head_is_found_and_left_as_it_was(self, family: str) -> None:
        model = make_model(family)
        head = plain_head(model)
        assert head is not None
        assert head is model.get_output_embeddings()
        assert "forward" not in vars(head)

    def test_it_is_found_beneath_adapters_but_not_with_one_on_itself(self) -> None:
        beside = add_adapters(make_model("llama"), AdaptersConfig())
        on_it = add_adapters(make_model("llama"), AdaptersConfig(targets=["lm_head", "q_proj"]))
        assert plain_head(beside) is not None
        assert plain_head(on_it) is None

    def test_a_model_that_caps_or_scales_its_logits_is_known_by_what_it_does(self) -> None:
        assert plain_head(make_model("gemma2")) is None
        assert plain_head(scaling(CohereConfig, logit_scale=0.0625)) is None
        assert plain_head(scaling(GraniteConfig, logits_scaling=8.0)) is None
        assert plain_head(scaling(CohereConfig, logit_scale=1.0)) is not None

    @pytest.mark.parametrize("family", ["qwen3", "gpt2", "gemma2"])
    def test_what_is_read_out_are_the_models_logits(self, family: str) -> None:
        model = make_model(family)
        prompts, responses = [[1, 2, 3], [4]], [[5, 6], [7, 8, 9]]
        batch = pad(prompts, responses, pad_id=END, device=torch.device("cpu"))
        with torch.no_grad(), by_parts():
            found = response_readout(model, prompts, responses, pad_id=END)
            expected = response_logits(model, batch)[batch.response_mask]
        assert (found.weight is None) == (family == "gemma2")
        torch.testing.assert_close(found.logits(), expected, atol=1e-6, rtol=0)


def learner(family: str, adapters: AdaptersConfig | None) -> Learner:
    """A student with a self-teacher that differs from it, as after some updates."""
    torch.manual_seed(1)
    model = without_dropout(make_model(family))
    model = add_adapters(model, adapters) if adapters else model
    teacher = ExponentialAverage(model, 0.05)
    teacher.load_state_dict({name: value + 0.05 * torch.randn(value.shape) for name, value in teacher.state_dict().items()})
    optimizer = Optimizer(model, OptimizerConfig(learning_rate=1e-3, warmup_steps=0))
    return Learner(model=model, teacher=teacher, optimizer=optimizer, pad_id=END, micro_batches=MicroBatchSize(24))


def gradients(it: Learner) -> Mapping[str, torch.Tensor]:
    """What the optimiser was given, from its first moments."""
    return {name: value for name, value in it.optimizer.state_dict().items() if name.startswith("exp_avg/")}


def assert_equal(here: tuple[Learner, UpdateReport], there: tuple[Learner, UpdateReport]) -> None:
    assert here[1].loss == pytest.approx(there[1].loss, abs=1e-5)
    assert here[1].views == there[1].views
    for one, other in zip(here[1].tokens, there[1].tokens, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
        assert one.entropy == pytest.approx(other.entropy, rel=1e-5)
    ours, theirs = gradients(here[0]), gradients(there[0])
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert (ours[name] - value).norm() <= 1e-4 * value.norm(), name


class TestUpdates:
    @pytest.mark.parametrize("loss", [LossConfig(top_k=20), LossConfig(top_k=None, alpha=1.0, aggregation="sequence_mean")])
    @pytest.mark.parametrize("adapters", [None, AdaptersConfig()], ids=["full", "lora"])
    @pytest.mark.parametrize("family", ["qwen3", "llama", "gemma2"])
    def test_distillation_by_parts_is_that_of_whole_logits(self, family: str, adapters: AdaptersConfig | None, loss: LossConfig) -> None:
        batch = [replace(one, alternatives=2) for one in BATCH]
        whole, parts = learner(family, adapters), learner(family, adapters)
        expected = distill(whole, batch, loss, temperature=TEMPERATURE)
        with by_parts():
            found = distill(parts, batch, loss, temperature=TEMPERATURE)
        assert_equal((parts, found), (whole, expected))

    def test_reinforcement_too(self) -> None:
        batch = [replace(BATCH[0], advantage=0.5), replace(BATCH[2], advantage=-0.5)]
        whole, parts = learner("llama", None), learner("llama", None)
        old = sampled_log_probs(whole, batch, temperature=TEMPERATURE)
        expected = reinforce(whole, batch, GrpoConfig(), temperature=TEMPERATURE, old_log_probs=old)
        with by_parts():
            ours = sampled_log_probs(parts, batch, temperature=TEMPERATURE)
            found = reinforce(parts, batch, GrpoConfig(), temperature=TEMPERATURE, old_log_probs=old)
        for here, there in zip(ours, old, strict=True):
            assert here == pytest.approx(there, abs=1e-5)
        assert_equal((parts, found), (whole, expected))


def added(tokens: int, *, top_k: int | None, looked_at: bool) -> int:
    """Bytes that loss, lens and gradient hold at most beyond weights, hidden states and the gradients of both: an 8B Qwen3 in bfloat16."""
    hidden, vocabulary = 4096, 151_936
    student, teacher, weight = (
        torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in ((tokens, hidden), (tokens, hidden), (vocabulary, hidden))
    )
    student.requires_grad_()
    weight.requires_grad_()
    responses = torch.zeros(tokens, dtype=torch.long, device="meta")
    lens = Lens([[0] * tokens], [5]) if looked_at else None
    with Held() as held:
        how = {"temperature": 0.7, "alpha": 0.5, "top_k": top_k, "tail_bucket": True, "observe": lens}
        scores = score_distillation(Readout(student, weight), Readout(teacher, weight.detach()), responses, **how)  # type: ignore[arg-type]
        found = torch.autograd.grad(scores.divergence.sum(), (student, weight))
    gradients = sum(gradient.untyped_storage().nbytes() for gradient in found)
    return int(held.peak - gradients)


@pytest.mark.parametrize("looked_at", [False, True], ids=["", "every token looked at"])
@pytest.mark.parametrize(("top_k", "few", "more"), [(100, 500, 1500), (None, 60, 120)])
def test_the_loss_of_long_responses_adds_less_than_two_gib(top_k: int | None, few: int, more: int, looked_at: bool) -> None:
    """Shapes alone: what a chunk takes, and what stays of each token, from two lengths."""
    small, large = added(few, top_k=top_k, looked_at=looked_at), added(more, top_k=top_k, looked_at=looked_at)
    assert 0.1 * GIB < small <= large
    assert large + (large - small) / (more - few) * (32 * 4096 - more) < 2 * GIB
