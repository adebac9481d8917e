"""One run, disturbed at random moments; then everything is held against the run that was left alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.faults.outcome import Outcome, differences, left_behind, outcome, unnumbered
from tests.faults.processes import gpu_memory_held
from tests.faults.stage import STEPS, MissedError, Stage

Inject = Callable[[Any, int, Random], str]
"""Does the harm to a run on a stage and brings back what a person or a supervisor would; returns what was seen."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`stage` is the kind of stage that it needs, `earliest` the first step after which it can come."""

    name: str
    stage: str
    inject: Inject
    earliest: int = 0
    side_by_side: bool = False


@dataclass(slots=True)
class Trial:
    """One run and what came over it."""

    faults: list[str]
    seed: int
    hits: list[int] = field(default_factory=list)
    """Steps that were done when each fault came; fewer than faults where the run ended before."""
    seen: list[str] = field(default_factory=list)
    """What each fault that came led to."""
    problems: list[str] = field(default_factory=list)
    attempts: int = 0
    seconds: float = 0.0

    @property
    def survived(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        came = "; ".join(f"{name} after step {steps}" for name, steps in zip(self.faults, self.hits, strict=False)) or "nothing came"
        return f"seed {self.seed}: {came} ({self.attempts} attempts, {self.seconds:.0f} s)"


def attempt(stage: Stage, faults: Sequence[Fault], reference: Callable[[], Outcome], *, seed: int) -> Trial:
    """Disturb a new run by each fault in turn, at a random moment of its share. Assertions that fail become the trial's problems."""
    trial, random, began = Trial([fault.name for fault in faults], seed), Random(seed), time.monotonic()
    share = STEPS / len(faults)
    side_by_side = any(fault.side_by_side for fault in faults)
    try:
        run_id = stage.launch(side_by_side=side_by_side)
        for number, fault in enumerate(faults):
            moment = int(random.uniform(number * share, (number + 1) * share))
            steps = stage.await_steps(run_id, max(moment, fault.earliest), random)
            try:
                if stage.run(run_id).status == "completed":
                    raise MissedError
                seen = fault.inject(stage, run_id, random)
            except MissedError:
                break
            trial.hits.append(steps)
            trial.seen.append(seen)
        stage.await_run(run_id, lambda run: run.status == "completed", "the run's end")
        trial.problems += check(stage, run_id, reference, side_by_side=side_by_side)
        trial.attempts = len(stage.attempts(run_id))
    except AssertionError as error:
        trial.problems.append(f"{error}\n{stage.logs()}")
    trial.seconds = time.monotonic() - began
    return trial


def check(stage: Stage, run_id: int, reference: Callable[[], Outcome], *, side_by_side: bool = False) -> list[str]:
    """Everything that is not as it would be had the run been left alone."""
    folder, found, expected = stage.run_folder(run_id), outcome(stage.engine, run_id, stage.run_folder(run_id)), reference()
    if side_by_side:
        found, expected = unnumbered(found), unnumbered(expected)
    left = [f"left running: {process.command}" for process in stage.settled("training", "student")] + gpu_memory_held(stage.mark)
    return left + stage.unstored(run_id) + left_behind(stage.engine, run_id, folder) + differences(found, expected)


def undisturbed(stage: Stage) -> Outcome:
    """What a run finds out and makes when nobody disturbs it."""
    run_id = stage.launch()
    stage.await_run(run_id, lambda run: run.status == "completed", "the undisturbed run's end")
    found = outcome(stage.engine, run_id, stage.run_folder(run_id))
    problems = left_behind(stage.engine, run_id, stage.run_folder(run_id))
    assert problems == [], problems
    assert [change.to_status for change in stage.history(run_id)] == ["queued", "starting", "running", "completed"]
    assert all(found.values()), {kind: len(rows) for kind, rows in found.items()}
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]
