"""The demo's questions, split so that each fact stands in every split with other numbers."""

from __future__ import annotations

import random
import re
from functools import lru_cache
from typing import Final

from opcod.errors import DataError
from opcod.tasks.demo.language import Operation, Problem
from opcod.tasks.demo.world import FACTS
from opcod.types import Question, Split

FORMS: Final[tuple[tuple[Operation, int], ...]] = (
    *(("+", operand) for operand in range(1, 7)),
    *(("-", operand) for operand in range(1, 7)),
    ("×", 2),
    ("×", 3),
)
"""What is asked of each fact."""

TEST_FORMS: Final = 3
VALIDATION_FORMS: Final = 2

_WORDS: Final = {"+": "plus", "-": "minus", "×": "times"}


def demo_questions(domain: str, split: Split, seed: int = 0) -> tuple[Question, ...]:
    """Questions of `densities` or `protons`: per fact 3 for test, 2 for validation, 9 for training.

    `seed` draws the split; `densities@3` names the domain in the world of seed 3, whatever `seed` says.

    Raises:
        DataError: the domain, its seed or the split does not exist.
    """
    named = re.fullmatch(r"([a-z]+)(?:@(\d{1,9}))?", domain)
    if named is None or named.group(1) not in FACTS:
        raise DataError(f"The demo has no domain {domain!r}.", advice=f"Choose one of {', '.join(FACTS)}, or {next(iter(FACTS))}@SEED.")
    if split not in ("train", "validation", "test"):
        raise DataError(f"The demo has no split {split!r}.", advice="Choose train, validation or test.")
    return _questions(named.group(1), split, int(named.group(2) or seed))


@lru_cache(maxsize=64)
def _questions(domain: str, split: Split, seed: int) -> tuple[Question, ...]:
    return tuple(
        _question(Problem(domain, name, operation, operand))
        for name in FACTS[domain]
        for operation, operand in _forms(domain, name, seed)[split]
    )


def _forms(domain: str, name: str, seed: int) -> dict[str, list[tuple[Operation, int]]]:
    forms = list(FORMS)
    random.Random(f"demo split {seed}: {domain} {name}").shuffle(forms)
    ends = TEST_FORMS, TEST_FORMS + VALIDATION_FORMS
    return {"test": forms[: ends[0]], "validation": forms[ends[0] : ends[1]], "train": forms[ends[1] :]}


def _question(problem: Problem) -> Question:
    value = FACTS[problem.domain][problem.name]
    return Question(
        id=f"{problem.name}-{_WORDS[problem.operation]}-{problem.operand}",
        domain=problem.domain,
        prompt=problem.prompt,
        answer=str(problem.result(value)),
        solution=problem.solution(value),
    )
