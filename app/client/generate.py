"""Writes the blocking client from the awaiting one, so that the two can't drift apart: `python -m app.client.generate`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("asynchronous.py")
TARGET = Path(__file__).with_name("synchronous.py")

_REPLACED = (
    (r"\bAsyncClient\b", "Client"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bhttpx\.AsyncClient\b", "httpx.Client"),
    (r"\bAsyncBaseTransport\b", "BaseTransport"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\baclose\b", "close"),
    (r"\b(aread|aiter_lines|aiter_bytes)\b", lambda match: match.group().removeprefix("a")),
    (r"\banyio\.sleep\b", "time.sleep"),
    (r"^import anyio\n", ""),
)


def blocking(source: str) -> str:
    """The awaiting client's text as a blocking one's, formatted (which takes ruff)."""
    for pattern, replacement in _REPLACED:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    _, _, body = source.partition("\n")
    text = '"""The client that blocks. Made from `asynchronous.py` by `python -m app.client.generate`; change that one."""\n' + body
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=TARGET.parents[2]).stdout


if __name__ == "__main__":
    TARGET.write_text(blocking(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
