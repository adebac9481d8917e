"""Starts the web server, on a socket of its own or one that a supervisor holds."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from uvicorn.supervisors import Multiprocess

from app.processes.lifeline import PARENT_VARIABLE, die_with_parent
from app.settings import Settings, get_settings
from app.telemetry.structured_logs import configure_logging
from app.telemetry.tracing import configure_tracing

GRACE_SECONDS = 2
"""How long open requests, live streams among them, may go on after a stop."""
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def serve(host: str, port: int, listener: socket.socket | None, processes: int = 1) -> None:
    """Serve until stopped by SIGTERM or SIGINT, by so many processes that share the address.

    Raises:
        ResourceError: the port cannot be taken, or the host may be reached from elsewhere.
    """
    from app.processes.listening import address_url, listening, require_guard

    settings = get_settings()
    guarded = settings.auth == "password"
    if listener is not None:
        require_guard(listener.getsockname()[0], guarded)
        _serve(listener, processes)
        return
    with listening(host, port, guarded=guarded) as own:
        print(f"OPCoD Studio listens at {address_url(host, own.getsockname()[1])}", flush=True)
        _serve(own, processes)


def make_app() -> FastAPI:
    """The application in a process that serves it. Called by uvicorn, in each process."""
    from app.main import create_app

    die_with_parent(signal.SIGTERM)
    settings = get_settings()
    configure_logging(settings.log_format, sys.stderr, level=settings.log_level, program="web")
    configure_tracing("web")
    app = create_app(settings)
    gc.collect()
    gc.freeze()  # what is there now stays: walking through it again and again would hold up requests
    gc.set_threshold(20_000, 20, 50)
    return app


def _serve(listener: socket.socket, processes: int) -> None:
    settings = get_settings()
    _greet_first_admin(settings, listener)
    config = uvicorn.Config(
        "app.processes.serving:make_app",
        factory=True,
        timeout_graceful_shutdown=GRACE_SECONDS,
        access_log=False,
        log_config=None,
        workers=processes,
        limit_concurrency=settings.connections,
        proxy_headers=bool(settings.trusted_proxies),  # by itself uvicorn believes whoever is on this machine
        forwarded_allow_ips=settings.trusted_proxies or None,
        server_header=False,
    )
    if processes == 1:
        uvicorn.Server(config).run(sockets=[listener])
        return
    counted = None if METRICS_FOLDER in os.environ else tempfile.mkdtemp(prefix="opcod-metrics-")
    if counted is not None:
        os.environ[METRICS_FOLDER] = counted
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    configure_logging(settings.log_format, sys.stderr, level=settings.log_level, program="web")
    try:
        Multiprocess(config, [listener]).run()
    finally:
        if counted is not None:
            shutil.rmtree(counted, ignore_errors=True)


def _greet_first_admin(settings: Settings, listener: socket.socket) -> None:
    """Print the link at which the first admin sets a password, while there is none."""
    if settings.auth != "password":
        return
    from app.access import links
    from app.db import make_engine, migrate, writing
    from app.processes.listening import address_url

    engine = make_engine(settings.database_url)
    try:
        migrate(engine)
        with writing(engine) as session:
            path = links.make_for_first_admin(session)
    except SQLAlchemyError as error:
        logging.getLogger(__name__).warning("The database does not answer yet, so nobody is greeted: %s", getattr(error, "orig", error))
        return
    finally:
        engine.dispose()
    if path is not None:
        host, port = listener.getsockname()[:2]
        base = settings.public_url or address_url(socket.gethostname() if host in ("0.0.0.0", "::") else host, port)
        hours = links.VALID_HOURS["first_admin"]
        print(f"No admin yet. Open this link within {hours} hours, once, to become the first: {base}{path}", flush=True)
