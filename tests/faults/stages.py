"""The stages by name; what this machine cannot offer is said by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.faults.stage import CLOCK_CACHE_SECONDS, Alone, Cluster, Stage, opened
from tests.s3 import s3_server
from tests.stores import PostgresUnavailableError, postgres

DISK_MIB = 256


class UnavailableError(Exception):
    """Why a stage cannot be set up here."""


@contextmanager
def stage_of(name: str, folder: Path) -> Iterator[Stage]:
    """The stage of this name below `folder`, up; it is ended and everything of it with it.

    Raises:
        UnavailableError
    """
    with ExitStack() as stack:
        yield stack.enter_context(opened(_make(name, folder, stack)))


def _make(name: str, folder: Path, stack: ExitStack) -> Stage:
    match name:
        case "alone":
            return Alone(folder)
        case "clock":
            return Alone(folder, environment=_clock(folder / "clock"))
        case "small disk":
            return Alone(folder, home=stack.enter_context(_small_disk(folder / "home")), database=folder / "opcod.db")
        case "small home":
            return Alone(folder, home=stack.enter_context(_small_disk(folder / "home")))
        case "cluster" | "machines":
            try:
                database = stack.enter_context(postgres())
            except PostgresUnavailableError as error:
                raise UnavailableError(f"no PostgreSQL: {error}") from None
            return Cluster(folder, database, stack.enter_context(s3_server()) if name == "machines" else None)
    raise ValueError(name)


def _clock(file: Path) -> dict[str, str]:
    """An environment in which wall clocks go by the file, `+0` or so many seconds away; timers go by the machine."""
    package = find_spec("libfaketime")
    library = Path(package.origin or "").parent / "vendor/libfaketime/src/libfaketime.so.1" if package else Path()
    if sys.platform != "linux" or not library.is_file():
        raise UnavailableError("libfaketime is not installed")
    file.write_text("+0")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": str(CLOCK_CACHE_SECONDS),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


@contextmanager
def _small_disk(place: Path) -> Iterator[Path]:
    """A disk of its own, in memory.

    Raises:
        UnavailableError: this user may not mount one.
    """
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise UnavailableError(f"no small disk can be mounted: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)
