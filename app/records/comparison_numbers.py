"""Numbers that each run has one of, so that any of them can be set against any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from app import shapes
from app.records.comparison_shapes import ComparedNumber, ComparedScore
from app.records.run_numbers import RunNumbers


def numbers(
    runs: Sequence[shapes.Run],
    told: Mapping[int, RunNumbers],
    scores: Sequence[ComparedScore],
    settings: Mapping[str, Sequence[Any]],
) -> list[ComparedNumber]:
    """Every number that at least one of the runs has, those that say most first."""
    told = {run.id: told[run.id] for run in runs}
    found = [*_of_scores(scores), *_of_settings(settings), *_of_time(runs, told), *_of_feedback(told), *_of_metrics(told)]
    return [number for number in found if any(value is not None for value in number.values)]


def _of_scores(scores: Sequence[ComparedScore]) -> list[ComparedNumber]:
    found: list[ComparedNumber] = []
    changes: list[list[float | None]] = []
    for score in scores:
        of = f"{score.student}/{score.domain}"
        words = f"{score.student} on {score.domain}"
        latest = [100 * one.score if one else None for one in score.latest]
        initial = [100 * one.score if one else None for one in score.initial]
        change = [b - a if a is not None and b is not None else None for a, b in zip(initial, latest, strict=True)]
        changes.append(change)
        found += [
            ComparedNumber(key=f"score/{of}", label=f"Score of {words}", unit="%", values=latest),
            ComparedNumber(key=f"change/{of}", label=f"Change of {words}", unit="points", values=change),
            ComparedNumber(key=f"initial/{of}", label=f"Initial score of {words}", unit="%", values=initial),
        ]
    if changes:
        by_run = [[value for value in column if value is not None] for column in zip(*changes, strict=True)]
        mean = [fmean(values) if len(values) == len(changes) else None for values in by_run]
        worst = [min(values) if len(values) == len(changes) else None for values in by_run]
        found = [
            ComparedNumber(key="change/mean", label="Mean change of all scores", unit="points", values=mean),
            ComparedNumber(key="change/worst", label="Smallest change of all scores", unit="points", values=worst),
            *found,
        ]
    return found


def _of_settings(settings: Mapping[str, Sequence[Any]]) -> list[ComparedNumber]:
    return [
        ComparedNumber(key=f"setting/{path}", label=path, unit="", values=[None if value is None else float(value) for value in values])
        for path, values in settings.items()
        if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)
    ]


def _of_time(runs: Sequence[shapes.Run], told: Mapping[int, RunNumbers]) -> list[ComparedNumber]:
    seconds = [one.wall_seconds for one in told.values()]
    steps = [run.progress.step for run in runs]
    a_step = [held / done if held is not None and done else None for held, done in zip(seconds, steps, strict=True)]
    return [
        ComparedNumber(key="time/wall_seconds", label="Time held by workers", unit="s", values=seconds),
        ComparedNumber(key="time/seconds_a_step", label="Time held by workers, a step", unit="s", values=a_step),
        ComparedNumber(key="progress/steps", label="Steps done", unit="", values=steps),
    ]


def _of_feedback(told: Mapping[int, RunNumbers]) -> list[ComparedNumber]:
    return [
        ComparedNumber(key="feedback/kept", label="Feedback kept", unit="%", values=[one.kept for one in told.values()]),
        ComparedNumber(key="feedback/break_rate", label="Break rate", unit="%", values=[one.break_rate for one in told.values()]),
        ComparedNumber(key="feedback/rescue_rate", label="Rescue rate", unit="%", values=[one.rescue_rate for one in told.values()]),
        ComparedNumber(key="gate/open", label="Gates open", unit="%", values=[one.gates_open for one in told.values()]),
    ]


def _of_metrics(told: Mapping[int, RunNumbers]) -> list[ComparedNumber]:
    """The metrics of each student's newest step."""
    return [
        ComparedNumber(key=f"metric/{name}", label=f"{name}, last step", unit="", values=[one.metrics.get(name) for one in told.values()])
        for name in sorted({name for one in told.values() for name in one.metrics})
    ]
