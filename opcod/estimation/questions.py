"""How many questions a domain has, and how long they are: what scoring costs follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from opcod.config import DomainConfig, ExperimentConfig
from opcod.errors import DataError
from opcod.tasks.questions import load_domains
from opcod.tasks.sources import split_slice
from opcod.types import Split


@dataclass(frozen=True, slots=True)
class DomainSize:
    """Questions of each split, and the mean length of a training question with its system prompt, in characters."""

    train: int
    validation: int
    test: int
    characters: float


def domain_sizes(config: ExperimentConfig) -> tuple[DomainSize, ...] | None:
    """The sizes of all domains; None where one is on the hub or cannot be read here."""
    return _sizes(tuple(domain.model_dump_json() for domain in config.domains), tuple(_stamp(domain) for domain in config.domains))


def asked_questions(config: ExperimentConfig, split: Split, sizes: Sequence[DomainSize] | None) -> int | None:
    """Questions that one scoring of a split asks a student, over all domains; None where that is not known."""
    evaluation, domains = config.evaluation, len(config.domains)
    limit = evaluation.test_questions
    if split == "validation" and evaluation.validation_questions is not None:
        limit = max(1, evaluation.validation_questions // domains)
    if split == "validation" and evaluation.validation_questions is None:
        limit = None
    if sizes is None:
        return None if limit is None else limit * domains
    each = [size.test if split == "test" else size.validation for size in sizes]
    return sum(each if limit is None else [min(limit, count) for count in each])


@lru_cache(maxsize=64)
def _sizes(domains: tuple[str, ...], stamps: tuple[tuple[float, ...], ...]) -> tuple[DomainSize, ...] | None:
    configs = [DomainConfig.model_validate_json(text) for text in domains]
    if any(source.startswith("hub:") for one in configs for source in (one.train, one.validation, one.test)):
        return None
    try:
        loaded = load_domains(configs)
    except DataError:
        return None
    return tuple(
        DomainSize(
            len(one.train), len(one.validation), len(one.test), sum(len(q.prompt) + len(q.system or "") for q in one.train) / len(one.train)
        )
        for one in loaded
    )


def _stamp(domain: DomainConfig) -> tuple[float, ...]:
    """Changes when a file does."""
    found = []
    for source in (domain.train, domain.validation, domain.test):
        try:
            found.append(Path(split_slice(source)[0]).expanduser().stat().st_mtime)
        except (OSError, RuntimeError, ValueError):
            found.append(0.0)
    return tuple(found)
