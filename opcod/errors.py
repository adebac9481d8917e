"""Errors that are the user's to mend: shown as they are, with advice, and without a stack trace.

Anything else that is raised is our fault and ends in the run's log.
"""

from __future__ import annotations


class UserError(Exception):
    """Something that the user gave cannot be used.

    `message` says what was wrong and where, `advice` what to do. `field` is the dotted path of the
    configuration entry at fault (``domains.0.train``), when there is one, so that a form or an API
    answer can point at it.
    """

    kind = "user_error"

    def __init__(self, message: str, *, advice: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.field = field

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way from a student's process to the trainer's."""
        return _rebuild, (type(self), self.message, self.advice, self.field)


def _rebuild(cls: type[UserError], message: str, advice: str, field: str | None) -> UserError:
    return cls(message, advice=advice, field=field)


class ConfigError(UserError):
    """The experiment's configuration contradicts itself or names what does not exist."""

    kind = "config"


class DataError(UserError):
    """A data file cannot be read, lacks a column, or its splits overlap."""

    kind = "data"


class ModelError(UserError):
    """A student cannot be loaded."""

    kind = "model"


class ServerError(UserError):
    """A server that holds a student cannot be reached, or does not do what it is asked."""

    kind = "server"


class ResourceError(UserError):
    """Memory or disk ran out, or a device is missing."""

    kind = "resource"


class KilledError(ResourceError):
    """A process of the run was killed from outside, most often for want of memory. The next try may have better luck."""

    kind = "killed"


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to another configuration."""

    kind = "checkpoint"


class NumericsError(UserError):
    """Training met a number that is not finite. It never goes on silently."""

    kind = "numerics"
