"""Starts the web server, on a socket of its own or one that a supervisor holds."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from app.lifeline import PARENT_VARIABLE, die_with_parent
from app.settings import get_settings
from app.structured_logs import configure_logging

GRACE_SECONDS = 2
"""How long open requests, live streams among them, may go on after a stop."""
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def serve(host: str, port: int, listener: socket.socket | None, processes: int = 1) -> None:
    """Serve until stopped by SIGTERM or SIGINT, by so many processes that share the address.

    Raises:
        ResourceError: the port cannot be taken, or the host may be reached from elsewhere.
    """
    from app.listening import listening

    if listener is not None:
        _serve(listener, processes)
        return
    with listening(host, port) as own:
        print(f"OPCoD Studio listens at http://{host}:{own.getsockname()[1]}", flush=True)
        _serve(own, processes)


def make_app() -> FastAPI:
    """The application in a process that serves it. Called by uvicorn, in each process."""
    from app.main import create_app

    die_with_parent(signal.SIGTERM)
    settings = get_settings()
    configure_logging(settings.log_format, sys.stderr, level=settings.log_level, program="web")
    app = create_app(settings)
    gc.collect()
    gc.freeze()  # what is there now stays: walking through it again and again would hold up requests
    gc.set_threshold(20_000, 20, 50)
    return app


def _serve(listener: socket.socket, processes: int) -> None:
    config = uvicorn.Config(
        "app.serving:make_app", factory=True, timeout_graceful_shutdown=GRACE_SECONDS, access_log=False, log_config=None, workers=processes
    )
    if processes == 1:
        uvicorn.Server(config).run(sockets=[listener])
        return
    counted = Path(os.environ.setdefault(METRICS_FOLDER, tempfile.mkdtemp(prefix="opcod-metrics-")))
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    settings = get_settings()
    configure_logging(settings.log_format, sys.stderr, level=settings.log_level, program="web")
    try:
        Multiprocess(config, [listener]).run()
    finally:
        shutil.rmtree(counted, ignore_errors=True)
