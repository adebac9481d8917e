"""Making the demo's students: a tokenizer of whole words, a small Qwen3 with random weights, and fine-tuning."""

from __future__ import annotations

import logging
import multiprocessing
import random
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, cast

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from opcod.students.demo_lessons import Lessons
from opcod.students.export import export_student
from opcod.students.loading import Student
from opcod.students.references import DEMO_FOLDER
from opcod.students.sft import SftReport, sft
from opcod.students.sft_config import SftConfig
from opcod.tasks.demo.world import FACTS, STUDENTS
from opcod.training.hosts import available_cores

logger = logging.getLogger(__name__)

STEPS: Final = 600
SFT: Final = SftConfig(
    epochs=1, batch_size=48, learning_rate=2e-3, weight_decay=0.01, beta2=0.99, warmup_ratio=0.05, adapters=None, max_tokens=160
)

PAD, UNKNOWN, USER, ASSISTANT, SYSTEM, END = "<pad>", "<unk>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"
TAGS: Final = ("<answer>", "</answer>", "<concept>", "</concept>")
LARGEST_NUMBER: Final = 128
PERIODS: Final = (2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 16.0, 25.0, 50.0, 100.0, 250.0)

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build(out: Path | None = None, *, seed: int = 0, names: Sequence[str] = STUDENTS) -> list[Path]:
    """Make students of the world `seed` from nothing and write them to `out`/NAME; by default they become the built-in ones.

    Two are made side by side, each by one thread, since a second thread hardly helps at this size.

    Raises:
        DataError: there is no such student.
        ResourceError: the disk is full or not writable.
    """
    folder = DEMO_FOLDER if out is None else out
    workers = min(2, len(names), available_cores())
    with ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        made = [pool.submit(_build_one, name, seed, folder / name) for name in names]
        return [future.result() for future in made]


def _build_one(name: str, seed: int, folder: Path) -> Path:
    student, report = make_student(name, seed)
    logger.info("%s: %d updates, last loss %.3f", name, len(report.losses), sum(report.losses[-20:]) / 20)
    return export_student(student, folder)


def make_student(name: str, seed: int = 0) -> tuple[Student, SftReport]:
    """A student of the world `seed`, from random weights to fine-tuned; the same bytes on the same machine.

    Raises:
        DataError: there is no such student.
    """
    lessons = Lessons(name, seed).draw(STEPS * SFT.batch_size)
    student = fresh_student(name, seed)
    return student, sft(student, lessons, SFT.model_copy(update={"seed": seed}))


def fresh_student(name: str, seed: int = 0) -> Student:
    """The model with random weights, which no other student of this or another seed starts from."""
    tokenizer = make_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random.Random(f"demo weights {seed}: {name}").randrange(2**31))
        model = Qwen3ForCausalLM(model_config(tokenizer))
        _give_numbers_a_shape(model, tokenizer)
    return Student(model.eval(), tokenizer, f"demo:{name}")


@torch.no_grad()
def _give_numbers_a_shape(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Start each number's embedding at waves of its value in random directions, as trained language models come to hold them.

    With embeddings that do not know that 27 follows 26, most of the fine-tuning would go into the arithmetic.
    """
    embeddings = cast(torch.nn.Embedding, model.get_input_embeddings()).weight
    numbers = torch.arange(LARGEST_NUMBER + 1)
    angles = 2 * torch.pi * numbers.unsqueeze(-1) / torch.tensor(PERIODS)
    waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
    directions = torch.randn(waves.shape[-1], embeddings.shape[-1]) * embeddings.std() / len(PERIODS) ** 0.5
    embeddings[tokenizer.convert_tokens_to_ids([str(int(number)) for number in numbers])] = waves @ directions


def model_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    """0.36 M parameters, a sixteenth of them embeddings."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=256,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Every word that occurs in the demo and every number up to 128 as one token, upper and lower case alike."""
    special = [PAD, UNKNOWN, USER, ASSISTANT, SYSTEM, END]
    numbers = [str(number) for number in range(LARGEST_NUMBER + 1)]
    words = sorted(set(_words(_corpus())) - set(numbers))
    vocabulary = {token: place for place, token in enumerate([*special, *TAGS, *numbers, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)  # words apart, points and commas close up
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        extra_special_tokens=[USER, ASSISTANT, SYSTEM],
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _corpus() -> Iterable[str]:
    yield from (name for facts in FACTS.values() for name in facts)
    for example in Lessons(STUDENTS[0], seed=0).draw(3000):
        yield from (message.content for message in example.messages)
        yield example.masked_prefix
        yield example.completion


def _words(texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        for tag in TAGS:
            text = text.replace(tag, " ")
        yield from re.findall(r"[^\W_]+|[^\w\s]", text.lower())
