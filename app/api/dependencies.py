"""What endpoints are given. What needs no waiting is a coroutine: FastAPI sends every plain function to a thread and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi import Depends, Header, Path, Query, Request
from sqlalchemy import Engine
from sqlmodel import Session

from app import idempotency
from app.access.person import Person
from app.artefacts.store import Store
from app.errors import Forbidden
from app.live import Bell
from app.settings import Settings


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def _bell(request: Request) -> Bell:
    bell: Bell = request.app.state.bell
    return bell


async def _person(request: Request) -> Person:
    person: Person | None = request.state.person  # the gate's work: without a gate there is no answer
    if person is None:
        raise Forbidden("Sign in first.")
    return person


async def _admin(person: Annotated[Person, Depends(_person)]) -> Person:
    if not person.is_admin:
        raise Forbidden("This is for admins.")
    return person


async def _read_session(request: Request) -> AsyncIterator[Session]:
    """A session that has ended before the answer is sent. It speaks to the database on the endpoint's thread first.

    An answer may have to wait for a thread while its session holds a connection. Were there more sessions than
    connections, all threads could come to wait for connections, and those that hold them for a thread, for ever.
    """
    engine: Engine = request.app.state.engine
    async with request.app.state.readers:
        session = Session(engine, expire_on_commit=False)
        try:
            yield session
        finally:
            if engine.dialect.name == "sqlite":  # ends without waiting for anybody
                session.close()
            else:
                with CancelScope(shield=True):
                    await to_thread.run_sync(session.close, limiter=CapacityLimiter(1))  # beside the endpoints' threads, which may be busy


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
Reader = Annotated[Session, Depends(_read_session, scope="function")]
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


def public_address(request: Request, settings: Settings) -> str:
    """The studio's address as people know it, without a slash at its end."""
    return settings.public_url or str(request.base_url).rstrip("/")
