"""Attention in stretches: of every token, all that it may see, and the same results."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opcod.distillation.packing import pack, packed_logits
from opcod.generation import stretches as module
from opcod.generation.base import SamplingParams
from opcod.generation.stretches import MOST, stretches
from opcod.generation.transformers import TransformersEngine
from tests.unit.students.tiny_models import make_model

PROMPTS = [[5, 6, 7, 8, 9, 3], [5, 6, 7, 8, 9, 3], [5, 6, 7, 8, 4], [1, 2]]
RESPONSES = [[40, 41, 42, 43, 44], [45, 46], [47, 48, 49], [50, 51, 52]]


@given(tokens=st.integers(1, 5_000), before=st.integers(0, 500))
def test_each_token_stands_in_one_stretch_that_has_all_columns_up_to_it(tokens: int, before: int) -> None:
    found = [*stretches(tokens, before + tokens)]
    columns = range(before + tokens)
    assert [place for asking, _ in found for place in range(tokens)[asking]] == [*range(tokens)]
    assert all(columns[seen] == range(before + range(tokens)[asking][-1] + 1) for asking, seen in found)
    assert len(found) <= MOST


def test_a_short_text_is_one_stretch() -> None:
    assert len([*stretches(100, 150)]) == 1


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
def test_packed_texts_have_the_same_outputs_and_gradients(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(family)

    def outcome() -> list[torch.Tensor]:
        model.zero_grad()
        logits = packed_logits(model, pack(PROMPTS, RESPONSES, device=model.device))
        logits.float().log_softmax(-1)[:, 7].sum().backward()
        return [logits.detach(), *(weight.grad.clone() for weight in model.parameters() if weight.grad is not None)]

    whole = outcome()
    monkeypatch.setattr(module, "SHORTEST", 2)
    for one, other in zip(outcome(), whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
def test_prompts_with_gaps_and_shared_beginnings_are_gone_on_with_alike(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine(make_model(family), end_ids=[2], pad_id=0)
    prompts = [*PROMPTS, *([*range(30, 50), *rest] for rest in ([7], [7, 8, 9, 10, 11], [1, 2]))]
    greedy = SamplingParams(n=2, max_new_tokens=5, temperature=0.0)
    whole = engine.generate(prompts, greedy, seed=1, batch_size=64)
    monkeypatch.setattr(module, "SHORTEST", 2)
    for ours, expected in zip(engine.generate(prompts, greedy, seed=1, batch_size=64), whole, strict=True):
        for one, other in zip(ours, expected, strict=True):
            assert one.token_ids == other.token_ids
            assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
