"""A server is asked exactly, patiently and with its own key alone, and what it refuses is told to people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from opcod.config import ServerConfig
from opcod.errors import ServerError
from opcod.generation.base import SamplingParams
from opcod.generation.server import ATTEMPTS, KEYS, ServerEngine
from tests.unit.students.tiny_models import make_tokenizer

GOOD = {"choices": [{"text": "ab", "token_ids": [64, 65], "finish_reason": "length"}]}
Answer = Callable[[httpx.Request], httpx.Response]


def ask(answer: Answer, *, url: str = "http://server:8000/v1", pauses: list[float] | None = None) -> list[tuple[int, ...]]:
    waited = pauses if pauses is not None else []
    engine = ServerEngine(
        ServerConfig(url=url, model="student"),
        make_tokenizer(),
        end_ids=(256,),
        field="students.0.server",
        transport=httpx.MockTransport(answer),
        pause=waited.append,
    )
    return [one.token_ids for (one,) in engine.generate([[5, 6], [7]], SamplingParams(4), seed=1, batch_size=4)]


def refused(answer: Answer) -> ServerError:
    with pytest.raises(ServerError) as caught:
        ask(answer)
    assert caught.value.field == "students.0.server"
    return caught.value


def test_it_tries_again_while_the_server_is_away_or_busy() -> None:
    answers: Iterator[httpx.Response | Exception] = iter(
        [httpx.Response(503), httpx.ConnectError("refused"), httpx.Response(429, headers={"retry-after": "7"})]
    )
    pauses: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        found = next(answers, httpx.Response(200, json=GOOD))
        if isinstance(found, Exception):
            raise found
        return found

    assert ask(answer, pauses=pauses) == [(64, 65), (64, 65)]
    assert pauses == [0.5, 1.0, 7.0]


def test_it_gives_up_on_a_server_that_stays_away() -> None:
    calls = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise httpx.ConnectError("connection refused")

    error = refused(answer)
    assert len(calls) == ATTEMPTS
    assert "connection refused" in error.message
    assert "can be reached" in error.advice


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (404, "The model `student` does not exist.", "http://server:8000/v1/models"),
        (400, "This model's maximum context length is 4096 tokens", "longest prompt"),
        (401, "no key", KEYS),
        (302, "", "log"),
        (200, "<html>", "ends in /v1"),
        (200, '{"choices": []}', "ends in /v1"),
    ],
)
def test_a_refusal_says_what_to_do(status: int, body: str, advice: str) -> None:
    error = refused(lambda request: httpx.Response(status, text=body, headers={"location": "http://elsewhere/"}))
    assert advice in error.advice
    assert "http://server:8000/v1" in error.message


def test_a_key_goes_to_its_own_server_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS, "other=wrong server:8000=right")
    seen: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json=GOOD)

    ask(answer)
    ask(answer, url="http://elsewhere:8000/v1")
    assert set(seen) == {"Bearer right", None}
    assert seen.count("Bearer right") == 2


def test_nothing_of_the_sampler_is_left_to_the_servers_defaults() -> None:
    asked: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return httpx.Response(200, json=GOOD)

    ask(answer)
    assert sorted(one["prompt"] for one in asked) == [[5, 6], [7]]
    assert {one["seed"] for one in asked} == {1, 2}
    wanted = {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "stop_token_ids": [256],
        "max_tokens": 4,
    }
    assert all(one | wanted == one for one in asked)


def test_a_server_of_text_alone_gets_the_text_of_the_very_tokens() -> None:
    tokenizer: Any = make_tokenizer()
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        content = json.loads(request.content)
        if "generation_config" not in content:
            return httpx.Response(422, text='{"detail": "Unexpected fields in the request: return_token_ids"}')
        asked.append(content["prompt"])
        return httpx.Response(200, json={"choices": [{"text": "ab", "finish_reason": "stop"}]})

    a, b = tokenizer("ab", add_special_tokens=False)["input_ids"]
    assert ask(answer) == [(a, b, 256)] * 2
    assert sorted(asked) == sorted(tokenizer.decode(prompt) for prompt in ([5, 6], [7]))
    tokenizer_of_text = ServerEngine(
        ServerConfig(url="http://server/v1", model="student"), tokenizer, end_ids=(256,), transport=httpx.MockTransport(answer)
    )
    with pytest.raises(ServerError, match="cannot be sent as text"):  # half of a letter
        tokenizer_of_text.generate([tokenizer("é")["input_ids"][:1]], SamplingParams(4), seed=0, batch_size=1)
