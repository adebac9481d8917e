"""What the service refuses, free of any web framework. `app.api.problems` turns these into answers."""

# ruff: noqa: N818 (these are states of the world, told as such, not faults of the program)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opcod.plain_text import bounded, storable

LONGEST_FIELD = 300
LONGEST_MESSAGE = 2_000


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with what was sent: the dotted path, what is wrong, what to do.

    A fault quotes what was sent, which may be of any length and hold anything: it is cut, and can be encoded.
    """

    field: str
    message: str
    advice: str = ""

    def __post_init__(self) -> None:
        for name, most in (("field", LONGEST_FIELD), ("message", LONGEST_MESSAGE), ("advice", LONGEST_MESSAGE)):
            object.__setattr__(self, name, bounded(storable(getattr(self, name)), most))


class Invalid(Exception):
    """What was sent cannot be used; `faults` has one entry for each field at fault."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.field}: {fault.message}" if fault.field else fault.message for fault in faults))
        self.faults = tuple(faults)


class NotFound(Exception):
    """There is no such thing."""

    def __init__(self, what: str, key: object) -> None:
        super().__init__(f"There is no {what} {key}.")
        self.what = what
        self.key = key


class Conflict(Exception):
    """The run's state refuses the request."""

    def __init__(self, run_id: int, status: str, wanted: str, why: str = "") -> None:
        super().__init__(f"Run {run_id} is {status}; it cannot be {wanted}." + (f" {why}" if why else ""))
        self.run_id = run_id
        self.status = status


class Refused(Exception):
    """The state of things, other than a run's, refuses the request; `advice` says what to do."""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class NoRoom(Exception):
    """A disk is full; nothing was changed. `advice` says what to do."""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class Forbidden(Exception):
    """Whoever asks may not do this."""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class LeaseLost(Exception):
    """The attempt no longer holds the run: its lease lapsed and was reaped, or the run has ended. Stop at once."""

    def __init__(self, run_id: int, token: int) -> None:
        super().__init__(f"Attempt {token} no longer holds run {run_id}.")
        self.run_id = run_id
        self.token = token


class BrokerDown(Exception):
    """The broker cannot be reached. Nothing is lost: the run stays queued and is announced again."""
