"""Tiny random models of several families with a real byte-level tokenizer, made on the fly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
REFUSES_SYSTEM = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{% endfor %}" + CHATML
IGNORES_SYSTEM = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")

FAMILIES = ("qwen3", "llama", "gpt2", "gemma2")


def make_tokenizer(template: str | None = CHATML) -> PreTrainedTokenizerBase:
    """Byte-level BPE without merges: one token a byte, then the control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    wrap: Any = PreTrainedTokenizerFast
    tokenizer = cast(PreTrainedTokenizerBase, wrap(tokenizer_object=core, eos_token="<|endoftext|>"))
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL[1:3]})
    tokenizer.add_tokens(SPECIAL[3:])
    tokenizer.chat_template = template
    return tokenizer


def make_config(family: str, vocab_size: int = 288) -> PreTrainedConfig:
    common: dict[str, Any] = {"vocab_size": vocab_size, "bos_token_id": None, "eos_token_id": 256, "pad_token_id": 256}
    small: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
    }
    match family:
        case "qwen3":
            return Qwen3Config(**common, **small, head_dim=8, tie_word_embeddings=True)
        case "llama":
            return LlamaConfig(**common, **small)
        case "gemma2":
            return Gemma2Config(**common, **small, head_dim=8, query_pre_attn_scalar=8, sliding_window=64)
        case _:
            return GPT2Config(**common, n_embd=32, n_layer=2, n_head=4, n_positions=256)


def make_model(family: str = "qwen3", seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    build: Any = AutoModelForCausalLM.from_config
    return cast(PreTrainedModel, build(make_config(family)).eval())


def save_model(folder: Path, family: str = "qwen3", template: str | None = CHATML) -> Path:
    make_model(family).save_pretrained(folder)
    make_tokenizer(template).save_pretrained(folder)
    return folder
