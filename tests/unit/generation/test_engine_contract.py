"""What every engine promises, whatever it runs on: one suite over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from opcod.generation.base import Engine, Generation, SamplingParams
from opcod.generation.transformers import TransformersEngine
from tests.unit.students.tiny_models import make_model

END, PAD = 256, 256
PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10], [20, 21]]


@dataclass(frozen=True)
class Case:
    """An engine and the model whose weights it samples from."""

    engine: Engine
    model: PreTrainedModel
    end_ids: tuple[int, ...] = (END,)

    def __call__(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, seed: int = 0, batch_size: int = 8
    ) -> list[list[Generation]]:
        return self.engine.generate(prompts, params, seed=seed, batch_size=batch_size)


def transformers_case() -> Case:
    model = make_model("qwen3")
    return Case(TransformersEngine(model, end_ids=(END,), pad_id=PAD), model)


@pytest.fixture(scope="module", params=[transformers_case], ids=["transformers"])
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param()
    return made


def greedy(model: Any, prompt: Sequence[int], tokens: int) -> list[int]:
    ids = torch.tensor([list(prompt)])
    made: list[int] = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)[0].tolist()
    return made[len(prompt) :]


def test_greedy_tokens_are_those_of_generate_in_the_prompts_order(case: Case) -> None:
    made = case(PROMPTS, SamplingParams(12, temperature=0))
    assert [list(one.token_ids) for (one,) in made] == [greedy(case.model, prompt, 12) for prompt in PROMPTS]


def test_greedy_tokens_do_not_depend_on_the_batch(case: Case) -> None:
    """Prompts that begin alike, are alike, are one token long, and wait for their turn."""
    beginning = list(range(40, 60))
    prompts = [
        *(beginning + [token, token + 1] * (token % 3) + [token] for token in range(8)),
        [*beginning, 1],
        [*beginning, 1],
        [9],
        [9, 8],
    ]
    alone = [case([prompt], SamplingParams(6, temperature=0))[0][0].token_ids for prompt in prompts]
    for batch_size in (3, 64):
        together = case(prompts, SamplingParams(6, temperature=0), batch_size=batch_size)
        assert [one.token_ids for (one,) in together] == alone


def test_every_prompt_gets_its_n_responses(case: Case) -> None:
    made = case(PROMPTS, SamplingParams(5, n=3), batch_size=4)
    assert [len(group) for group in made] == [3] * len(PROMPTS)


def test_a_response_ends_with_the_turn_or_at_the_limit(case: Case) -> None:
    """At this temperature all tokens are about equally likely: some of many responses end early."""
    made = [one for group in case(PROMPTS, SamplingParams(40, temperature=5.0, n=16), batch_size=64) for one in group]
    assert any(one.finished for one in made)
    for one in made:
        assert 1 <= len(one.token_ids) <= 40
        assert not set(one.token_ids[:-1]) & set(case.end_ids)
        assert one.finished == (one.token_ids[-1] in case.end_ids)
        assert one.finished or len(one.token_ids) == 40


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_log_probabilities_are_those_of_the_whole_softmax_at_the_temperature(case: Case, temperature: float) -> None:
    for prompt, (one,) in zip(PROMPTS, case(PROMPTS, SamplingParams(6, temperature, top_p=0.9), seed=3), strict=True):
        logits = case.model(torch.tensor([[*prompt, *one.token_ids]])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits / (temperature or 1), dim=-1).gather(-1, torch.tensor(one.token_ids).unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(torch.tensor(one.log_probs), expected, atol=1e-4, rtol=1e-4)


def test_equal_seeds_give_equal_responses_and_others_do_not(case: Case) -> None:
    params = SamplingParams(12, n=2)
    first, again, other = (case(PROMPTS, params, seed=seed) for seed in (7, 7, 8))
    assert [one.token_ids for group in first for one in group] == [one.token_ids for group in again for one in group]
    assert [one.token_ids for group in first for one in group] != [one.token_ids for group in other for one in group]


def test_no_prompt_gets_no_response(case: Case) -> None:
    assert case([], SamplingParams(5)) == []
