"""Text of people and models, made fit for where it goes: a terminal, a log, a database, an answer."""

from __future__ import annotations

import re

_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


def harmless(text: str, keep: str = "") -> str:
    r"""`text` for a terminal or a log: what is not printed is spelled out (``\x1b``), so that none of it takes effect.

    Line ends are spelled out too, unless they are in `keep`.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character in keep else repr(character)[1:-1] for character in text)


def storable(text: str) -> str:
    """`text` as every database and every encoder takes it: PostgreSQL refuses NUL, and UTF-8 has no lone surrogates."""
    return text if text.isascii() and "\x00" not in text else _NOT_STORABLE.sub("\ufffd", text)


def bounded(text: str, most: int) -> str:
    """`text` in at most `most` characters, saying how many it has where some had to go."""
    if len(text) <= most:
        return text
    note = f" … ({len(text):,} characters)"
    return text[: most - len(note)] + note


def folder_name(text: str) -> str:
    """`text` as the name of one folder, on any system: never a path, never hidden, never an option."""
    name = re.sub(r"[^\w.+=-]+", "-", text).strip("-.")[:80]
    return name or "unnamed"
