"""Tables that stand in documents, exchanged where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path


def put_table(document: Path, head: str, table: Sequence[str]) -> None:
    """Exchange the table whose first line begins with `head`.

    Raises:
        StopIteration: there is none.
    """
    lines = document.read_text(encoding="utf-8").splitlines()
    begin = next(place for place, line in enumerate(lines) if line.startswith(head))
    length = len(list(takewhile(lambda line: line.startswith("|"), lines[begin:])))
    lines[begin : begin + length] = table
    document.write_text("\n".join(lines) + "\n", encoding="utf-8")
