"""Supervised fine-tuning: the next-token loss on written answers (paper Appendix D.1), full or with LoRA.

It makes the specialists that OPCoD starts from. Batches hold answers of similar length, logits are computed
for the answer's tokens alone, and equal seeds give equal weights on the same machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opcod.distillation.scoring import length_groups, pad, response_logits
from opcod.errors import DataError, NumericsError
from opcod.students.chat import end_token_ids, prompt_ids, text_ids
from opcod.students.loading import Student
from opcod.students.lora import add_adapters, is_adapted
from opcod.students.sft_config import SftConfig
from opcod.types import Message

POOL_BATCHES = 32
"""Examples are sorted by length within pools of this many batches, so that batches differ from epoch to epoch."""


@dataclass(frozen=True, slots=True)
class SftExample:
    """A prompt and its answer. `masked_prefix` opens the answer and is read, not learned: a wrong start to be carried on from."""

    messages: tuple[Message, ...]
    completion: str
    masked_prefix: str = ""


@dataclass(frozen=True, slots=True)
class SftReport:
    """`losses` has the mean of each update, in nats per learned token; `skipped` counts examples longer than `max_tokens`."""

    losses: tuple[float, ...]
    examples: int
    skipped: int
    learned_tokens: int


@dataclass(frozen=True, slots=True)
class _Row:
    prompt: list[int]
    response: list[int]
    masked: int

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.response)


def sft(
    student: Student,
    examples: Sequence[SftExample],
    config: SftConfig,
    *,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> SftReport:
    """Train `student.model` in place.

    Adapters that `config` asks for are put on, trained and merged into the weights; a model that has adapters
    already is trained through them, and they stay. `on_step` is told (step from 1, steps, loss).

    Raises:
        DataError: no example, or none that fits into `max_tokens`.
        NumericsError: the loss or a gradient is not finite.
    """
    end = end_token_ids(student.model, student.tokenizer)[0]
    rows = [_tokenised(student.tokenizer, example, end) for example in examples]
    fitting = [row for row in rows if row.length <= config.max_tokens]
    if not fitting:
        found = f"all {len(rows)} are longer than {config.max_tokens} tokens" if rows else "there is none"
        raise DataError(f"No example can be trained on: {found}.", advice="Raise max_tokens, or give shorter examples.")
    with torch.random.fork_rng(devices=_cuda_devices(student.model)):
        torch.manual_seed(config.seed)
        fresh = config.adapters is not None and not is_adapted(student.model)
        model = add_adapters(student.model, config.adapters) if fresh and config.adapters else student.model
        losses = _train(model, fitting, config, student.tokenizer.pad_token_id, on_step)
        if fresh:
            cast(Any, model).merge_and_unload()  # into `student.model`, which the adapters were put around
            student.model.requires_grad_(True)
    student.model.eval()
    learned = config.epochs * sum(len(row.response) - row.masked for row in fitting)
    return SftReport(tuple(losses), len(fitting), len(rows) - len(fitting), learned)


def _tokenised(tokenizer: PreTrainedTokenizerBase, example: SftExample, end: int) -> _Row:
    prefix = text_ids(tokenizer, example.masked_prefix)
    return _Row(prompt_ids(tokenizer, example.messages), [*prefix, *text_ids(tokenizer, example.completion), end], len(prefix))


def _train(
    model: PreTrainedModel, rows: list[_Row], config: SftConfig, pad_id: int, on_step: Callable[[int, int, float], None]
) -> list[float]:
    parameters = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=(0.9, config.beta2), weight_decay=config.weight_decay, fused=True
    )
    steps = config.epochs * math.ceil(len(rows) / config.batch_size)
    losses: list[float] = []
    model.train()
    for step, batch in enumerate(_batches(rows, config), start=1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, config)
        optimizer.zero_grad()
        loss = _accumulate_gradients(model, batch, config, pad_id)
        norm = float(clip_grad_norm_(parameters, config.gradient_clip))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise NumericsError(
                f"Fine-tuning broke at step {step} of {steps}: loss {loss}, gradient norm {norm}.",
                advice="Lower the learning rate, or use float32.",
            )
        optimizer.step()
        losses.append(loss)
        on_step(step, steps, loss)
    return losses


def _batches(rows: list[_Row], config: SftConfig) -> Iterator[list[_Row]]:
    shuffled = list(rows)
    generator = random.Random(config.seed)
    pool_size = POOL_BATCHES * config.batch_size
    for _ in range(config.epochs):
        generator.shuffle(shuffled)
        pools = [sorted(shuffled[start : start + pool_size], key=lambda row: row.length) for start in range(0, len(rows), pool_size)]
        in_order = [row for pool in pools for row in pool]
        batches = [in_order[start : start + config.batch_size] for start in range(0, len(rows), config.batch_size)]
        generator.shuffle(batches)
        yield from batches


def learning_rate(step: int, steps: int, config: SftConfig) -> float:
    """The rate of update `step`, from 1: up along a line, then level or down along a cosine that would reach 0 one update later."""
    warmup = round(config.warmup_ratio * steps)
    if step <= warmup:
        return config.learning_rate * step / warmup
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup - 1) / (steps - warmup)))


def _accumulate_gradients(model: PreTrainedModel, batch: list[_Row], config: SftConfig, pad_id: int) -> float:
    """Gradients of the mean loss over the batch's learned tokens, micro-batch by micro-batch; returns that mean."""
    learned = sum(len(row.response) - row.masked for row in batch)
    total = 0.0
    groups = length_groups([len(row.prompt) for row in batch], [len(row.response) for row in batch], max_tokens=config.micro_batch_tokens)
    for group in groups:
        chosen = [batch[index] for index in group]
        padded = pad([row.prompt for row in chosen], [row.response for row in chosen], pad_id=pad_id, device=model.device)
        place = torch.arange(padded.responses.shape[1], device=model.device)
        masked = torch.tensor([row.masked for row in chosen], device=model.device)
        counted = padded.response_mask & (place >= masked.unsqueeze(-1))
        loss = cross_entropy(response_logits(model, padded)[counted].float(), padded.responses[counted], reduction="sum") / learned
        loss.backward()
        total += loss.item()
    return total


def _cuda_devices(model: PreTrainedModel) -> list[int]:
    return [model.device.index or 0] if model.device.type == "cuda" else []
