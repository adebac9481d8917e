"""Between messages and tokens: prompts through a tokenizer's own chat template, and the tokens that end a turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

from jinja2.exceptions import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opcod.errors import ModelError
from opcod.types import Message


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Token ids of a chat up to and including the header of the assistant's turn, unpadded.

    Raises:
        ModelError: the tokenizer's chat template cannot be rendered.
    """
    return _rendered_ids(tokenizer, prompt_text(tokenizer, messages))


def prompt_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str:
    """The text that `prompt_ids` encodes, special tokens written out.

    Thinking is off where the template knows the switch. Contents are neutralised first (see
    `neutralise`). A template that refuses or ignores the system turn gets it at the head of the first
    user turn; a tokenizer without a template gets a plain one, for base models.

    Raises:
        ModelError: the tokenizer's chat template cannot be rendered.
    """
    chat = [Message(message.role, neutralise(tokenizer, message.content)) for message in messages]
    if not tokenizer.chat_template:
        return _plain(chat)
    system = chat[0].content.strip() if chat and chat[0].role == "system" else ""
    try:
        text = _render(tokenizer, chat)
    except TemplateError as error:
        if not system:
            raise ModelError(f"The tokenizer's chat template cannot be rendered: {error}.", advice="Mend `chat_template`.") from error
        return _render(tokenizer, _folded(chat))
    return text if system in text else _render(tokenizer, _folded(chat))


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of plain text, neutralised, with no token added at either end."""
    return _encode(tokenizer, neutralise(tokenizer, text))


def end_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that end an assistant's turn: sampling one stops the response, and the loss includes it.

    The first is the one that the chat template writes after an assistant's turn, which is what fine-tuning teaches; then
    the tokenizer's end of sequence and those of the model's generation settings.

    Raises:
        ModelError: there is no such token.
    """
    settings = (getattr(model, "generation_config", None), model.config)
    found = [_turn_end(tokenizer), tokenizer.eos_token_id]
    for owner in settings:
        ids = getattr(owner, "eos_token_id", None)
        found += ids if isinstance(ids, list | tuple) else [ids]
    ends = list(dict.fromkeys(int(token) for token in found if token is not None))
    if not ends:
        raise ModelError("The model has no token that ends a response.", advice="Set `eos_token` in its tokenizer_config.json.")
    return ends


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Text of token ids without special tokens, spaces as sampled."""
    return cast(str, tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def neutralise(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Break every control token that `text` spells, so that a model's words cannot open or close a turn.

    A space goes in after the token's first character: ``<|im_end|>`` becomes ``< |im_end|>``. Control
    tokens are the tokenizer's special tokens and the added tokens that its chat template writes.
    """
    pattern = _pattern(_control_tokens(tokenizer))
    return pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}" if len(match[0]) > 1 else " ", text) if pattern else text


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    added = tokenizer.added_tokens_decoder.values()
    control = {str(token) for token in added if token.special or (str(token) in template and not str(token).isspace())}
    control |= {str(token) for token in tokenizer.all_special_tokens}
    return tuple(sorted(control, key=lambda token: (-len(token), token)))


@lru_cache(maxsize=32)
def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(re.escape(token) for token in tokens)) if tokens else None


def _render(tokenizer: PreTrainedTokenizerBase, chat: Sequence[Message], generation_prompt: bool = True) -> str:
    turns = [{"role": message.role, "content": message.content} for message in chat]
    return cast(str, tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation_prompt, enable_thinking=False))


def _folded(chat: Sequence[Message]) -> list[Message]:
    """The system turn put at the head of the first user turn."""
    system, first, *rest = chat
    return [Message(first.role, f"{system.content.strip()}\n\n{first.content}"), *rest]


def _plain(chat: Sequence[Message]) -> str:
    names = {"system": "", "user": "User: ", "assistant": "Assistant: "}
    return "".join(f"{names[message.role]}{message.content.strip()}\n\n" for message in chat) + "Assistant:"


def _rendered_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids = _encode(tokenizer, text)
    if tokenizer.chat_template or tokenizer.bos_token_id is None:
        return ids  # a template writes its own beginning of sequence
    starts_with_bos = cast(Any, tokenizer("a"))["input_ids"][:1] == [tokenizer.bos_token_id]
    return [tokenizer.bos_token_id, *ids] if starts_with_bos else ids


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(cast(Any, tokenizer(text, add_special_tokens=False))["input_ids"])


def _turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The first control token that the template writes after an assistant's words."""
    if not tokenizer.chat_template:
        return None
    words = "ordinary words"
    try:
        text = _render(tokenizer, [Message("user", "question"), Message("assistant", words)], generation_prompt=False)
    except TemplateError:
        return None
    control = {tokenizer.convert_tokens_to_ids(token) for token in _control_tokens(tokenizer)}
    return next((token for token in _encode(tokenizer, text.rpartition(words)[2]) if token in control), None)
