"""Runs side by side."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app.api.conditional import POLLED, ConditionalRoute
from app.api.dependencies import Reader
from app.records.comparison import MOST_RUNS, comparison, parse_ids
from app.records.comparison_shapes import Comparison, Overlay
from app.records.overlays import overlay

router = APIRouter(prefix="/compare", tags=["runs"], route_class=ConditionalRoute)

Runs = Annotated[
    str, Query(description=f"Numbers of up to {MOST_RUNS} runs: `1,2,3`.", max_length=11 * MOST_RUNS, examples=["1,2,3"], min_length=1)
]


@router.get("", **POLLED)
def compare(
    session: Reader,
    runs: Runs,
    split: Annotated[Literal["test", "validation"] | None, Query(description="On which questions; empty: as it fits all runs.")] = None,
) -> Comparison:
    """Runs side by side: what differs in their settings, scores with intervals, which are Pareto-best, and numbers of each."""
    return comparison(session, parse_ids(runs), split)


@router.get("/curves", **POLLED)
def compare_curves(
    session: Reader,
    runs: Runs,
    name: Annotated[
        str,
        Query(
            description="A metric, such as `student1/train/loss`; `student1/eval/physics`: validation scores; `student1/gate/gap`.",
            max_length=200,
            min_length=1,
        ),
    ],
    points: Annotated[int, Query(description="About so many places of the grid.", ge=10, le=10_000)] = 500,
) -> Overlay:
    """One curve of many runs on a common grid, and each configuration's mean with the lowest and highest of its runs."""
    return overlay(session, parse_ids(runs), name, points)
