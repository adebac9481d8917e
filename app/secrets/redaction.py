"""Keeps secrets out of what is written for people to read: logs, errors of runs, error pages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TextIO, cast

MASK = "[secret]"
SHORTEST = 8
"""Shorter words are too common to be struck out wherever they stand."""
VARIABLES = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "OPCOD_SECRET_KEY",
    "OPCOD_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "POSTGRES_PASSWORD",
    "PGPASSWORD",
    "REDISCLI_AUTH",
)
"""Environment variables that hold nothing but a secret."""

_SHAPES = re.compile(
    r"""
      (?P<address>://[^\s/:@'"]*:)[^\s/@'"]+(?=@)            # the password in an address
    | (?P<sent>\b(?:authorization|x-api-key|cookie|set-cookie)\b['"]?\s*[:=]\s*['"]?(?:bearer\s+|basic\s+)?)[^\s'",;]+
    | (?P<parameter>[?&](?:token|access_token|signature|x-amz-signature|x-amz-credential|x-amz-security-token|sig|key)=)[^\s&'"]+
    | (?P<link>/links/)[\w-]{20,}
    | \b(?:opcod|hf|whsec|ghp|sk)_[A-Za-z0-9_-]{16,}
    """,
    re.VERBOSE | re.IGNORECASE,
)
_known: set[str] = set()
_values: re.Pattern[str] | None = None


def know(values: Iterable[str | None]) -> None:
    """Strike out these values from now on, in this process."""
    global _values
    _known.update(value for value in values if value and len(value) >= SHORTEST)
    _values = re.compile("|".join(re.escape(value) for value in sorted(_known, key=len, reverse=True))) if _known else None


def know_environment() -> None:
    """Strike out the secrets that the environment holds."""
    know(os.environ.get(name) for name in VARIABLES)


def redact(text: str) -> str:
    """The text with secrets struck out: those that are known, and what has the shape of one."""
    if _values is not None:
        text = _values.sub(MASK, text)
    return _SHAPES.sub(lambda match: (match["address"] or match["sent"] or match["parameter"] or match["link"] or "") + MASK, text)


class _RedactedStream:
    """Line by line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._rest = stream, ""

    def write(self, text: str) -> int:
        self._rest += text
        lines, newline, self._rest = self._rest.rpartition("\n")
        if not newline and "\r" in self._rest:  # a progress bar
            lines, newline, self._rest = self._rest.rpartition("\r")
        if newline:
            self._stream.write(redact(lines) + newline)
        return len(text)

    def flush(self) -> None:
        if self._rest:
            self._stream.write(redact(self._rest))
            self._rest = ""
        self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def redacted(stream: TextIO) -> TextIO:
    """`stream` with secrets struck out, for what libraries print past our logging."""
    return cast(TextIO, _RedactedStream(stream))


know_environment()
