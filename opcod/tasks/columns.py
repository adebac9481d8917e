"""What stands in the columns of a file that somebody brings, and which of them are likely the prompt, the answer and so on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, get_args

from opcod.config import ColumnsConfig, VerifierConfig
from opcod.plain_text import storable
from opcod.tasks.sources import Row
from opcod.tasks.verifiers import check_answer

LOOKED_AT = 1_000
"""Rows that a guess rests on."""
MOST_SHOWN = 200
"""Columns that are told of."""
LONGEST_EXAMPLE = 200
LONGEST_NAME = 200
VerifierKind = Literal["multiple_choice", "number", "math", "exact"]

_NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "problem", "query", "input", "instruction", "text"),
    "answer": ("answer", "answerkey", "correctanswer", "finalanswer", "label", "target", "groundtruth", "output", "gold"),
    "id": ("id", "questionid", "qid", "uid", "key", "index", "idx"),
    "system": ("system", "systemprompt", "defaultsystem"),
    "solution": ("solution", "explanation", "rationale", "reasoning", "cot", "response"),
}
"""Role -> names that columns of public data sets have for it, the likeliest first; without case and marks."""


@dataclass(frozen=True, slots=True)
class ColumnSurvey:
    """One column of a file."""

    name: str
    kind: Literal["text", "number", "other"]
    """`other`: lists, objects, truth values, or several kinds; no question's part can be read from it."""
    filled: int
    """Rows in which something stands."""
    example: str
    """The first thing that stands in it, cut."""


def survey(rows: Sequence[Row]) -> tuple[ColumnSurvey, ...]:
    """The columns of rows, in the order in which they first occur; at most `MOST_SHOWN`, and none whose name is no text."""
    kinds: dict[str, set[str]] = {}
    filled: dict[str, int] = {}
    examples: dict[str, str] = {}
    for row in rows:
        for name, value in row.values.items():
            if name not in kinds:
                if len(kinds) == MOST_SHOWN or len(name) > LONGEST_NAME or name != storable(name):
                    continue
                kinds[name], filled[name] = set(), 0
            if value is None or value == "":
                continue
            kinds[name].add(_kind(value))
            filled[name] += 1
            examples.setdefault(name, storable(str(value)[:LONGEST_EXAMPLE]))
    return tuple(
        ColumnSurvey(name, "text" if "text" in found and "other" not in found else _only(found), filled[name], examples.get(name, ""))
        for name, found in kinds.items()
    )


def guess_columns(rows: Sequence[Row]) -> ColumnsConfig:
    """Which column likely holds what: by its name, else by what stands in it. Prompt and answer get one in any case."""
    columns = [column for column in survey(rows[:LOOKED_AT]) if column.kind != "other" and column.filled]
    found: dict[str, str | None] = {}
    for role, names in _NAMES.items():
        by_name = {_plain(column.name): column.name for column in reversed(columns) if column.name not in found.values()}
        found[role] = next((by_name[name] for name in names if name in by_name), None)
    free = [column.name for column in columns if column.name not in found.values()]
    lengths = {name: median(len(str(row.values.get(name) or "")) for row in rows[:LOOKED_AT]) for name in free}
    if found["prompt"] is None and free:
        longest = max(free, key=lambda name: lengths[name])
        free.remove(longest)
        found["prompt"] = longest
    if found["answer"] is None and free:
        found["answer"] = min(free, key=lambda name: lengths[name])
    return ColumnsConfig.model_validate(found | {role: found[role] or role for role in ("prompt", "answer")})


def guess_verifier(rows: Sequence[Row], answer: str) -> VerifierKind:
    """The narrowest kind that can use every answer that stands in column `answer`, mathematics only where it shows."""
    answers = [str(row.values[answer]) for row in rows[:LOOKED_AT] if row.values.get(answer) not in (None, "")]
    if any(re.search(r"\\(boxed|frac|sqrt)\b", text) for text in answers):
        return "math"
    for kind in get_args(VerifierKind):
        if kind != "math" and answers and all(check_answer(VerifierConfig(kind=kind), text) is None for text in answers):
            return kind  # type: ignore[no-any-return]
    return "exact" if answers else "multiple_choice"


def _kind(value: Any) -> Literal["text", "number", "other"]:
    if isinstance(value, bool):
        return "other"
    return "text" if isinstance(value, str) else "number" if isinstance(value, int | float) else "other"


def _only(found: set[str]) -> Literal["number", "other"]:
    return "number" if found == {"number"} else "other"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()
