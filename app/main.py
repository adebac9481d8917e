"""The web application: REST, pages, static files, and the sweep that mends what was left undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from copy import copy
from functools import cache
from pathlib import Path

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
from app.lifecycle.retention import sweep_deletions_forever
from app.lifecycle.sweeper import sweep_forever
from app.live import Bell
from app.records.digests import digest_forever
from app.records.exchange_search import index_forever
from app.settings import Settings, get_settings
from app.telemetry.health import Pulse
from app.telemetry.observing import Observe
from app.web import routes as pages
from app.webhooks.delivery import deliver_forever

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
    tasks = [
        asyncio.create_task(sweep_deletions_forever(app.state.engine, app.state.store, settings.reap_seconds)),
        asyncio.create_task(deliver_forever(app.state.engine, settings)),
        asyncio.create_task(index_forever(app.state.engine)),
        asyncio.create_task(digest_forever(app.state.engine)),
        asyncio.create_task(app.state.bell.listen()),
        asyncio.create_task(sweep_forever(app.state.engine, settings.broker_url, settings.reap_seconds, app.state.pulse)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        app.state.engine.dispose()


def _announce_budget(engine: Engine, budget_gib: float) -> None:
    with suppress(IntegrityError), writing(engine) as session:  # a server that starts beside this one was a moment earlier
        set_budget(session, budget_gib)
