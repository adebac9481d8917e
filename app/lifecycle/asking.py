"""Asks workers for jobs: into SQL first, then the bell."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine
from sqlmodel import Session

from app.db import writing
from app.lifecycle import queue
from app.records import replays
from app.records.replays import Asked


def replay(engine: Engine, broker_url: str, exchange_id: int, asked: Asked, *, person: str) -> int:
    """Have an exchange's self-teacher asked again; returns the number of the job.

    Raises:
        NotFound
        Invalid: there are no such weights.
        Refused: too many jobs of this person wait.
    """
    return job(engine, broker_url, lambda session: replays.ask(session, exchange_id, asked, person=person))


def job(engine: Engine, broker_url: str, ask: Callable[[Session], int]) -> int:
    """Have a job done that `ask` puts on the list; returns its number.

    Raises: what `ask` does.
    """
    with writing(engine) as session:
        job_id = ask(session)
    queue.announce_job(engine, broker_url, job_id)
    return job_id
