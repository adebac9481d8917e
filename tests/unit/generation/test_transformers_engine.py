"""The engine samples what the model says: against `model.generate`, and against itself in other batches."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opcod.generation.base import SamplingParams
from opcod.generation.prefill import Prefill
from opcod.generation.sampling import sample
from opcod.generation.transformers import TransformersEngine
from tests.unit.students.tiny_models import FAMILIES, make_model

PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10], [20, 21]]


def engine(family: str = "qwen3", *, end_ids: tuple[int, ...] = (256,)) -> TransformersEngine:
    return TransformersEngine(make_model(family), end_ids=end_ids, pad_id=256)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_generate(family: str) -> None:
    """Of every family, whether prompts share a beginning or not, and when some have to wait."""
    ours = engine(family)
    prompts = [*PROMPTS, *([*range(30, 50), *rest] for rest in ([7], [7, 8, 9], [7], [1, 2]))]
    made = ours.generate(prompts, SamplingParams(12, temperature=0), seed=0, batch_size=5)
    model: Any = ours.model
    for prompt, (one,) in zip(prompts, made, strict=True):
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


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of all that goes through the model from now on."""
    shapes: list[tuple[int, ...]] = []
    extend = Prefill.extend

    def watch(self: Prefill, rows: Any, ids: torch.Tensor, *rest: Any) -> None:
        shapes.append(tuple(ids.shape))
        extend(self, rows, ids, *rest)

    monkeypatch.setattr(Prefill, "extend", watch)
    return shapes


def test_the_prompt_is_computed_once_for_its_rollouts(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = watched(monkeypatch)
    engine().generate([[1, 2, 3], [4, 5, 6]], SamplingParams(4, n=5), seed=0, batch_size=10)
    assert shapes == [(2, 3), (10, 1), (10, 1), (10, 1)]


def test_a_beginning_that_prompts_share_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two questions of ten tokens, three responses to each, two of them the same."""
    shapes = watched(monkeypatch)
    prompts = [[*range(first, first + 10), *response] for first in (10, 40) for response in ([1, 2], [3], [3])]
    engine().generate(prompts, SamplingParams(2, temperature=0), seed=0, batch_size=6)
    assert shapes == [(2, 10), (4, 2), (6, 1)]


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_that_wait_enter_when_rows_have_left(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more rows than the batch holds, whatever the family; and fewer steps than in batches one after the other."""
    shapes = watched(monkeypatch)
    ends = tuple(range(36))
    prompts = [[50 + row, 51, 52] for row in range(24)]
    made = engine(family, end_ids=ends).generate(prompts, SamplingParams(30), seed=2, batch_size=8)
    decoding = [rows for rows, width in shapes if width == 1]
    assert max(rows for rows, _ in shapes) <= 8
    one_after_the_other = sum(max(len(one.token_ids) for (one,) in made[start : start + 8]) - 1 for start in (0, 8, 16))
    if family == "gemma2":  # its sliding window is counted in columns
        assert len(decoding) == one_after_the_other
    else:
        assert len(decoding) < one_after_the_other
