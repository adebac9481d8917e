"""Whether the service can do its work: each thing that is missing, as a code for programs and a sentence for people."""

from __future__ import annotations

import shutil
import time
from functools import cache
from typing import Literal

from alembic.config import Config
from alembic.script import ScriptDirectory
from pydantic import BaseModel, Field
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from app.artefacts.usage import usage
from app.db import MIGRATIONS, reading
from app.lifecycle import workers
from app.live import Bell
from app.settings import Settings

ReasonCode = Literal[
    "database_down", "schema_differs", "broker_down", "no_worker", "sweep_stalled", "disk_low", "budget_near", "budget_over"
]

LOW_DISK_BYTES = 2 * 2**30
"""With less room than this in the home folder a checkpoint may not fit."""
STALLED_SWEEPS = 5
"""So many sweeps in a row that did not happen are told."""


class Reason(BaseModel):
    """One thing that keeps the service from its full work."""

    code: ReasonCode = Field(description="For programs; does not change.")
    message: str = Field(description="For people.")
    blocking: bool = Field(description="Requests cannot be served until it is mended; others only slow things down.")


class Pulse:
    """When this process's sweep last got through its round."""

    def __init__(self) -> None:
        self._beat = time.monotonic()

    def beat(self) -> None:
        """The sweep has finished a round."""
        self._beat = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the last round, or since the start."""
        return time.monotonic() - self._beat


def reasons(engine: Engine, bell: Bell, pulse: Pulse, settings: Settings) -> list[Reason]:
    """Everything that is amiss, what blocks first."""
    found = []
    try:
        with reading(engine) as session:
            found += _schema(session)
            if not found and not workers.alive(session):
                found.append(Reason(code="no_worker", message="No worker is connected: runs wait.", blocking=False))
            if not any(reason.blocking for reason in found) and (used := usage(session)).message:
                code: ReasonCode = "budget_over" if used.state == "over" else "budget_near"
                found.append(Reason(code=code, message=used.message, blocking=False))
    except SQLAlchemyError:
        return [Reason(code="database_down", message="The database does not answer.", blocking=True)]
    if not bell.hears:
        message = "The broker does not answer: pages and workers ask the database instead."
        found.append(Reason(code="broker_down", message=message, blocking=False))
    if pulse.age > max(STALLED_SWEEPS * settings.reap_seconds, 15.0):
        message = f"Runs of vanished workers have not been looked for since {pulse.age:.0f} s."
        found.append(Reason(code="sweep_stalled", message=message, blocking=False))
    return found + _disk(settings)


def _schema(session: Session) -> list[Reason]:
    present = session.connection().execute(text("SELECT version_num FROM alembic_version")).scalar()
    if present == newest_revision():
        return []
    message = f"The database's schema is {present}, this server's {newest_revision()}: run the same version everywhere."
    return [Reason(code="schema_differs", message=message, blocking=True)]


@cache
def newest_revision() -> str:
    """The schema that this code knows."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    head = ScriptDirectory.from_config(config).get_current_head()
    assert head is not None
    return head


def _disk(settings: Settings) -> list[Reason]:
    try:
        free = shutil.disk_usage(settings.home).free
    except OSError as error:
        return [Reason(code="disk_low", message=f"The home folder cannot be read: {error.strerror}.", blocking=False)]
    if free >= LOW_DISK_BYTES:
        return []
    message = f"{free / 2**30:.1f} GiB are free in the home folder: a checkpoint may not fit. Delete old runs or make room."
    return [Reason(code="disk_low", message=message, blocking=False)]
