"""Experiments, remembered: they never change once made, and every list needs their configuration, which is long to parse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from app.records import configurations
from app.tables import ExperimentRow

MOST = 2000
"""Experiments of one database that are remembered; about 10 KB each."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """What never changes of it."""

    preset: str | None
    config: Mapping[str, Any]
    """Not to be changed: others read the same."""

    @cached_property
    def flat(self) -> Mapping[str, Any]:
        """Dotted path -> value. Not to be changed either."""
        return configurations.flat(self.config)

    @cached_property
    def key(self) -> str:
        """The same for all experiments of one configuration."""
        return configurations.key(self.flat)


_KNOWN: WeakKeyDictionary[Engine, dict[int, Experiment]] = WeakKeyDictionary()


def experiments(session: Session, ids: Iterable[int]) -> dict[int, Experiment]:
    """Those that there are, by id."""
    bind = session.get_bind()
    known = _KNOWN.setdefault(bind if isinstance(bind, Engine) else bind.engine, {})
    wanted = set(ids)
    found = {key: known[key] for key in wanted & known.keys()}
    if len(found) < len(wanted):
        columns = select(ExperimentRow.id, ExperimentRow.preset, ExperimentRow.config)
        rows = session.exec(columns.where(col(ExperimentRow.id).in_(wanted - found.keys()))).all()
        fresh = {key: Experiment(preset, config) for key, preset, config in rows if key is not None}
        if len(known) + len(fresh) > MOST:
            known.clear()
        known.update(fresh)
        found |= fresh
    return found
