"""What the pages of domains show."""

from __future__ import annotations

from dataclasses import dataclass

import yaml
from sqlmodel import Session

from app import shapes
from app.domains.shapes import Upload
from app.domains.uploads import of_domains
from app.records import queries
from app.records.library_checks import check_domain, runs_of_domain
from opcod.config import DomainConfig

PAGE = 50


@dataclass(frozen=True, slots=True)
class DomainLine:
    """A domain, and the upload that it was made of."""

    domain: shapes.DomainShape
    upload: Upload | None


@dataclass(frozen=True, slots=True)
class DomainsList:
    """Domains that experiments named or that people brought."""

    lines: tuple[DomainLine, ...]
    before: int | None
    next_before: str | None


@dataclass(frozen=True, slots=True)
class AnswerBar:
    """An answer's share of a split, in thousandths."""

    answer: str
    count: int
    share: float
    x: int
    width: int


@dataclass(frozen=True, slots=True)
class SplitCard:
    """A split with its answers as a bar."""

    summary: shapes.SplitShape
    answers: tuple[AnswerBar, ...]


@dataclass(frozen=True, slots=True)
class DomainPage:
    """One domain, looked at."""

    check: shapes.DomainCheck
    splits: tuple[SplitCard, ...]
    runs: tuple[shapes.Run, ...]
    upload: Upload | None
    yaml: str
    """As it stands among an experiment's domains; of an upload only."""
    refusal: str = ""
    """Why it was not deleted."""


def domains_list(session: Session, *, before: int | None = None) -> DomainsList:
    """The newest domains; `before` pages to older ones."""
    listing = queries.domains(session, before=before, limit=PAGE)
    made = of_domains(session, [domain.id for domain in listing.items])
    lines = tuple(DomainLine(domain, made.get(domain.id)) for domain in listing.items)
    return DomainsList(lines, before, listing.next_cursor)


def domain_page(session: Session, domain_id: int, refusal: str = "") -> DomainPage:
    """One domain.

    Raises:
        NotFound
    """
    row = queries.domain_row(session, domain_id)
    check = check_domain(session, domain_id)
    upload = of_domains(session, [domain_id]).get(domain_id)
    text = ""
    if upload and upload.domain:
        kept = DomainConfig.model_validate(upload.domain.config).model_dump(mode="json", exclude_defaults=True)
        text = yaml.safe_dump({"domains": [kept]}, sort_keys=False, allow_unicode=True)
    cards = tuple(SplitCard(split, split_bars(split)) for split in check.splits)
    return DomainPage(check, cards, tuple(runs_of_domain(session, row)), upload, text, refusal)


def split_bars(split: shapes.SplitShape) -> tuple[AnswerBar, ...]:
    """Shares of the most frequent answers; none where nearly every question has an answer of its own."""
    if not split.usable or split.distinct_answers > len(split.answers):
        return ()
    bars, place = [], 0.0
    for answer, count in sorted(split.answers):
        share = count / split.usable
        start = round(1000 * place)
        place += share
        bars.append(AnswerBar(answer, count, share, start, max(1, round(1000 * place) - start - 3)))
    return tuple(bars)
