"""The engine samples what the model says: against `model.generate`, and against itself in other batches."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opcod.errors import ResourceError
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


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_are_the_models_whatever_rows_share_leave_and_enter(family: str) -> None:
    """Three responses to each prompt, of unequal length; some prompts are equal, some begin alike, and in small batches some wait."""
    ours = engine(family, end_ids=tuple(range(40)))
    beginning = list(range(60, 90))
    prompts = [*PROMPTS, [5, 6, 7], *([*beginning, *range(rest)] for rest in (1, 4, 2, 4)), [200] * 13]
    for batch_size in (64, 7):
        made = ours.generate(prompts, SamplingParams(20, n=3), seed=6, batch_size=batch_size)
        assert len({len(one.token_ids) for group in made for one in group}) > 5
        for prompt, group in zip(prompts, made, strict=True):
            for one in group:
                logits = ours.model(torch.tensor([[*prompt, *one.token_ids]])).logits[0, len(prompt) - 1 : -1]
                told = torch.log_softmax(logits, dim=-1).gather(-1, torch.tensor(one.token_ids).unsqueeze(-1)).squeeze(-1)
                torch.testing.assert_close(torch.tensor(one.log_probs), told, atol=1e-4, rtol=1e-4)


def test_a_question_is_kept_once_for_its_responses_and_leaves_with_the_last() -> None:
    ours = engine()
    rows = ours.prefill([[1, 2, 3], [4, 5]])
    ours.prefill.repeat(rows, [0, 0, 1, 1, 1])
    assert rows.shared is not None
    assert [tuple(keys.shape[:3]) for keys in rows.shared.keys] == [(2, 2, 3)] * 2
    assert rows.mask.shape == (5, 0)
    assert rows.leave(torch.tensor([True, True, False, False, True])).tolist() == [2, 3]
    assert [len(keys) for keys in rows.shared.keys] == [1] * 2


def test_one_prompt_asked_far_more_often_than_the_others_does_not_make_room_for_all() -> None:
    ours = engine()
    rows = ours.prefill([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    ours.prefill.repeat(rows, [0] * 20 + [1, 2])
    assert rows.shared is None
    assert rows.mask.shape == (22, 3)


def test_bfloat16_samples_what_float32_finds_likely() -> None:
    ours = engine()
    exact = make_model()
    ours.model.to(torch.bfloat16)  # type: ignore[arg-type]
    for prompt, group in zip(PROMPTS, ours.generate(PROMPTS, SamplingParams(12, n=3), seed=2, batch_size=64), strict=True):
        for one in group:
            logits = exact(torch.tensor([[*prompt, *one.token_ids]])).logits[0, len(prompt) - 1 : -1]
            told = torch.log_softmax(logits, dim=-1).gather(-1, torch.tensor(one.token_ids).unsqueeze(-1)).squeeze(-1)
            torch.testing.assert_close(torch.tensor(one.log_probs), told, atol=0.1, rtol=0.02)


@pytest.mark.parametrize("fits", [5, 1])
def test_where_memory_does_not_suffice_fewer_responses_go_on_together_and_say_the_same(fits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out once in the middle, when some turns have ended already."""
    params, ends = SamplingParams(16, n=3), tuple(range(30))
    whole = engine(end_ids=ends).generate(PROMPTS, params, seed=4, batch_size=64)
    extend, passes = Prefill.extend, []

    def short_of_memory(self: Prefill, rows: Any, ids: torch.Tensor, *rest: Any) -> None:
        passes.append(len(rows))
        if len(passes) > 4 and len(rows) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        extend(self, rows, ids, *rest)

    monkeypatch.setattr(Prefill, "extend", short_of_memory)
    ours = engine(end_ids=ends)
    halved = ours.generate(PROMPTS, params, seed=4, batch_size=64)
    assert max(passes) > fits
    assert [[one.token_ids for one in group] for group in halved] == [[one.token_ids for one in group] for group in whole]
    passes[:] = [0] * 5
    assert ours.generate(PROMPTS, params, seed=4, batch_size=64) == ours.generate(PROMPTS, params, seed=4, batch_size=64)
    assert max(passes) <= fits  # it does not try again what did not fit


def test_no_memory_for_a_single_response_is_a_matter_of_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Prefill, "extend", no_memory)
    with pytest.raises(ResourceError, match="single response"):
        engine().generate(PROMPTS, SamplingParams(4, n=3), seed=0, batch_size=64)


@pytest.mark.parametrize("top_p", [1.0, 0.75])
def test_a_large_vocabulary_is_drawn_from_as_a_small_one(top_p: float) -> None:
    """Of 1,000 tokens four are likely, at the borders of the blocks that are summed up."""
    likely, masses = torch.tensor([0, 127, 640, 999]), torch.tensor([0.1, 0.2, 0.4, 0.3])
    logits = torch.full((1, 1000), -40.0).index_copy(1, likely, masses.log().unsqueeze(0)).expand(20_000, -1)
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    tokens, log_probs = sample(logits, SamplingParams(1, top_p=top_p), uniform)
    kept = masses * (torch.tensor([0.0, 1.0, 1.0, 1.0]) if top_p < 0.9 else 1)
    torch.testing.assert_close(torch.bincount(tokens, minlength=1000)[likely] / 20_000, kept / kept.sum(), atol=0.01, rtol=0)
    torch.testing.assert_close(log_probs, torch.log_softmax(logits, dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1))


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
