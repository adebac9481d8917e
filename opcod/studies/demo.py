"""The demo over seeds, beside its baselines: does co-distillation help, and does the gate earn its place?

A seed changes everything random: the split, which facts are taught, the students' initial weights and all
sampling. Each (seed, arm) is one run whose summary is kept in a results file; what stands there is not run
again, so the study can be interrupted and extended. Runs use one thread each, two at a time.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from opcod.config import ExperimentConfig, load_preset, merge, parse_config
from opcod.events import BreakRescueMeasured, EvaluationFinished, Event, ExchangeRecorded, GateDecided, RunFinished, StepFinished
from opcod.tasks.demo import feedback_is_correct
from opcod.types import BreakRescue, Evaluation, GateDecision

logger = logging.getLogger(__name__)

PAIR: Final[Mapping[str, Mapping[str, Any]]] = {
    "opcod": {},
    "sdpo": {"method": {"algorithm": "sdpo"}},
    "grpo": {"method": {"algorithm": "grpo"}},
    "sdpo_equal_time": {"method": {"algorithm": "sdpo"}},
}
"""Arms of the first setting: two specialists. The last gets as many steps as fill the time of an OPCoD run."""

GATES: Final = ("cognizance", "always", "never", "domain_selective")
NOVICE: Final[Mapping[str, Mapping[str, Any]]] = {f"novice_{gate}": {"method": {"gate": {"strategy": gate}}} for gate in GATES}
"""Arms of the second setting: a specialist beside a student that is weak on both domains, under the four gates."""

STUDENTS_OF: Final = {"pair": ("densities", "protons"), "novice": ("densities", "novice")}


class ArmResult(BaseModel):
    """What is kept of one run."""

    model_config = ConfigDict(extra="forbid")

    seed: int
    arm: str
    steps_per_student: int
    step_seconds: float
    """Time inside training steps, both students together; sampling for break rates left out."""
    wall_seconds: float
    evaluations: list[Evaluation]
    decisions: list[GateDecision]
    breaks: list[BreakRescue]
    """Over all difficulties and by difficulty, as measured at the start of each phase."""
    feedback: dict[str, dict[str, int]]
    """``tutor/domain`` -> numbers of feedbacks: asked, kept, and kept ones that state the true fact."""
    mutual_improvement: bool | None
    improved: dict[str, bool | None]


class StudyResults(BaseModel):
    """All results so far, in a file."""

    model_config = ConfigDict(extra="forbid")

    results: list[ArmResult] = []

    def find(self, seed: int, arm: str) -> ArmResult | None:
        return next((one for one in self.results if (one.seed, one.arm) == (seed, arm)), None)


def read_results(path: Path) -> StudyResults:
    """The results in a file; none, where there is no file."""
    return StudyResults.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else StudyResults()


def run_study(seeds: Sequence[int], arms: Sequence[str], *, folder: Path, results: Path, workers: int = 2) -> StudyResults:
    """Run what is missing of the given arms and seeds, seeds side by side, and write each result as it comes.

    Students of each seed are made from nothing in `folder`, unless they are there.
    """
    done = read_results(results)
    missing = [seed for seed in seeds if any(done.find(seed, arm) is None for arm in arms)]
    queue = multiprocessing.get_context("spawn").Manager().Queue()
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(_run_seed, seed, tuple(arms), folder, done.model_dump(mode="json"), queue) for seed in missing]
        while not all(future.done() for future in running) or not queue.empty():
            _take(queue, done, results)
        for future in running:
            future.result()
    return done


def _take(queue: Any, done: StudyResults, results: Path) -> None:
    from queue import Empty

    try:
        found = ArmResult.model_validate_json(queue.get(timeout=1.0))
    except Empty:
        return
    done.results = sorted([*done.results, found], key=lambda one: (one.seed, one.arm))
    partial = results.with_suffix(".partial")
    partial.write_text(json.dumps(done.model_dump(mode="json"), indent=1), encoding="utf-8")
    partial.replace(results)
    logger.info("seed %d, %s: mutual improvement %s, %.0f s", found.seed, found.arm, found.mutual_improvement, found.wall_seconds)


def _run_seed(seed: int, arms: Sequence[str], folder: Path, done: Any, queue: Any) -> None:
    import torch

    torch.set_num_threads(1)
    known = StudyResults.model_validate(done)
    for arm in arms:
        if known.find(seed, arm) is None:
            known.results.append(run_arm(seed, arm, folder, known=known))
            queue.put(known.results[-1].model_dump_json())


def time_ratio(results: StudyResults) -> float:
    """How many SDPO steps take the time of one OPCoD step: the median over seeds that ran both, since load distorts single runs.

    Raises:
        ValueError: no seed has run both.
    """
    pairs = [(results.find(seed, "opcod"), results.find(seed, "sdpo")) for seed in sorted({one.seed for one in results.results})]
    ratios = [opcod.step_seconds / sdpo.step_seconds for opcod, sdpo in pairs if opcod and sdpo]
    if not ratios:
        raise ValueError("sdpo_equal_time needs results of opcod and sdpo")
    return median(ratios)


def arm_config(seed: int, arm: str, students: Mapping[str, str], *, steps_per_round: int | None = None) -> ExperimentConfig:
    """The demo preset in the world of `seed`, with the arm's changes; `students` maps built-in names to folders."""
    data = load_preset("demo")
    setting = "novice" if arm in NOVICE else "pair"
    for student, name in zip(data["students"], STUDENTS_OF[setting], strict=True):
        student["model"] = students[name]
    for domain in data["domains"]:
        for split in ("train", "validation", "test"):
            domain[split] = f"demo:{domain['name']}@{seed}:{split}"
    data = merge(data, {**PAIR, **NOVICE}[arm])
    data = merge(data, {"name": f"demo {arm} {seed}", "seed": seed, "compute": {"side_by_side": False, "threads": 1}})
    if steps_per_round is not None:
        data = merge(data, {"schedule": {"steps_per_round": steps_per_round}})
    return parse_config(data)


def run_arm(seed: int, arm: str, folder: Path, *, known: StudyResults) -> ArmResult:
    """One run, from its students to its summary; the equal-time arm takes its steps from the `known` results.

    Raises:
        ValueError: the equal-time arm is asked for before the runs that it is measured against.
    """
    from opcod.training.trainer import train

    names = STUDENTS_OF["novice" if arm in NOVICE else "pair"]
    students = {name: str(student_folder(seed, name, folder)) for name in names}
    steps = None
    if arm == "sdpo_equal_time":
        steps = round(load_preset("demo")["schedule"]["steps_per_round"] * time_ratio(known))
    config = arm_config(seed, arm, students, steps_per_round=steps)
    summary = _Summary(seed, arm, config)
    began = time.perf_counter()
    train(config, folder / f"seed-{seed}" / arm, summary, _Never())
    return summary.result(time.perf_counter() - began)


def student_folder(seed: int, name: str, folder: Path) -> Path:
    """The student of this world, made from nothing if it is not there yet."""
    from opcod.students.demo_specialists import make_student
    from opcod.students.export import export_student

    path = folder / f"seed-{seed}" / "students" / name
    if not path.is_dir():
        export_student(make_student(name, seed)[0], path)
    return path


class _Never:
    def requested(self) -> bool:
        return False


class _Summary:
    """Keeps of a run's events what the tables need."""

    def __init__(self, seed: int, arm: str, config: ExperimentConfig) -> None:
        self.seed, self.arm, self.config = seed, arm, config
        self.evaluations: list[Evaluation] = []
        self.decisions: list[GateDecision] = []
        self.breaks: list[BreakRescue] = []
        self.feedback: dict[str, dict[str, int]] = defaultdict(lambda: {"asked": 0, "kept": 0, "true": 0})
        self.seconds = 0.0
        self.finished: RunFinished | None = None

    def emit(self, event: Event) -> None:
        match event:
            case EvaluationFinished():
                self.evaluations.append(event.evaluation)
            case GateDecided():
                self.decisions.append(event.decision)
            case BreakRescueMeasured():
                self.breaks.append(event.result)
            case StepFinished():
                timings = {name.rpartition("/")[2]: value for name, value in event.metrics.items() if "/timing_s/" in name}
                self.seconds += timings["step"] - timings["break_rescue"]
            case ExchangeRecorded(exchange=exchange) if exchange.feedback is not None:
                counts = self.feedback[f"{exchange.tutor}/{exchange.question.domain}"]
                counts["asked"] += 1
                if exchange.feedback.outcome == "kept":
                    counts["kept"] += 1
                    counts["true"] += feedback_is_correct(exchange.question, exchange.feedback.text) is True
            case RunFinished():
                self.finished = event
            case _:
                pass

    def flush(self) -> None:
        pass

    def result(self, wall_seconds: float) -> ArmResult:
        assert self.finished is not None
        schedule = self.config.schedule
        return ArmResult(
            seed=self.seed,
            arm=self.arm,
            steps_per_student=schedule.rounds * schedule.steps_per_round,
            step_seconds=self.seconds,
            wall_seconds=wall_seconds,
            evaluations=self.evaluations,
            decisions=self.decisions,
            breaks=self.breaks,
            feedback=dict(self.feedback),
            mutual_improvement=self.finished.verdict.mutual_improvement,
            improved=dict(self.finished.verdict.students),
        )
