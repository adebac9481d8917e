"""What the interface answers about pre-flights."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.lifecycle.statuses import RunStatus
from app.shapes import ErrorShape, Shape
from opcod.preflight.findings import Preflight


class PreflightJob(Shape):
    """A look at an experiment before it is launched."""

    id: int = Field(description="Number of the pre-flight.")
    name: str = Field(description="What the experiment is called.")
    owner: str = Field(description="Who asked for it.")
    state: Literal["queued", "running", "completed", "failed", "cancelled"] = Field(description="Where it is in its life.")
    progress: float = Field(description="0 to 1.")
    doing: str = Field(description="What is under way; empty unless running.")
    found: Preflight | None = Field(description="What was found; null until it is completed, and in lists.")
    error: ErrorShape | None = Field(description="Why it failed; null unless it did.")
    created_at: datetime = Field(description="When it was asked for.")
    started_at: datetime | None = Field(description="When a worker took it.")
    ended_at: datetime | None = Field(description="When it completed, failed or was cancelled.")


class Foretold(Shape):
    """A figure that the pre-flight gave, and the run's own. Null where there is none."""

    predicted: float | None = Field(description="What the pre-flight saw on its sample.")
    achieved: float | None = Field(description="What the run has recorded so far, over all rounds.")


class ForetoldStudent(Shape):
    """A student as the tutee. All figures are fractions."""

    student: str = Field(description="Its name.")
    kept: Foretold = Field(description="Share of the feedback on its answers that is kept.")
    break_rate: Foretold = Field(description="Share of right answers that kept feedback turns wrong.")
    rescue_rate: Foretold = Field(description="Share of wrong answers that kept feedback turns right.")
    gain: Foretold = Field(
        description="Predicted: how much more often its self-teacher answered right than itself, an indication at most. "
        "Achieved: the change of its validation score since before training, mean over domains."
    )


class ForetoldRun(Shape):
    """A run that was launched from the settings that the pre-flight looked at."""

    run_id: int = Field(description="Number of the run.")
    name: str = Field(description="What its owner calls it.")
    status: RunStatus = Field(description="Where it is in its life.")
    students: list[ForetoldStudent] = Field(description="Its students, in the experiment's order.")
