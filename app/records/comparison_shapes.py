"""The shapes of a comparison: what REST answers with, and what the page of comparisons is rendered from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from app.lifecycle.statuses import RunStatus
from app.shapes import Interval, Shape


class ComparedRun(Shape):
    """One of the runs."""

    run_id: int = Field(description="Number of the run.")
    name: str = Field(description="What its owner calls it.")
    owner: str = Field(description="Who launched it.")
    algorithm: str = Field(description="`opcod`, `sdpo` or `grpo`.")
    status: RunStatus = Field(description="Where it is in its life.")
    group: int = Field(description="Its place in `groups`.")
    seed: int = Field(description="Every random draw follows from it.")
    fraction: float = Field(description="How far it is, 0 to 1.")
    mutual_improvement: bool | None = Field(description="Its verdict; null before the end.")
    wall_seconds: float | None = Field(description="Time that workers held it; null before any did.")
    front: bool | None = Field(
        description="No other of the runs is at least as good in every score and better in one; null while scores are missing."
    )
    fronts: dict[str, bool | None] = Field(description="The same of each student by itself.")


class ComparedGroup(Shape):
    """Runs of one configuration: they differ in name, seed, and where they ran alone."""

    label: str = Field(description="What sets it apart from the others, in a few words.")
    run_ids: list[int] = Field(description="Its runs, in the order of `runs`.")


class ComparedSetting(Shape):
    """A setting that the runs do not share."""

    setting: str = Field(description="Dotted path, as in `method.gate.threshold`.")
    values: list[Any] = Field(description="One for each run; null where it has no such setting.")
    sets_apart: bool = Field(description="It makes another configuration; `seed` does not, for one.")


class GroupScore(Shape):
    """The scores of a group's runs in one."""

    runs: int = Field(description="Runs that have this score.")
    mean: float = Field(description="Of their scores.")
    low: float = Field(description="The lowest of them; where there is one run, the lower end of its interval.")
    high: float = Field(description="The highest of them; where there is one run, the upper end of its interval.")


class ComparedScore(Shape):
    """A student on a domain in every run."""

    student: str = Field(description="Its name within the experiments.")
    domain: str = Field(description="The domain's name.")
    majority_baseline: float | None = Field(description="Score of always giving the most frequent answer.")
    initial: list[Interval | None] = Field(description="Before training, one for each run.")
    latest: list[Interval | None] = Field(description="The newest, one for each run.")
    groups: list[GroupScore | None] = Field(description="The newest, one for each group.")


class ComparedNumber(Shape):
    """A number that each run has one of, to be set against another."""

    key: str = Field(description="As in `score/student1/physics` or `setting/method.gate.threshold`.")
    label: str = Field(description="In words.")
    unit: str = Field(description="`%`, `points`, `s`, or empty.")
    values: list[float | None] = Field(description="One for each run, in that unit.")


class Comparison(Shape):
    """Runs side by side."""

    split: Literal["test", "validation"] = Field(
        description="On which questions; unless asked for, `test` where each of the runs has a final score on them."
    )
    runs: list[ComparedRun] = Field(description="In the order that was asked for.")
    groups: list[ComparedGroup] = Field(description="One for each configuration among them.")
    settings: list[ComparedSetting] = Field(description="What differs, and nothing else.")
    scores: list[ComparedScore] = Field(description="A line for each student and domain.")
    numbers: list[ComparedNumber] = Field(description="Scores, changes, rates, times, settings and newest metrics.")
    cautions: list[str] = Field(description="Why scores may not be comparable, in words.")


class OverlayLine(Shape):
    """A curve on the common grid; null where it has no point."""

    mean: list[float | None] = Field(description="Mean of the points that fall there.")
    low: list[float | None] = Field(description="The smallest of them; of a score, the lower end of its interval.")
    high: list[float | None] = Field(description="The largest of them; of a score, the upper end of its interval.")


class OverlayRun(OverlayLine):
    """A run's curve."""

    run_id: int = Field(description="Number of the run.")
    group: int = Field(description="Its place among the configurations.")


class OverlayGroup(OverlayLine):
    """The curves of a configuration in one: their mean, and the lowest and highest of them. Of one run: that run's."""

    index: int = Field(description="Its place among the configurations.")
    label: str = Field(description="What sets it apart from the others.")
    runs: list[int] = Field(description="How many runs each mean is of.")


class Overlay(Shape):
    """One curve of many runs on a common grid."""

    name: str = Field(description="Name of the curve.")
    axis: Literal["step", "round"] = Field(description="What `x` counts.")
    width: int = Field(description="Steps that one place of the grid stands for; 1: every point by itself.")
    x: list[float] = Field(description="The grid.")
    runs: list[OverlayRun] = Field(description="Runs that have the curve.")
    groups: list[OverlayGroup] = Field(description="Configurations that have it.")
