"""A team of processes does what one does alone: shares of even length, the same responses, the same updates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opcod.config import AdaptersConfig
from opcod.generation.base import SamplingParams
from opcod.training.team import ALONE, even_shares
from opcod.training.update import shares_of_questions
from tests.unit.students.tiny_models import make_model
from tests.unit.training.teamwork import Case, Pair, held, learnt, resumed, sampled

MODELS = {family: make_model(family) for family in ("qwen3", "gemma2")}


@given(st.lists(st.integers(0, 10_000), max_size=60), st.integers(1, 9))
def test_shares_are_even_and_every_place_is_in_one(sizes: list[int], parts: int) -> None:
    shares = even_shares(sizes, parts)
    assert sorted(place for share in shares for place in share) == list(range(len(sizes)))
    assert all(share == sorted(share) for share in shares)
    sums = [sum(sizes[place] for place in share) for share in shares]
    assert len(sums) == parts
    assert max(sums) - min(sums) <= max(sizes, default=0)
    assert max(sums) <= sum(sizes) / parts + max(sizes, default=0) * (1 - 1 / parts) + 1e-9


@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
@given(asked=st.lists(st.integers(0, 5), min_size=1, max_size=24), processes=st.integers(1, 4))
def test_a_question_is_scored_by_one_process_where_there_are_enough(family: str, asked: list[int], processes: int) -> None:
    prompts = [[9, question, 7] for question in asked]
    shares = shares_of_questions(MODELS[family], [prompts, prompts], [[1, 2]] * len(asked), processes)
    assert sorted(row for share in shares for row in share) == list(range(len(asked)))
    assert len(shares) == processes
    if len(set(asked)) >= processes:
        assert all(shares), "one has nothing to do"
        assert sum(len({asked[row] for row in share}) for share in shares) == len(set(asked))


def test_one_alone_has_it_all() -> None:
    assert ALONE.spread([3, 1, 2], lambda places: [place * 10 for place in places]) == [0, 10, 20]
    assert ALONE.gather("mine") == ["mine"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("team") / "meeting")
    yield made
    made.end()


CASES = {
    "tied": Case("qwen3"),
    "untied": Case("llama"),
    "transposed": Case("gpt2"),
    "capped": Case("gemma2"),
    "recomputed": Case("llama", recomputed=True),
    "read by parts": Case("llama", read_by_parts=True, micro_batch_tokens=14),
    "read by parts, tied": Case("qwen3", read_by_parts=True),
    "grpo": Case("qwen3", algorithm="grpo"),
    "adapters": Case("qwen3", adapters=AdaptersConfig(rank=2)),
    "nothing for one of them": Case("qwen3", rows=1),
    "limits of their own": Case("llama", seconds_tokens=12),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_learn_what_one_learns(name: str, pair: Pair) -> None:
    case = CASES[name]
    expected = learnt(case, ALONE)
    found, other = pair.ask(learnt, case)
    for mine, theirs in zip(found.reports, expected.reports, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-4, abs=1e-7)
        assert mine.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-4)
        assert mine.views.keys() == theirs.views.keys()
        for here, there in zip(mine.tokens, theirs.tokens, strict=True):
            assert here.loss == pytest.approx(there.loss, rel=1e-3, abs=1e-6)
    assert other.reports == found.reports  # every process knows of all
    assert found.reports[0].micro_batch_tokens == (case.seconds_tokens or case.micro_batch_tokens)
    for made, wanted in ((found.weights, expected.weights), (found.averages, expected.averages)):
        assert made.keys() == wanted.keys()
        for key, weight in wanted.items():
            torch.testing.assert_close(made[key], weight, atol=5e-5, rtol=0)


@pytest.mark.slow
def test_memory_that_runs_out_in_one_process_makes_all_try_again(pair: Pair) -> None:
    """Of the three responses the second process has two, in one pass; the first one has learnt from its own by then."""
    case = Case("llama", micro_batch_tokens=14)
    expected = learnt(case, ALONE)
    for found in pair.ask(learnt, case, no_room=True):
        assert found.reports[0].loss == pytest.approx(expected.reports[0].loss, rel=1e-4)
        assert found.reports[1].gradient_norm == pytest.approx(expected.reports[1].gradient_norm, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_goes_on_to_the_bit(dtype: torch.dtype, pair: Pair) -> None:
    through, anew = pair.ask(resumed, Case("qwen3", dtype=dtype))[0]
    assert len(through[2]) > len(through[0])
    for mine, theirs in zip(anew, through, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


@pytest.mark.slow
def test_each_process_holds_its_part(pair: Pair) -> None:
    case = Case("llama", dtype=torch.bfloat16)
    adapted = replace(case, adapters=AdaptersConfig(rank=2))
    whole = held(case)
    assert pair.ask(held, case) == [pytest.approx(whole / 2, rel=0.05)] * 2
    assert pair.ask(held, adapted) == [held(adapted)] * 2  # around adapters nothing is in parts


@pytest.mark.slow
def test_responses_do_not_depend_on_who_samples_them(pair: Pair) -> None:
    prompts = [[5, 6, 7], [1], [9] * 20, [4, 4], [8, 3, 1]]
    params = SamplingParams(max_new_tokens=12, n=2)
    expected = sampled(prompts, params, ALONE)
    assert len({one for group in expected for one in group}) == 10
    assert pair.ask(sampled, prompts, params) == [expected] * 2
    assert pair.ask(sampled, prompts[:1], params) == [expected[:1]] * 2  # fewer prompts than processes
