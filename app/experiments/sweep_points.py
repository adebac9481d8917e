"""A sweep's points: what is asked for, spread out into whole configurations and checked as single experiments are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

from app.errors import Fault, Invalid
from app.experiments.ablations import ablation
from app.experiments.experiments import check_deeply, check_experiment
from opcod.config import ExperimentConfig, load_preset, merge
from opcod.errors import UserError

MOST_POINTS = 100
MOST_FAULTS = 50
LONGEST_NAME = 200

_PATH = re.compile(r"[a-z_]+(\.([a-z_]+|\d{1,2})){0,5}")


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What is to be varied over what."""

    name: str
    preset: str | None = None
    config: Mapping[str, Any] | None = None
    grid: Mapping[str, Sequence[Any]] | None = None
    overrides: Sequence[Mapping[str, Any]] | None = None
    ablation: str | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One experiment of a sweep. `values` are the varied settings, dotted path -> value."""

    values: Mapping[str, Any]
    config: ExperimentConfig


def points(plan: SweepPlan) -> list[Point]:
    """Every point of a sweep, each checked as deeply as a single experiment.

    Raises:
        Invalid: what is wrong, with the point's number in the path: ``points.3.method.gate.threshold``.
    """
    base = _base(plan)
    found: list[Point] = []
    faults: dict[tuple[str, str], Fault] = {}
    looked_at: set[str] = set()
    for index, (values, data) in enumerate(_spread(plan, base)):
        try:
            config = check_experiment(_name(plan.name, values), None, data, deep=False)
            depends = config.model_dump_json(include={"students", "domains", "method"})  # what a deep look depends on
            if depends not in looked_at:
                check_deeply(config)
                looked_at.add(depends)
            found.append(Point(values, config))
        except Invalid as invalid:
            for fault in invalid.faults:
                kept = Fault(f"points.{index}.{fault.field}", fault.message, fault.advice)
                faults.setdefault((fault.field, fault.message), kept)  # what all points share is told once
    if faults:
        raise Invalid(list(faults.values())[:MOST_FAULTS])
    return found


def axes(found: Sequence[Point]) -> list[str]:
    """The settings that differ between points, in order of appearance."""
    return list(dict.fromkeys(path for point in found for path in point.values))


def _base(plan: SweepPlan) -> dict[str, Any]:
    if plan.preset is None and not plan.config:
        raise Invalid([Fault("preset", "Neither a preset nor a configuration is given.", "Name a preset, such as `tiny`.")])
    try:
        data = load_preset(plan.preset) if plan.preset is not None else {}
    except UserError as error:
        raise Invalid([Fault("preset", error.message, error.advice)]) from None
    return merge(data, plan.config or {})


def _spread(plan: SweepPlan, base: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The varied values and the whole data of each point."""
    grid, overrides = plan.grid or {}, plan.overrides or ()
    if (plan.ablation is not None) + bool(grid) + bool(overrides) != 1:
        words = "A sweep varies exactly one of `grid`, `overrides` and `ablation`."
        raise Invalid([Fault("grid", words, 'For example {"method.gate.threshold": [0.1, 0.2, 0.4]}.')])
    if plan.ablation is not None:
        try:
            chosen = ablation(plan.ablation)
        except UserError as error:
            raise Invalid([Fault("ablation", error.message, error.advice)]) from None
        grid, overrides = chosen.grid, chosen.overrides
    _check_shape(grid, overrides)
    if grid:
        for values in product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            data = deepcopy(base)
            for path, value in point.items():
                _set(data, path, value)
            yield point, data
    for override in overrides:
        yield dict(_leaves(override)), merge(deepcopy(base), override)


def _check_shape(grid: Mapping[str, Sequence[Any]], overrides: Sequence[Mapping[str, Any]]) -> None:
    faults = [
        Fault(f"grid.{path}", "This is no setting's path.", "Write `method.gate.threshold`.") for path in grid if not _PATH.fullmatch(path)
    ]
    faults += [Fault(f"grid.{path}", "There are no values.", "Give a list of one or more.") for path, values in grid.items() if not values]
    faults += [Fault("grid.name", "Points name themselves.", "Leave it out.") for path in grid if path == "name"]
    faults += [Fault(f"overrides.{i}", "Nothing is varied here.", "Name a setting.") for i, one in enumerate(overrides) if not one]
    count = len(overrides)
    if grid:
        count = 1
        for values in grid.values():
            count *= len(values)
    if count > MOST_POINTS:
        faults.append(
            Fault("grid" if grid else "overrides", f"These are {count:,} points; {MOST_POINTS} are the most.", "Vary less at once.")
        )
    if faults:
        raise Invalid(faults[:MOST_FAULTS])


def _set(data: Any, path: str, value: Any) -> None:
    """Set a setting within plain data, making sections on the way; a number is a place in a list.

    Raises:
        Invalid: the path leads through something that has no parts.
    """
    *way, last = path.split(".")
    place = data
    try:
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        if isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = deepcopy(value)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise Invalid([Fault(f"grid.{path}", "There is no such setting.", "Paths are those of the YAML file.")]) from None


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            yield from _leaves(below, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _name(name: str, values: Mapping[str, Any]) -> str:
    """The sweep's name with what this point varies: ``tau: threshold=0.2, seed=1``."""
    varied = ", ".join(f"{path.rpartition('.')[2]}={_brief(value)}" for path, value in values.items())
    whole = f"{name}: {varied}"
    return whole if len(whole) <= LONGEST_NAME else f"{whole[: LONGEST_NAME - 1]}…"


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= 60 else f"{text[:59]}…"
