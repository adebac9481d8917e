"""The text of single tokens, as it stands in the midst of others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

from transformers import PreTrainedTokenizerBase

BROKEN = "\ufffd"
"""What a decoder writes for bytes that are no whole character."""
LONGEST_CHARACTER = 16
"""So many tokens in a row may make up one character; more are bytes that never become one."""


class TokenPieces:
    """Cuts a response into the texts of its tokens, special tokens written out."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.of = lru_cache(maxsize=65_536)(self._of)

    def split(self, ids: Sequence[int]) -> list[str]:
        """One text a token. A character of several tokens stands with the last of them, the others are empty."""
        texts = [*map(self.of, ids)]
        if BROKEN not in "".join(texts):
            return texts
        start = 0
        while start < len(texts):
            end = self._end_of_character(texts, ids, start)
            if end - start > 1:
                texts[start:end] = [*[""] * (end - start - 1), self._decode(ids[start:end])]
            start = end
        return texts

    def _end_of_character(self, texts: Sequence[str], ids: Sequence[int], start: int) -> int:
        """Where the token at `start` ends, or the character that begins with it."""
        if BROKEN in texts[start]:
            for end in range(start + 2, min(start + LONGEST_CHARACTER, len(texts)) + 1):
                if BROKEN not in texts[end - 1]:
                    break
                if BROKEN not in self._decode(ids[start:end]):
                    return end
        return start + 1

    def _of(self, token: int) -> str:
        """What the token adds behind itself: many decoders leave out a space, or a mark of continuation, at the beginning."""
        alone, twice = self._decode([token]), self._decode([token, token])
        return twice[len(alone) :] if twice.startswith(alone) else alone

    def _decode(self, ids: Sequence[int]) -> str:
        return cast(str, self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
