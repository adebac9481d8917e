"""Types of what people send: names of one printable line, which stay in their place on a page, in a terminal and in a log; plain data."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, StringConstraints

from opcod.config import MAX_DEPTH, one_printable_line

PATTERN = r"^[^\x00-\x1f\x7f-\x9f]+$"
"""As near as a JSON schema comes to what `one_printable_line` asks."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PATTERN), AfterValidator(one_printable_line)]
"""Of a run or an experiment."""
SweepName = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=PATTERN), AfterValidator(one_printable_line)]
"""Of a sweep; its runs' names begin with it."""
Tag = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=PATTERN), AfterValidator(one_printable_line)
]


def _plain(value: Any) -> Any:
    """JSON can be nested deeper than what walks through it bears, and spell half a surrogate pair, which can be neither stored nor sent."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [below for one in level for below in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())]
    if level:
        raise ValueError(f"is nested more than {MAX_DEPTH} levels deep")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair, which is no text") from None
    return value


Settings = Annotated[dict[str, Any], AfterValidator(_plain)]
"""Part of a configuration, still to be judged."""
Grid = Annotated[dict[str, list[Any]], AfterValidator(_plain)]
"""Dotted path -> values."""
