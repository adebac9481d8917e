"""What a run's charts are drawn from, however many points and exchanges there are, and what to look at in them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from app import shapes
from app.api.conditional import POLLED, ConditionalRoute
from app.api.dependencies import Reader, RunId
from app.records import queries
from app.records.alerts import alerts as find_alerts
from app.records.chart_shapes import Alert, Curves, Histograms, Quantity, Tallies
from app.records.curves import curves as find_curves
from app.records.tallies import histograms as find_histograms
from app.records.tallies import tallies as count_by_step
from app.records.tallies import tallies_by_round as count_by_round
from app.records.windows import LAST, Window

router = APIRouter(tags=["records"], route_class=ConditionalRoute)


def _window(
    first: Annotated[int, Query(description="First step; an entry that begins before it is given whole.", ge=0, le=LAST)] = 0,
    last: Annotated[int | None, Query(description="Last step; an entry that ends after it is given whole.", ge=0, le=LAST)] = None,
    points: Annotated[int, Query(description="Most entries of each student or curve, about.", ge=1, le=10_000)] = 1000,
    width: Annotated[
        int,
        Query(
            description="Steps that one entry stands for. 0: as many as it takes for `points`. To go on from an answer, give its `width`, "
            "and the `first` of its last entry.",
            ge=0,
            le=LAST,
        ),
    ] = 0,
) -> Window:
    return Window(first, last, points, width)


Wanted = Annotated[Window, Depends(_window)]
Student = Annotated[str | None, Query(description="Only this tutee.", max_length=200)]


@router.get("/runs/{run_id}/curves", **POLLED)
def curves(
    run_id: RunId,
    session: Reader,
    window: Wanted,
    name: Annotated[
        list[str] | None, Query(description="Only these; `student1/*` stands for all that begin so. Repeat it for more.", max_length=200)
    ] = None,
) -> Curves:
    """Metrics over the steps: every point, or where there are too many the mean, smallest and largest of neighbours. None is dropped."""
    queries.run_row(session, run_id)
    return find_curves(session, run_id, name or (), window)


@router.get("/runs/{run_id}/tallies", **POLLED)
def tallies(
    run_id: RunId,
    session: Reader,
    window: Wanted,
    student: Student = None,
    by: Annotated[Literal["step", "round"], Query(description="What one entry stands for: `width` steps, or a round.")] = "step",
) -> Tallies:
    """Exchanges counted: how many there were, how many were correct, their tokens, and what became of their feedback."""
    queries.run_row(session, run_id)
    return (count_by_step if by == "step" else count_by_round)(session, run_id, window, student)


@router.get("/runs/{run_id}/histograms", **POLLED)
def histograms(
    run_id: RunId,
    session: Reader,
    window: Wanted,
    student: Student = None,
    quantity: Annotated[
        Quantity, Query(description="Tokens of a rollout, characters of a feedback, or a rollout's mean divergence in nats a token.")
    ] = "response_tokens",
) -> Histograms:
    """How long rollouts and feedbacks are, and how far rollouts are from their self-teacher, step by step."""
    queries.run_row(session, run_id)
    return find_histograms(session, run_id, quantity, window, student)


@router.get("/runs/{run_id}/alerts", **POLLED)
def alerts(run_id: RunId, session: Reader) -> shapes.Listing[Alert]:
    """Signs that training goes wrong as the run is now, each with what to try. One that is over is gone."""
    return shapes.Listing(items=find_alerts(session, queries.run_row(session, run_id)))
