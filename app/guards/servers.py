"""The servers that experiments may have students asked at: those that the service may call at all.

As with folders, the bounds hold for whatever is done within `confined`. Whoever uses the service alone, without signing in, has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from app.errors import Fault
from app.guards.outbound import OutboundRefused, check_url
from app.settings import Settings
from opcod.config import ExperimentConfig
from opcod.errors import ConfigError

Hosts = tuple[str, ...]
_bounds: ContextVar[Hosts | None] = ContextVar("private hosts that experiments may name", default=None)


def hosts_of(settings: Settings) -> Hosts | None:
    """The private hosts and networks that these settings allow besides all public ones; None for everything."""
    return None if settings.auth == "none" else tuple(settings.outbound_allow)


@contextmanager
def confined(hosts: Hosts | None) -> Iterator[None]:
    """Within, experiments may name public servers and `hosts` alone."""
    token = _bounds.set(hosts)
    try:
        yield
    finally:
        _bounds.reset(token)


def faults(config: ExperimentConfig) -> list[Fault]:
    """One for each server that may not be called."""
    hosts = _bounds.get()
    found = []
    for index, student in enumerate(config.students):
        if hosts is not None and student.server is not None:
            found += _fault(student.server.url, hosts, f"students.{index}.server.url")
    return found


def stay_within(config: ExperimentConfig) -> None:
    """See, where work begins, that no other server is called: what a name stands for may have changed.

    Raises:
        ConfigError
    """
    for fault in faults(config):
        raise ConfigError(fault.message, advice=fault.advice, field=fault.field)


def _fault(url: str, hosts: Sequence[str], field: str) -> list[Fault]:
    try:
        check_url(url, allow=hosts)
    except OutboundRefused as error:
        return [Fault(field, error.message, error.advice)]
    return []
