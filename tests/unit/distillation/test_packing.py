"""Texts packed into one row with their common beginnings once: outputs, losses and gradients of each text alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import rms_norm
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.bloom import BloomConfig
from transformers.models.mamba import MambaConfig
from transformers.models.mistral import MistralConfig

from opcod.config import AdaptersConfig, GrpoConfig, LossConfig
from opcod.distillation import micro_batches as micro_batches_module
from opcod.distillation import packing
from opcod.distillation import readout as readout_module
from opcod.distillation.micro_batches import computed_tokens, micro_batches
from opcod.distillation.packing import can_pack, pack, packed_logits, packed_tokens
from opcod.distillation.readout import response_readout
from opcod.students.loading import Student, equip, without_dropout
from opcod.training.update import Learner, ScoredResponse, UpdateReport, distill, reinforce, sampled_log_probs
from tests.unit.distillation.test_scoring import alone
from tests.unit.distillation.test_update import END, TEMPERATURE, learner
from tests.unit.students.tiny_models import make_model, make_tokenizer

CPU = torch.device("cpu")
PACKABLE = ("qwen3", "llama", "gpt2")
Texts = Sequence[Sequence[int]]

QUESTIONS: list[tuple[list[int], list[list[int]]]] = [
    ([5, 6, 7, 8], [[40, 41, 42, END], [40, END], [9, 9, 9, 9, 9, 9, END], [END]]),
    ([5, 6, 7, 9, 10], [[41, 42, 43], [44, 45, END]]),
    ([1], [[60, END], [61, 62, END]]),
]
ROWS = [(prompt, response) for prompt, responses in QUESTIONS for response in responses]
PROMPTS, RESPONSES = [prompt for prompt, _ in ROWS], [response for _, response in ROWS]

token = st.integers(0, 3)
text = st.lists(token, min_size=1, max_size=9)


@contextmanager
def nothing_shared() -> Iterator[None]:
    """Every row by itself, padded."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (readout_module, micro_batches_module):
            patch.setattr(module, "can_pack", lambda model: False)
        yield


def doubled(model: PreTrainedModel) -> PreTrainedModel:
    """In float64 throughout: these families' norms would compute in float32 whatever their weights."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            norm: Any = module
            norm.forward = lambda x, norm=norm: rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)
    return model.double()


class TestOutputs:
    @pytest.mark.parametrize("family", PACKABLE)
    @settings(max_examples=30)
    @given(rows=st.lists(st.tuples(text, text), min_size=1, max_size=7))
    def test_are_those_of_each_text_alone(self, family: str, rows: list[tuple[list[int], list[int]]]) -> None:
        """Prompts of few tokens begin alike in every way: some are equal, some begin others, some share nothing."""
        model = doubled(make_model(family))
        prompts, responses = [prompt for prompt, _ in rows], [response for _, response in rows]
        with torch.no_grad():
            found = packed_logits(model, pack(prompts, responses, device=CPU))
        expected = torch.cat([alone(model, prompt, response) for prompt, response in rows])
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)

    @pytest.mark.parametrize("late", ["positions", "predicting", "mask"])
    @pytest.mark.parametrize("family", PACKABLE)
    def test_would_not_be_if_anything_stood_one_place_late(self, family: str, late: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The trial by which a model is judged sees it too."""
        straight = packing.pack

        def shifted(prompts: Texts, responses: Texts, *, device: torch.device) -> packing.Packed:
            packed = straight(prompts, responses, device=device)
            if late == "predicting":
                return replace(packed, predicting=(packed.predicting + 1).clamp(max=packed.input_ids.numel() - 1))
            if late == "mask":
                masks = [None if one.mask is None else one.mask.roll(1, dims=0) for one in packed.groups]
                return replace(packed, groups=tuple(replace(one, mask=mask) for one, mask in zip(packed.groups, masks, strict=True)))
            tails = torch.cat([torch.tensor([0] * one.prefix + [1] * sum(one.tails)) for one in packed.groups])
            return replace(packed, position_ids=packed.position_ids + tails)

        monkeypatch.setattr(packing, "pack", shifted)
        assert not can_pack(doubled(make_model(family)))

    def test_compute_what_is_shared_once_and_no_padding(self) -> None:
        prompts, responses = [[5, 6, 7, 8]] * 4 + [[1]] * 2, [*RESPONSES[:4], *RESPONSES[-2:]]
        packed = pack(prompts, responses, device=CPU)
        # Of each question its prompt but the last token once; of each response that token, and all of its own but the last.
        assert packed.input_ids.numel() == (3 + 14) + 5 == packed_tokens(prompts, responses)
        assert len(packed.predicting) == sum(map(len, responses))


class TestWhichModelsCan:
    @pytest.mark.parametrize("family", PACKABLE)
    def test_those_whose_attention_sees_all_tokens(self, family: str) -> None:
        model = make_model(family)
        own = model.config._attn_implementation
        assert can_pack(model)
        assert model.config._attn_implementation == own

    @pytest.mark.parametrize("adapters", [AdaptersConfig()])
    def test_with_adapters_too(self, adapters: AdaptersConfig) -> None:
        assert can_pack(equip(Student(make_model(), make_tokenizer(), "tiny"), adapters=adapters, gradient_checkpointing=False).model)

    def test_not_those_that_cap_their_attention_see_a_window_know_distances_or_keep_a_state(self) -> None:
        small: Any = {"vocab_size": 288, "hidden_size": 32, "pad_token_id": END, "bos_token_id": None, "eos_token_id": END}
        window = MistralConfig(
            **small, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, sliding_window=8
        )
        distances = BloomConfig(**small, n_layer=1, n_head=2)
        state = MambaConfig(**small, state_size=4, num_hidden_layers=1)
        build: Any = AutoModelForCausalLM.from_config
        assert not can_pack(make_model("gemma2"))
        assert [can_pack(build(config).eval()) for config in (window, distances, state)] == [False] * 3


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def backward(model: PreTrainedModel) -> dict[str, Tensor]:
    """Gradients of something that depends on every logit."""
    model.zero_grad(set_to_none=True)
    model.train()
    logits = response_readout(model, PROMPTS, RESPONSES, pad_id=END).logits()
    pull = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0), dtype=logits.dtype)
    (logits.log_softmax(-1) * pull).sum().backward()
    return gradients(model)


class TestGradients:
    @pytest.mark.parametrize("adapters", [None, AdaptersConfig()], ids=["full", "lora"])
    @pytest.mark.parametrize("checkpointing", [False, True])
    @pytest.mark.parametrize("family", PACKABLE)
    def test_are_those_of_rows_apart(self, family: str, checkpointing: bool, adapters: AdaptersConfig | None) -> None:
        """Also where the backward pass computes layers again, after the packed row has been put through."""
        torch.manual_seed(0)
        bare = Student(without_dropout(make_model(family)), make_tokenizer(), family)
        model = doubled(equip(bare, adapters=adapters, gradient_checkpointing=checkpointing).model)
        shared = backward(model)
        with nothing_shared():
            apart = backward(model)
        assert shared.keys() == apart.keys() != set()
        for name, expected in apart.items():
            torch.testing.assert_close(shared[name], expected, atol=1e-10, rtol=1e-10)


TEACHER = [
    # the same solution for two, another for one, feedback at the end; a question whose prompts share nothing; equal ones
    [[5, 6, 7, 8, 70, 71, 72], [5, 6, 7, 8, 70, 71, 72], [5, 6, 7, 8, 73, 71], [5, 6, 7, 8, 70, 71, 90]],
    [[30, 31], [20]],
    [[1, 2, 3], [1, 2, 3]],
]
BATCH = [
    ScoredResponse(prompt, response, [-5.5] * len(response), teacher_prompt, advantage, alternatives=2)
    for (prompt, responses), teacher_prompts in zip(QUESTIONS, TEACHER, strict=True)
    for response, teacher_prompt, advantage in zip(responses, teacher_prompts, (0.5, -0.5, 0.25, -0.25), strict=False)
]
ONE = BATCH[:4]


def double_learner(family: str, micro_batch_tokens: int) -> Learner:
    it = learner(family, micro_batch_tokens=micro_batch_tokens)
    assert it.teacher is not None
    doubled(it.model)
    doubled(cast(PreTrainedModel, it.teacher.model))
    return it


def assert_same(found: UpdateReport, expected: UpdateReport, here: Learner, there: Learner) -> None:
    assert found.loss == pytest.approx(expected.loss, rel=1e-9)
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-6)  # the optimiser's own are float32
    assert found.views == expected.views
    for ours, theirs in zip(found.tokens, expected.tokens, strict=True):
        for name in ("loss", "entropy", "weight"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-8, abs=1e-12)
    first, second = (it.optimizer.state_dict() for it in (here, there))
    for name, moment in second.items():
        torch.testing.assert_close(first[name], moment, atol=1e-9, rtol=1e-5)


class TestUpdates:
    @pytest.mark.parametrize("batch", [BATCH, ONE, BATCH[4:5]], ids=["all", "one question", "one response"])
    @pytest.mark.parametrize("micro_batch_tokens", [20, 10_000])
    @pytest.mark.parametrize("family", PACKABLE)
    def test_distillation_is_that_of_rows_apart(self, family: str, micro_batch_tokens: int, batch: list[ScoredResponse]) -> None:
        here, there = double_learner(family, micro_batch_tokens), double_learner(family, micro_batch_tokens)
        found = distill(here, batch, LossConfig(top_k=20, aggregation="sequence_mean"), temperature=TEMPERATURE)
        with nothing_shared():
            expected = distill(there, batch, LossConfig(top_k=20, aggregation="sequence_mean"), temperature=TEMPERATURE)
        assert_same(found, expected, here, there)

    @pytest.mark.parametrize("family", PACKABLE)
    def test_reinforcement_is_that_of_rows_apart(self, family: str) -> None:
        here, there = double_learner(family, 20), double_learner(family, 20)
        old = sampled_log_probs(here, BATCH, temperature=TEMPERATURE)
        found = reinforce(here, BATCH, GrpoConfig(), temperature=TEMPERATURE, old_log_probs=old)
        with nothing_shared():
            before = sampled_log_probs(there, BATCH, temperature=TEMPERATURE)
            expected = reinforce(there, BATCH, GrpoConfig(), temperature=TEMPERATURE, old_log_probs=before)
        for ours, theirs in zip(old, before, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-9)
        assert_same(found, expected, here, there)

    def test_in_float32_up_to_rounding(self) -> None:
        here, there = learner(), learner()
        found = distill(here, BATCH, LossConfig(top_k=20), temperature=TEMPERATURE)
        with nothing_shared():
            expected = distill(there, BATCH, LossConfig(top_k=20), temperature=TEMPERATURE)
        assert found.loss == pytest.approx(expected.loss, abs=1e-6)
        assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)


class TestMicroBatches:
    MODEL = make_model()

    @given(
        questions=st.lists(st.tuples(text, st.lists(st.tuples(text, text), min_size=1, max_size=5)), max_size=6), limit=st.integers(1, 120)
    )
    def test_hold_each_row_once_and_stay_within_the_limit(
        self, questions: list[tuple[list[int], list[tuple[list[int], list[int]]]]], limit: int
    ) -> None:
        rows = [(prompt, *row) for prompt, group in questions for row in group]
        passes: list[Texts] = [[row[0] for row in rows], [row[1] for row in rows]]
        responses = [row[2] for row in rows]
        groups = micro_batches(self.MODEL, passes, responses, max_tokens=limit)
        assert sorted(row for group in groups for row in group) == list(range(len(rows)))
        for group in groups:
            assert len(group) == 1 or computed_tokens(self.MODEL, group, passes, responses) <= limit

    def test_keep_a_questions_responses_together_where_they_fit(self) -> None:
        prompts = [[7] * 20, [8] * 20] * 4
        responses = [[1] * (3 + row) for row in range(8)]
        assert micro_batches(self.MODEL, [prompts], responses, max_tokens=60) == [[0, 2, 4, 6], [1, 3, 5, 7]]
        cut = micro_batches(self.MODEL, [prompts], responses, max_tokens=40)
        assert cut == [[0, 2], [4, 6], [1, 3], [5, 7]]
