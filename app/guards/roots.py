"""The folders that experiments may name files in. Everything that looks into a named file asks here first.

The bounds hold for whatever is done within `confined`: the gate puts every request inside it, so that no
route can be forgotten. Links are followed before it is judged. Of what lies outside nothing is told, not even
whether it is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from app.errors import Fault
from app.settings import Settings
from opcod.config import ExperimentConfig
from opcod.errors import ConfigError
from opcod.tasks.sources import split_slice

Folders = tuple[Path, ...]
OUTSIDE = "That lies outside of the folders that may be used here."
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_bounds: ContextVar[Folders | None] = ContextVar("folders that experiments may name files in", default=None)


def folders_of(settings: Settings) -> Folders | None:
    """The folders that these settings allow; None for all of them."""
    given = tuple(Path(name).expanduser().resolve() for name in settings.roots)
    if settings.auth == "none" and not given:
        return None
    return (settings.library_folder.resolve(), settings.runs_folder.resolve(), *given)


@contextmanager
def confined(folders: Folders | None) -> Iterator[None]:
    """Within, experiments may name files in `folders` alone."""
    token = _bounds.set(folders)
    try:
        yield
    finally:
        _bounds.reset(token)


def faults(config: ExperimentConfig) -> list[Fault]:
    """One for each file or folder that the configuration names outside of the bounds."""
    folders = _bounds.get()
    if folders is None:
        return []
    named = [(f"students.{index}.model", student.model, True) for index, student in enumerate(config.students)]
    for index, domain in enumerate(config.domains):
        parts = {"train": domain.train, "validation": domain.validation, "test": domain.test}
        named += [(f"domains.{index}.{part}", split_slice(source)[0], False) for part, source in parts.items()]
    outside = [field for field, source, is_model in named if not _allowed(source, folders, is_model=is_model)]
    return [Fault(field, OUTSIDE, _advice(folders)) for field in outside]


def stay_within(config: ExperimentConfig) -> None:
    """See, where work begins, that a configuration names nothing outside: folders may have changed since it was taken, and links with them.

    Raises:
        ConfigError
    """
    for fault in faults(config):
        raise ConfigError(fault.message, advice=fault.advice, field=fault.field)


def model_faults(model: str, field: str) -> list[Fault]:
    """One, pointing at `field`, where a student's model lies outside of the bounds."""
    folders = _bounds.get()
    if folders is None or _allowed(model, folders, is_model=True):
        return []
    return [Fault(field, OUTSIDE, _advice(folders))]


def may_read(source: str, *, is_model: bool = False) -> bool:
    """Whether the bounds let a domain's source, or a student's model, be looked at."""
    folders = _bounds.get()
    return folders is None or _allowed(split_slice(source)[0], folders, is_model=is_model)


def _allowed(source: str, folders: Sequence[Path], *, is_model: bool) -> bool:
    if source.startswith("demo:") or (source.startswith("hub:") and not is_model):
        return True
    try:
        path = Path(source).expanduser()
        inside = any(path.resolve().is_relative_to(folder) for folder in folders)
        return inside or (is_model and _HUB_ID.fullmatch(source) is not None and not path.exists())
    except (OSError, RuntimeError, ValueError):
        return False


def _advice(folders: Sequence[Path]) -> str:
    places = " or ".join(f"`{folder}`" for folder in folders)
    return f"Put it under {places}, and name it by its whole path; or name it on the hub. Admins add folders in OPCOD_ROOTS."
