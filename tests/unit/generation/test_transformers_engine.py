"""The engine samples what the model says: against `model.generate`, and against itself in other batches."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opcod.generation.base import SamplingParams
from opcod.generation.transformers import TransformersEngine, sample
from tests.unit.students.tiny_models import FAMILIES, make_model

PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10], [20, 21]]


def engine(family: str = "qwen3", *, end_ids: tuple[int, ...] = (256,)) -> TransformersEngine:
    return TransformersEngine(make_model(family), end_ids=end_ids, pad_id=256)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_generate(family: str) -> None:
    ours = engine(family)
    made = ours.generate(PROMPTS, SamplingParams(12, temperature=0), seed=0, batch_size=8)
    model: Any = ours.model
    for prompt, (one,) in zip(PROMPTS, made, strict=True):
        reference = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=12, do_sample=False)
        assert list(one.token_ids) == reference[0, len(prompt) :].tolist()


def test_a_row_says_the_same_whoever_shares_its_batch() -> None:
    params = SamplingParams(16, n=3)
    together = engine().generate(PROMPTS, params, seed=4, batch_size=64)
    apart = engine().generate(PROMPTS, params, seed=4, batch_size=3)
    assert [[one.token_ids for one in group] for group in together] == [[one.token_ids for one in group] for group in apart]


def test_a_row_stops_at_its_end_and_the_others_go_on() -> None:
    """Half of the vocabulary ends a turn: rows leave the batch at different steps, and the cache is compacted."""
    ends = tuple(range(144))
    free = engine(end_ids=(287,)).generate(PROMPTS, SamplingParams(24, n=16), seed=1, batch_size=64)
    stopped = engine(end_ids=ends).generate(PROMPTS, SamplingParams(24, n=16), seed=1, batch_size=64)
    lengths = set()
    for whole, cut in zip(chain(*free), chain(*stopped), strict=True):
        end = next(place for place, token in enumerate(whole.token_ids) if token in ends)
        assert cut.token_ids == whole.token_ids[: end + 1]
        assert cut.finished
        lengths.add(len(cut.token_ids))
    assert len(lengths) > 3


def test_a_response_cut_by_the_limit_is_not_finished() -> None:
    (group,) = engine(end_ids=(287,)).generate([[1]], SamplingParams(3), seed=0, batch_size=1)
    assert (len(group[0].token_ids), group[0].finished) == (3, False)


def test_log_probabilities_are_the_models_own() -> None:
    ours = engine()
    params = SamplingParams(6, temperature=0.7, top_p=0.9)
    ((one,),) = ours.generate([[5, 6]], params, seed=3, batch_size=1)
    logits = ours.model(torch.tensor([[5, 6, *one.token_ids]])).logits[0, 1:-1]
    expected = torch.log_softmax(logits / 0.7, dim=-1).gather(-1, torch.tensor(one.token_ids).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(torch.tensor(one.log_probs), expected, atol=1e-5, rtol=1e-4)


def test_sampled_frequencies_are_the_probabilities() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).expand(40_000, -1)
    uniform = torch.rand(40_000, generator=torch.Generator().manual_seed(0))
    tokens, _ = sample(logits, SamplingParams(1, temperature=0.5), uniform)
    frequencies = torch.bincount(tokens, minlength=4) / 40_000
    torch.testing.assert_close(frequencies, torch.softmax(logits[0] / 0.5, dim=-1), atol=0.01, rtol=0)


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=12), st.floats(0.05, 1.0), st.floats(0, 1))
def test_the_nucleus_holds_only_the_smallest_likeliest_set(logits: list[float], top_p: float, uniform: float) -> None:
    row = torch.tensor([logits])
    token, _ = sample(row, SamplingParams(1, top_p=top_p), torch.tensor([uniform]))
    probabilities = torch.softmax(row[0], dim=-1)
    likelier = probabilities[probabilities > probabilities[token]].sum()
    assert float(likelier) < top_p + 1e-5


def test_a_token_of_probability_zero_is_never_sampled() -> None:
    logits = torch.tensor([[0.0, float("-inf"), 0.0, float("-inf")]])
    for uniform in (0.0, 0.25, 0.5, 0.999, 1.0):
        token, _ = sample(logits, SamplingParams(1), torch.tensor([uniform]))
        assert int(token) in (0, 2)


def test_the_prompt_is_computed_once_for_its_rollouts(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = engine()
    widths: list[tuple[int, int]] = []
    forward = ours._forward

    def watch(ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        widths.append(tuple(ids.shape))  # type: ignore[arg-type]
        return forward(ids, *rest)

    monkeypatch.setattr(ours, "_forward", watch)
    ours.generate([[1, 2, 3], [4, 5, 6]], SamplingParams(4, n=5), seed=0, batch_size=10)
    assert widths == [(2, 3), (10, 1), (10, 1), (10, 1)]
