"""One interface for sampling text, whatever engine does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample. `temperature` 0 is greedy; `n` responses a prompt."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    n: int = 1


@dataclass(frozen=True, slots=True)
class Generation:
    """One sampled response.

    `token_ids` include the end-of-turn token when there is one; `log_probs` are each token's
    log-probability under the whole softmax at the sampling temperature (nats), before any nucleus, and
    empty where a server does not tell them;
    `finished` is False when the length limit cut the response.
    """

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finished: bool


class Engine(Protocol):
    """Samples from one model."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        seed: int,
        batch_size: int,
        share: Sequence[int] | None = None,
    ) -> list[list[Generation]]:
        """`params.n` responses to each prompt, in the prompts' order; equal seeds give equal responses.

        With `share`, to the prompts in these places alone, in their order: the very ones that they would get among all.

        At most `batch_size` responses are generated together (but always all n of one prompt).
        """
