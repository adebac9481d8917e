"""A run on the terminal: a progress bar, a line a step, and a table at the end."""

from __future__ import annotations

import io
import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from opcod.config import ExperimentConfig
from opcod.events import EvaluationFinished, Event, GateDecided, RoundStarted, RunFinished, StepFinished
from opcod.types import Evaluation


class JsonSink:
    """Every event as a line of JSON on standard output."""

    def emit(self, event: Event) -> None:
        sys.stdout.write(event.model_dump_json() + "\n")

    def flush(self) -> None:
        sys.stdout.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.flush()


class ProgressSink:
    """Progress for a person."""

    def __init__(self, config: ExperimentConfig) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # a log that is followed shows each line as it comes
        self.config = config
        self.evaluations: list[Evaluation] = []
        self.steps = dict.fromkeys((student.name for student in config.students), 0)
        self.total = config.schedule.rounds * config.schedule.steps_per_round * len(config.students)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(),
        )
        self.task = self.progress.add_task("steps", total=self.total)

    def emit(self, event: Event) -> None:
        match event:
            case RoundStarted():
                self._say(f"round {event.round} of {self.config.schedule.rounds}")
            case EvaluationFinished(evaluation=found):
                self.evaluations.append(found)
                self._say(f"  {found.student} on {found.domain} ({found.split}): {_percent(found)}")
            case GateDecided(decision=decision):
                state = f"open on {', '.join(decision.domains)}" if decision.domains else "shut"
                self._say(f"  gate of {decision.tutor}: {state} (gap {decision.gap:.3f}, tau {decision.threshold:g})")
            case StepFinished():
                self._step(event)
            case RunFinished():
                self.progress.update(self.task, completed=self.total)
                self.progress.console.print(final_table(self.evaluations, self.config.schedule.rounds))
                self._say(f"mutual Pareto improvement: {_word(event.verdict.mutual_improvement)}")
            case _:
                pass

    def flush(self) -> None:
        pass

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def _step(self, event: StepFinished) -> None:
        self.steps[event.tutee] = event.step
        values = {name.removeprefix(f"{event.tutee}/"): value for name, value in event.metrics.items()}
        loss = f"{values['train/loss']:.4f}" if "train/loss" in values else "skipped"
        kept = f", kept {values['feedback/kept_fraction']:.0%}" if "feedback/kept_fraction" in values else ""
        accuracy, seconds = values["train/accuracy"], values["timing_s/step"]
        self._say(f"  {event.tutee} step {event.step}: loss {loss}, accuracy {accuracy:.0%}{kept}, {seconds:.1f} s")
        self.progress.update(self.task, completed=sum(self.steps.values()))

    def _say(self, text: str) -> None:
        self.progress.console.print(text, markup=False, highlight=False)


def final_table(evaluations: list[Evaluation], rounds: int) -> Table:
    """Test scores before and after, with intervals and the most-frequent-answer baseline."""
    table = Table("student", "domain", "initial", "final", "change", "most frequent answer", title="Test scores (avg@k, 95 % interval)")
    found = {(one.student, one.domain, one.round): one for one in evaluations if one.split == "test"}
    for (student, domain, round), final in found.items():
        if round != rounds:
            continue
        initial = found.get((student, domain, 0))
        change = f"{(final.score - initial.score) * 100:+.1f}" if initial else ""
        table.add_row(student, domain, _percent(initial) if initial else "", _percent(final), change, f"{final.majority_baseline:.1%}")
    return table


def _percent(found: Evaluation) -> str:
    return f"{found.score * 100:.1f} % ({found.low * 100:.1f}-{found.high * 100:.1f})"


def _word(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "not known"}[value]
