"""How often a password may be tried: counted in SQL, for all server processes together, before the password is looked at."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import case, delete
from sqlmodel import Session, col

from app.access.tables import TryRow
from app.db import insert_into, now

WINDOW = timedelta(minutes=15)
PER_NAME = 10
PER_ADDRESS = 50


@dataclass(frozen=True, slots=True)
class Wait:
    """Too many tries."""

    seconds: int
    """Until the next one may be made."""
    first: bool
    """Whether this is the first that is refused: the one to write down."""


def count_try(session: Session, name: str, address: str, *, known: bool = False) -> Wait | None:
    """Count one more try. None where it may go on.

    It is counted before it is known to be wrong, so that many at once get no further than many in a row. From an address that is `known`
    to be the person's, the name's tries are counted apart: whoever guesses elsewhere does not shut the person out there.
    """
    keys = ((_name_key(name, address if known else ""), PER_NAME), (_address_key(address), PER_ADDRESS))
    over = [wait for wait in (_count(session, key, most) for key, most in keys) if wait is not None]
    return Wait(max(wait.seconds for wait in over), any(wait.first for wait in over)) if over else None


def forgive(session: Session, name: str, address: str, *, known: bool = False) -> None:
    """The name's password was given: its tries no longer count. Those of the address do."""
    session.exec(delete(TryRow).where(col(TryRow.key) == _name_key(name, address if known else "")))


def _count(session: Session, key: str, most: int) -> Wait | None:
    moment = now()
    over = col(TryRow.began_at) <= moment - WINDOW
    counted = insert_into(session, TryRow).values(key=key, began_at=moment, count=1)
    counted = counted.on_conflict_do_update(
        index_elements=["key"],
        set_={"count": case((over, 1), else_=col(TryRow.count) + 1), "began_at": case((over, moment), else_=col(TryRow.began_at))},
    )
    count, began = session.exec(counted.returning(col(TryRow.count), col(TryRow.began_at))).one()
    if count == 1:
        session.exec(delete(TryRow).where(over))
    return None if count <= most else Wait(max(1, round((began + WINDOW - moment).total_seconds())), count == most + 1)


def _name_key(name: str, address: str) -> str:
    """A hash: what is typed into the name's field is now and then a password."""
    told = f"{name.strip().casefold()}\0{_address_key(address)}" if address else name.strip().casefold()
    return "name:" + hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:32]


def _address_key(address: str) -> str:
    """A whole IPv6 subnet counts as one: it is one customer's."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return f"address:{address[:64]}"
    return f"address:{found if found.version == 4 else ipaddress.ip_network(f'{found}/64', strict=False)}"
