"""The web application: REST, pages, static files, and the sweep that mends what was left undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from copy import copy
from functools import cache, partial
from pathlib import Path
from typing import Any

from anyio import Semaphore, to_thread
from fastapi import APIRouter, FastAPI
from fastapi.staticfiles import StaticFiles
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from starlette.datastructures import State

from app.access.gate import Gate
from app.api import (
    access,
    charts,
    chats,
    compare,
    exchanges,
    experiments,
    health,
    library,
    metrics,
    openapi,
    preflights,
    problems,
    records,
    replays,
    runs,
    specialists,
    storage,
    stream,
    students,
    sweeps,
    uploads,
    webhooks,
)
from app.artefacts.store import open_store
from app.artefacts.usage import set_budget
from app.db import make_engine, migrate, writing
from app.guards.bodies import BodyLimits
from app.guards.headers import SecurityHeaders
from app.guards.hosts import KnownHosts
from app.guards.same_site import SameSite
from app.lifecycle.retention import sweep_deletions
from app.lifecycle.sweeper import sweep_and_tell
from app.live import Bell
from app.processes.recurring import again_and_again
from app.records import digests, exchange_search
from app.records.digests import digest_next
from app.records.exchange_search import search_of
from app.settings import Settings, get_settings
from app.telemetry.health import Pulse
from app.telemetry.observing import Observe
from app.web import routes as pages
from app.webhooks.delivery import deliver

API = "/api/v1"
STATIC = Path(__file__).parents[1] / "static"
OTHERS = 8
"""Connections of what answers nobody: sweeps, deliveries, the bell."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. The schema is brought up to date when it starts."""
    settings = settings or get_settings()
    app = copy(_routed())
    app.state, app.user_middleware = State(), []
    app.state.render_page = pages.problem_page
    app.state.settings = settings
    readers = 2 * settings.request_threads
    app.state.readers = Semaphore(readers)
    app.state.engine = make_engine(settings.database_url, connections=readers + 2 * settings.request_threads + OTHERS)
    app.state.store = open_store(settings)
    app.state.bell = Bell(settings.broker_url)
    app.state.pulse = Pulse()
    app.add_middleware(Gate, settings=settings, engine=app.state.engine)  # from the innermost to the outermost
    app.add_middleware(SameSite, public_url=settings.public_url)
    app.add_middleware(BodyLimits, settings=settings)
    app.add_middleware(KnownHosts, settings=settings)
    app.add_middleware(SecurityHeaders, private=settings.auth == "password", https=settings.public_url.startswith("https://"))
    app.add_middleware(Observe, log_requests=settings.log_requests)  # the outermost: refusals are measured too
    return app


@cache
def _routed() -> FastAPI:
    """What is the same for every application of a process: to put some 150 routes together takes longer than all the rest."""
    app = FastAPI(
        title="OPCoD Studio",
        summary="Train language models that tutor each other.",
        version="1",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
        separate_input_output_schemas=False,
        telemetry={"metrics": False, "logs": False, "operation_spans": False, "auto_configure": False},  # see app.tracing
        generate_unique_id_function=openapi.operation_id,
    )
    openapi.install(app, API)
    api = APIRouter(prefix=API, responses=problems.RESPONSES)
    for part in (
        experiments,
        runs,
        compare,
        sweeps,
        records,
        charts,
        storage,
        exchanges,
        preflights,
        replays,
        stream,
        library,
        uploads,
        students,
        specialists,
        chats,
        health,
        metrics,
        access,
        webhooks,
    ):
        api.include_router(part.router)
    app.include_router(api)
    app.include_router(metrics.router, include_in_schema=False)  # where Prometheus looks by itself
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.include_router(pages.router, include_in_schema=False)
    problems.install(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    to_thread.current_default_thread_limiter().total_tokens = settings.request_threads
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)  # others of this machine read neither database nor runs
    settings.runs_folder.mkdir(exist_ok=True)
    await to_thread.run_sync(migrate, app.state.engine)
    await to_thread.run_sync(_announce_budget, app.state.engine, settings.disk_budget_gib)
    tasks = [asyncio.create_task(work) for work in (app.state.bell.listen(), *_recurring(app.state, settings))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        app.state.engine.dispose()


def _recurring(state: State, settings: Settings) -> Iterator[Coroutine[Any, Any, None]]:
    """What the server does beside its answers, each on a thread but the webhooks, which wait for others."""
    engine, seconds = state.engine, settings.reap_seconds

    def on_thread(work: Callable[..., object], *arguments: object) -> Callable[[], Awaitable[object]]:
        return partial(to_thread.run_sync, work, *arguments)

    yield again_and_again("the sweep", on_thread(sweep_and_tell, engine, settings.broker_url, state.pulse), seconds)
    yield again_and_again("deletion of runs", on_thread(sweep_deletions, engine, state.store), seconds)
    yield again_and_again("webhooks", partial(deliver, engine, settings), seconds)
    yield again_and_again("the index of exchanges", on_thread(search_of(engine).update), exchange_search.EVERY_SECONDS)
    yield again_and_again("charts of ended runs", on_thread(digest_next, engine), digests.EVERY_SECONDS)


def _announce_budget(engine: Engine, budget_gib: float) -> None:
    with suppress(IntegrityError), writing(engine) as session:  # a server that starts beside this one was a moment earlier
        set_budget(session, budget_gib)
