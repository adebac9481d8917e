"""Starts the web server, on a socket of its own or one that a supervisor holds."""

from __future__ import annotations

import socket

import uvicorn

GRACE_SECONDS = 2
"""How long open requests, live streams among them, may go on after a stop."""


def serve(host: str, port: int, listener: socket.socket | None) -> None:
    """Serve until stopped by SIGTERM or SIGINT.

    Raises:
        ResourceError: the port cannot be taken, or the host may be reached from elsewhere.
    """
    from app.listening import listening

    config = uvicorn.Config("app.main:create_app", factory=True, timeout_graceful_shutdown=GRACE_SECONDS, access_log=False)
    if listener is not None:
        uvicorn.Server(config).run(sockets=[listener])
        return
    with listening(host, port) as own:
        print(f"OPCoD Studio listens at http://{host}:{own.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[own])
