"""Sampling from a server that speaks OpenAI's completions: for weights that do not change.

Prompts go as token ids, which vLLM and llama.cpp take, so that not a space can differ. `transformers serve` takes text alone:
it gets the text if that stands for the same tokens, with the whole sampler spelled out, since its own defaults would do otherwise.
One request is one response. Keys stand in the environment, each for one host, so that no configuration can send one elsewhere.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
from transformers import PreTrainedTokenizerBase

from opcod.config import ServerConfig
from opcod.errors import ServerError
from opcod.generation.base import Generation, SamplingParams
from opcod.plain_text import bounded

KEYS = "OPCOD_SERVER_KEYS"
"""Environment variable: `host:port=key` for each server that wants one, with spaces between them; `host=key` for its usual port."""
REQUESTS_AT_ONCE = 64
ATTEMPTS = 5
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
TIMEOUT = httpx.Timeout(600.0, connect=10.0)
"""A response may wait for others and be long."""
LONGEST_ANSWER_BYTES = 16 * 2**20
SEEDS = 2**31
TEXT_ONLY = ("must be a string", "Unexpected fields")
"""How `transformers serve` refuses token ids."""


class ServerEngine:
    """Samples from the server's copy of a student. `field` is the configuration entry that errors point at.

    Equal seeds give equal responses as far as the server keeps its promises about seeds.
    """

    def __init__(
        self,
        server: ServerConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        end_ids: Sequence[int],
        field: str | None = None,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server, self.tokenizer, self.end_ids, self.field = server, tokenizer, tuple(end_ids), field
        self.transport, self.pause = transport, pause
        self.takes_ids = True

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        seed: int,
        batch_size: int,
        share: Sequence[int] | None = None,
    ) -> list[list[Generation]]:
        """See `opcod.generation.base.Engine`; at most `batch_size` requests are under way, and never more than `REQUESTS_AT_ONCE`.

        Raises:
            ServerError: the server cannot be reached, does not know the model, or cannot take a prompt.
        """
        places = range(len(prompts)) if share is None else share
        if not places:
            return []
        numbers = [place * params.n + index for place in places for index in range(params.n)]
        jobs = [(prompts[number // params.n], (seed + number) % SEEDS) for number in numbers]
        key = _key(self.server.url)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with (
            httpx.Client(timeout=TIMEOUT, headers=headers, trust_env=False, follow_redirects=False, transport=self.transport) as client,
            ThreadPoolExecutor(min(batch_size, REQUESTS_AT_ONCE)) as pool,
        ):
            first = self._ask(client, *jobs[0], params)  # finds out how the server wants its prompts
            futures = [pool.submit(self._ask, client, *job, params) for job in jobs[1:]]
            try:
                made = [first, *(future.result() for future in futures)]
            finally:
                pool.shutdown(cancel_futures=True)
        return [made[start : start + params.n] for start in range(0, len(made), params.n)]

    def _ask(self, client: httpx.Client, prompt: Sequence[int], seed: int, params: SamplingParams) -> Generation:
        if self.takes_ids:
            status, body = self._post(client, self._with_ids(prompt, seed, params))
            self.takes_ids = status not in (400, 422) or not any(words in body for words in TEXT_ONLY)
        if not self.takes_ids:
            status, body = self._post(client, self._with_text(prompt, seed, params))
        if status != 200:
            raise self._refusal(status, body)
        try:
            (choice,) = json.loads(body)["choices"]
            return self._generation(choice, params)
        except (ValueError, KeyError, TypeError):
            advice = "See that the address ends in /v1 and names no other service."
            raise self._error("does not answer as OpenAI's completions do", advice) from None

    def _with_ids(self, prompt: Sequence[int], seed: int, params: SamplingParams) -> dict[str, Any]:
        # All that a server would otherwise fill in from its own or the model's defaults is said.
        return {
            "model": self.server.model,
            "prompt": list(prompt),
            "max_tokens": params.max_new_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "seed": seed,
            "stop_token_ids": list(self.end_ids),
            "return_token_ids": True,
            "logprobs": 1,
        }

    def _with_text(self, prompt: Sequence[int], seed: int, params: SamplingParams) -> dict[str, Any]:
        text = self.tokenizer.decode(list(prompt), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        read: Any = self.tokenizer(text)
        if list(read["input_ids"]) != list(prompt):
            raise self._error("takes prompts as text only, and this student's prompts cannot be sent as text", "Use vLLM or llama.cpp.")
        sampler = {"do_sample": params.temperature > 0, "top_k": 0, "eos_token_id": list(self.end_ids), "pad_token_id": self.end_ids[0]}
        if params.temperature > 0:
            sampler |= {"temperature": params.temperature, "top_p": params.top_p}
        else:
            sampler.pop("top_k")
        sampler["max_new_tokens"] = params.max_new_tokens
        return {"model": self.server.model, "prompt": text, "seed": seed, "generation_config": json.dumps(sampler)}

    def _generation(self, choice: dict[str, Any], params: SamplingParams) -> Generation:
        finished = choice["finish_reason"] == "stop"
        ids = choice.get("token_ids")
        if ids is None:  # the tokens of the text, which need not be those that were sampled
            read: Any = self.tokenizer(choice["text"], add_special_tokens=False)
            ids = read["input_ids"][: params.max_new_tokens - finished]
        if finished and (not ids or ids[-1] not in self.end_ids):
            ids = [*ids, self.end_ids[0]]
        told = (choice.get("logprobs") or {}).get("token_logprobs") or ()
        # Servers tell log-probabilities before the temperature.
        kept = params.temperature in (0, 1) and len(told) == len(ids) and None not in told
        return Generation(tuple(map(int, ids)), tuple(map(float, told)) if kept else (), finished)

    def _post(self, client: httpx.Client, content: dict[str, Any]) -> tuple[int, str]:
        """Status and text of the answer; tried again while the server is away or busy, each time after twice the pause."""
        said = ""
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(ATTEMPTS):
            if attempt:
                self.pause(min(pause, LONGEST_PAUSE_SECONDS))
                pause *= 2
            try:
                with client.stream("POST", f"{self.server.url}/completions", json=content) as answer:
                    text = self._text(answer)
            except httpx.TransportError as error:
                said = str(error) or type(error).__name__
                continue
            if answer.status_code != 429 and answer.status_code < 500:
                return answer.status_code, text
            said = f"status {answer.status_code}: {bounded(text, 300)}"
            pause = max(pause, _asked_to_wait(answer))
        raise self._error(
            f"did not answer in {ATTEMPTS} attempts ({said})", "See that it runs and can be reached from the worker's machine."
        )

    def _text(self, answer: httpx.Response) -> str:
        found = bytearray()
        for part in answer.iter_bytes():
            found += part
            if len(found) > LONGEST_ANSWER_BYTES:
                raise self._error("sends more than any response can hold", "See that the address is right.")
        return found.decode("utf-8", "replace")

    def _refusal(self, status: int, body: str) -> ServerError:
        said = f"refused (status {status}: {bounded(body, 300)})"
        if status in (401, 403):
            return self._error(said, f"Give the worker its key in the environment: {KEYS}={_host(self.server.url)}=KEY.")
        if status == 404 or "does not exist" in body or "not found" in body:
            return self._error(said, f"See what it calls the student, at {self.server.url}/models, and that the address ends in /v1.")
        if any(word in body.lower() for word in ("context", "too long", "maximum", "exceed")):
            return self._error(said, "Start it with room for the longest prompt and response, or lower the limits of tokens.")
        return self._error(said, "See its log.")

    def _error(self, what: str, advice: str) -> ServerError:
        return ServerError(f"The server {self.server.url} of {self.server.model!r} {what}.", advice=advice, field=self.field)


def _host(url: str) -> str:
    return urlsplit(url).netloc.lower()


def _key(url: str) -> str | None:
    """The key that the environment has for the host of `url`."""
    pairs = (entry.partition("=") for entry in os.environ.get(KEYS, "").split())
    return next((key for host, _, key in pairs if host.lower() == _host(url) and key), None)


def _asked_to_wait(answer: httpx.Response) -> float:
    """Seconds of `Retry-After`, where it gives some."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else 0.0
