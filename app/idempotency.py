"""Requests that may be sent twice: the same key of the same person makes one thing, however often and however closely it comes.

A key stands in the transaction that makes the thing, so that either both are there or neither is; of
two requests that come together the second waits for the first and gets what that one made. Keys do
not expire.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, select

from app.db import insert_into, now
from app.errors import Fault, Invalid
from app.tables import IdempotencyKeyRow

HEADER = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asked for, and under which key; no key, no memory."""

    person: str
    key: str | None
    operation: str
    """What is to be made, of what: ``run of experiment 3``."""
    body: Any = None
    """Plain data. The same key with another body is a mistake, and told."""

    @property
    def fingerprint(self) -> str:
        """Of operation and body."""
        text = json.dumps([self.operation, self.body], sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def earlier(session: Session, asked: Asked) -> int | None:
    """The id of what was made when the same was asked before. A first look: `once` decides.

    Raises:
        Invalid: the key was used for something else.
    """
    if asked.key is None:
        return None
    row = session.exec(
        select(IdempotencyKeyRow).where(col(IdempotencyKeyRow.person) == asked.person, col(IdempotencyKeyRow.key) == asked.key)
    ).first()
    if row is None:
        return None
    if row.fingerprint not in ("", asked.fingerprint):
        words = f"The key {asked.key[:60]!r} was already used for another request."
        raise Invalid([Fault(HEADER, words, "Take a new key for each new thing; send the same one only with the same request.")])
    return row.resource_id


def once(session: Session, asked: Asked, make: Callable[[], int]) -> tuple[int, bool]:
    """The id of what `make` makes, or made when the same was asked before; and whether it is new. In the caller's transaction.

    Raises:
        Invalid: the key was used for something else.
    """
    if asked.key is None:
        return make(), True
    mine = {"person": asked.person, "key": asked.key, "fingerprint": asked.fingerprint, "created_at": now()}
    taking = insert_into(session, IdempotencyKeyRow).values(**mine, resource_id=0).on_conflict_do_nothing()
    if session.exec(taking.returning(col(IdempotencyKeyRow.key))).first() is None:  # PostgreSQL has waited for the other's end
        found = earlier(session, asked)
        assert found is not None
        return found, False
    made = make()
    whose = (col(IdempotencyKeyRow.person) == asked.person, col(IdempotencyKeyRow.key) == asked.key)
    session.exec(update(IdempotencyKeyRow).where(*whose).values(resource_id=made))
    return made, True
