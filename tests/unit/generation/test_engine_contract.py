"""What every engine promises, whatever it runs on: one suite over all of them.

Four ways to sample: the transformers engine; vLLM within the process, in a stand-in with its interface; a server that takes token
ids, as vLLM and llama.cpp do, in a stand-in that answers from the same weights; and a real `transformers serve`, which takes text.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
import torch
from transformers import PreTrainedModel

from opcod.config import ServerConfig, load_preset, parse_config
from opcod.generation.base import Engine, Generation, SamplingParams
from opcod.generation.policy import Policy
from opcod.generation.server import ServerEngine
from opcod.generation.transformers import TransformersEngine
from opcod.generation.vllm import VllmEngine
from opcod.students.loading import load_student
from opcod.students.references import locate
from opcod.tasks.questions import load_domains
from tests.unit.generation import vllm_stand_in
from tests.unit.students.tiny_models import make_model, make_tokenizer, save_model

ENDS, PAD = tuple(range(224, 257)), 256
"""Many tokens end a turn, so that some responses of few tokens do."""
BEGINNING = tuple(range(40, 60))
PROMPTS = ((5, 6, 7), (9,), (3, 4, 5, 6, 7, 8, 9, 10), (20, 21), (*BEGINNING, 1), (*BEGINNING, 2, 3, 4), (*BEGINNING, 1), (9, 8))
"""Of unequal length, some alike, some with the same beginning, one of a single token."""


@dataclass(frozen=True)
class Case:
    """An engine, the model whose weights it samples from, and what it promises besides."""

    engine: Engine
    model: PreTrainedModel
    end_ids: tuple[int, ...] = ENDS
    prompts: Sequence[Sequence[int]] = PROMPTS
    told_at: tuple[float, ...] = (0.0, 0.7, 1.0)
    """Temperatures at which it tells log-probabilities."""
    tells_nucleus: bool = True
    """Whether it does so where there is a nucleus too."""
    keeps_seeds: bool = True

    def __call__(self, params: SamplingParams, *, seed: int = 0, batch_size: int = 8) -> list[list[Generation]]:
        return self.engine.generate(self.prompts, params, seed=seed, batch_size=batch_size)


def here() -> Iterator[Case]:
    model = make_model("qwen3")
    yield Case(TransformersEngine(model, end_ids=ENDS, pad_id=PAD), model)


def vllm_in_process() -> Iterator[Case]:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        vllm_stand_in.install(patch)
        model = make_model("qwen3", seed=1)
        ref = str(save_model(Path(folder)))
        yield Case(VllmEngine(model, ref, end_ids=ENDS, memory_fraction=0.3, longest=64, sequences=8), model, tells_nucleus=False)


def server_of_token_ids() -> Iterator[Case]:
    model = make_model("qwen3")
    local, one_at_a_time = TransformersEngine(model, end_ids=ENDS, pad_id=PAD), threading.Lock()

    def answer(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        params = SamplingParams(asked["max_tokens"], asked["temperature"], asked["top_p"])
        with one_at_a_time:
            ((made,),) = local.generate([asked["prompt"]], params, seed=asked["seed"], batch_size=1)
        choice = {
            "text": "",
            "token_ids": made.token_ids,
            "logprobs": {"token_logprobs": made.log_probs},
            "finish_reason": "stop" if made.finished else "length",
        }
        return httpx.Response(200, json={"choices": [choice]})

    server = ServerConfig(url="http://server/v1", model="student")
    engine = ServerEngine(server, make_tokenizer(), end_ids=ENDS, transport=httpx.MockTransport(answer))
    yield Case(engine, model, told_at=(0.0, 1.0))


def transformers_serve() -> Iterator[Case]:
    from transformers.cli.serve import Serve

    folder = locate("demo:densities")
    student = load_student(folder, device=torch.device("cpu"), dtype=torch.float32)
    policy = Policy(student, batch_size=8)
    questions = [question for domain in load_domains(parse_config(load_preset("demo")).domains) for question in domain.train[:3]]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serving = Serve(folder, host="127.0.0.1", port=port, device="cpu", dtype="float32", log_level="error", non_blocking=True)
    try:
        server = ServerConfig(url=f"http://127.0.0.1:{port}/v1", model=folder)
        engine = ServerEngine(server, student.tokenizer, end_ids=policy.end_ids)
        prompts = [policy.question_prompt(question) for question in questions]
        yield Case(engine, student.model, tuple(policy.end_ids), prompts, told_at=(), keeps_seeds=False)
    finally:
        serving.kill_server()


@pytest.fixture(scope="module", params=[here, vllm_in_process, server_of_token_ids, transformers_serve], ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    yield from request.param()


def greedy(case: Case, prompt: Sequence[int], tokens: int) -> list[int]:
    ids, model = torch.tensor([list(prompt)]), case.model
    settings: dict[str, Any] = {"max_new_tokens": tokens, "do_sample": False, "eos_token_id": list(case.end_ids), "pad_token_id": PAD}
    made: list[int] = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0].tolist()  # type: ignore[operator]
    return made[len(prompt) :]


def tokens(made: list[list[Generation]]) -> list[tuple[int, ...]]:
    return [one.token_ids for group in made for one in group]


@pytest.mark.parametrize("batch_size", [3, 64])
def test_greedy_tokens_are_those_of_generate_in_the_prompts_order(case: Case, batch_size: int) -> None:
    made = case(SamplingParams(12, temperature=0), batch_size=batch_size)
    assert [list(one) for one in tokens(made)] == [greedy(case, prompt, 12) for prompt in case.prompts]


def test_every_prompt_gets_its_n_responses(case: Case) -> None:
    assert [len(group) for group in case(SamplingParams(3, n=3), batch_size=4)] == [3] * len(case.prompts)


@pytest.mark.parametrize("limit", [1, 24])
def test_a_response_ends_with_the_turn_or_at_the_limit(case: Case, limit: int) -> None:
    made = [one for group in case(SamplingParams(limit)) for one in group]
    for one in made:
        assert 1 <= len(one.token_ids) <= limit
        assert not set(one.token_ids[:-1]) & set(case.end_ids)
        assert one.finished == (one.token_ids[-1] in case.end_ids)
        assert one.finished or len(one.token_ids) == limit
    assert any(one.finished == (limit > 1) for one in made)


@pytest.mark.parametrize("top_p", [0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_log_probabilities_are_those_of_the_whole_softmax_at_the_temperature(case: Case, temperature: float, top_p: float) -> None:
    nucleus = top_p < 1 and temperature > 0
    for prompt, (one,) in zip(case.prompts, case(SamplingParams(6, temperature, top_p), seed=3), strict=True):
        if temperature not in case.told_at or (nucleus and not case.tells_nucleus):
            assert one.log_probs == ()
            continue
        logits = case.model(torch.tensor([[*prompt, *one.token_ids]])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits / (temperature or 1), dim=-1).gather(-1, torch.tensor(one.token_ids).unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(torch.tensor(one.log_probs), expected, atol=1e-4, rtol=1e-4)


def test_equal_seeds_give_equal_responses_and_others_do_not(case: Case) -> None:
    params = SamplingParams(8, temperature=2.0)
    first, other = case(params, seed=7), case(params, seed=1_000)
    assert tokens(first) != tokens(other)
    if case.keeps_seeds:
        assert tokens(first) == tokens(case(params, seed=7))


def test_no_prompt_gets_no_response(case: Case) -> None:
    assert case.engine.generate([], SamplingParams(5), seed=0, batch_size=8) == []
