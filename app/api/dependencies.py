"""What endpoints are given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import Depends, Header, Path, Query, Request
from sqlalchemy import Engine
from sqlmodel import Session

from app import idempotency
from app.access.person import Person
from app.artefacts.store import Store
from app.db import reading
from app.errors import Forbidden
from app.live import Bell
from app.settings import Settings


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def _bell(request: Request) -> Bell:
    bell: Bell = request.app.state.bell
    return bell


def _person(request: Request) -> Person:
    person: Person | None = request.state.person  # the gate's work: without a gate there is no answer
    if person is None:
        raise Forbidden("Sign in first.")
    return person


def _admin(person: Annotated[Person, Depends(_person)]) -> Person:
    if not person.is_admin:
        raise Forbidden("This is for admins.")
    return person


def _read_session(request: Request) -> Iterator[Session]:
    with reading(_engine(request)) as session:
        yield session


CurrentEngine = Annotated[Engine, Depends(_engine)]
"""For endpoints that write: ``with writing(engine) as session``, then ring, after it."""
CurrentSettings = Annotated[Settings, Depends(_settings)]
CurrentStore = Annotated[Store, Depends(_store)]
"""Where artefacts lie."""
CurrentBell = Annotated[Bell, Depends(_bell)]
CurrentPerson = Annotated[Person, Depends(_person)]
"""Who asks. Their name is the actor of what they change, and the owner of what they make."""
CurrentAdmin = Annotated[Person, Depends(_admin)]
"""The same, of an admin. The gate has refused others already, by the path; this says so where the route is."""
Reader = Annotated[Session, Depends(_read_session)]
"""A session for reading."""

LARGEST_ID = 2**31 - 1
RunId = Annotated[int, Path(description="The run's id.", ge=1, le=LARGEST_ID)]
ExperimentId = Annotated[int, Path(description="The experiment's id.", ge=1, le=LARGEST_ID)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]
Limit = Annotated[int, Query(description="Items a page.", ge=1, le=500)]
Order = Annotated[Literal["oldest", "newest"], Query(description="Which come first.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=idempotency.HEADER,
        description="A request that is sent again with the same key makes no second thing: it answers 200 with the first one.",
        min_length=1,
        max_length=200,
    ),
]
