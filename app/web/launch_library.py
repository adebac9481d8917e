"""Domains of the library in the launch form: to begin with one, and to add others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from app.records import queries
from app.records.library_checks import domain_config

MOST = 30
"""The newest domains are offered."""
USE = "use:"


@dataclass(frozen=True, slots=True)
class Offer:
    """A domain that a form can take in."""

    id: int
    name: str
    about: str


def offers(session: Session) -> tuple[Offer, ...]:
    """The newest domains."""
    found = queries.domains(session, limit=MOST).items
    return tuple(Offer(domain.id, domain.name, f"brought by {domain.owner}" if domain.owner else domain.train) for domain in found)


def begin_with(session: Session, data: dict[str, Any], domain_id: int) -> dict[str, Any]:
    """An experiment's data with this domain alone; of students only the native domain changes, which named another.

    Raises:
        NotFound
    """
    students = [student | {"native_domain": None} for student in data["students"]]
    return data | {"domains": [_domain(session, domain_id)], "students": students}


def take_in(session: Session, data: dict[str, Any], change: str) -> dict[str, Any]:
    """`data` after ``use:7``, with domain 7 in place of one of the same name, or added; anything else changes nothing.

    Raises:
        NotFound
    """
    number = change.removeprefix(USE)
    if not change.startswith(USE) or not number.isdecimal() or len(number) > 9 or not isinstance(data.get("domains"), list):
        return data
    taken = _domain(session, int(number))
    others = [item for item in data["domains"] if not (isinstance(item, dict) and item.get("name") == taken["name"])]
    return data | {"domains": [*others, taken]}


def _domain(session: Session, domain_id: int) -> dict[str, Any]:
    return domain_config(session, queries.domain_row(session, domain_id)).model_dump(mode="json")
