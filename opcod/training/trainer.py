"""The run, told as verbs: open, then per round validate, gate, and a phase a student; then score and export (Algorithm 1).

Phases run in turn, or side by side where tutors are frozen at the round's start: then they do not depend
on each other, and a *beat* is one step of every student. Either way each student's steps are the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from opcod.config import ExperimentConfig
from opcod.evaluation.pareto import verdict
from opcod.events import (
    BreakRescueMeasured,
    CheckpointSaved,
    EvaluationFinished,
    Event,
    EventSink,
    ExchangeRecorded,
    GateDecided,
    PhaseFinished,
    PhaseStarted,
    RoundStarted,
    RunFinished,
    RunStarted,
    StepFinished,
    StopSignal,
)
from opcod.feedback.gating import decide
from opcod.feedback.prompts import check_templates
from opcod.tasks.questions import DomainData, load_domains
from opcod.training.checkpoints import Checkpoints, Tell, check_folder, explained_disk_errors, scores_of
from opcod.training.hosts import Hosts, devices_of, open_hosts
from opcod.training.manifest import CONFIG_FILE, FOLDER, Manifest, StudentState, manifest_name
from opcod.training.rendezvous import FirstHosts, Member
from opcod.training.sequence import SequenceNumbers
from opcod.training.step import StepRecord
from opcod.training.student_host import StudentFacts
from opcod.types import Evaluation, GateDecision, Split, Verdict

logger = logging.getLogger(__name__)

NOTABLE = 0.1
"""Share by which the tokens of micro-batches must change to be told."""
Beat = list[tuple[str, int]]
"""(student, step) pairs that run at once."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a run ended. `verdict` is None unless it completed."""

    outcome: Literal["completed", "stopped"]
    verdict: Verdict | None = None


def train(
    config: ExperimentConfig,
    folder: Path,
    sink: EventSink,
    stop: StopSignal,
    tell: Tell = logger.warning,
    member: Member | None = None,
) -> TrainingResult:
    """Run an experiment in `folder`, going on from its newest whole checkpoint if it holds one.

    Events reach `sink` in rising order of `seq`; after a resume those since the checkpoint come again with
    the same numbers. On `stop` the run checkpoints after the step under way and returns. `tell` hears, in words,
    what happened to the run and is no event of it, such as a damaged checkpoint that was passed over. Under torchrun
    `member` is the first process, which has joined; the others `follow` (`opcod.training.rendezvous`).

    Raises:
        UserError: the configuration, data, students or resources are at fault; nothing half-made remains.
    """
    check_templates(config.method)
    if member is None:
        devices_of(config)  # before anything is loaded
    domains = load_domains(config.domains)
    check_folder(folder, config)
    checkpoints = Checkpoints(folder, config, tell)
    start = checkpoints.latest()
    folder.mkdir(parents=True, exist_ok=True)
    with FirstHosts(member, config, folder, domains) if member else open_hosts(config, folder, domains) as hosts:
        return _Run(config, folder, domains, hosts, checkpoints, sink, stop).go(start)


class _Run:
    def __init__(
        self,
        config: ExperimentConfig,
        folder: Path,
        domains: tuple[DomainData, ...],
        hosts: Hosts,
        checkpoints: Checkpoints,
        sink: EventSink,
        stop: StopSignal,
    ) -> None:
        self.config = config
        self.folder = folder
        self.domains = domains
        self.hosts = hosts
        self.checkpoints = checkpoints
        self.sink = sink
        self.stop = stop
        self.students = [student.name for student in config.students]
        self.side_by_side = config.compute.side_by_side
        self.K = config.schedule.steps_per_round
        steps, students = self.K + 2, len(self.students) + 2
        self.numbers = SequenceNumbers(parts=steps if self.side_by_side else students, lanes=students if self.side_by_side else steps)
        self.evaluations: list[Evaluation] = []
        self.steps = dict.fromkeys(self.students, 0)
        self.states: dict[str, StudentState] = {}
        self.tutors: dict[str, int] = {}
        self.saved_at: tuple[int, dict[str, int]] | None = None
        self.micro_batches = dict.fromkeys(self.students, float(config.compute.known_micro_batch_tokens))

    def go(self, start: Manifest | None) -> TrainingResult:
        facts: list[StudentFacts] = self._ask_all("check")
        self._write_config()
        if start is None:
            self._open(facts)
        else:
            self._restore(start)
        for round in range(start.round if start else 1, self.config.schedule.rounds + 1):
            resumed = start if start and start.round == round else None
            decisions = resumed.decisions if resumed else self._begin_round(round)
            if not self._phases(round, decisions):
                return TrainingResult("stopped")
        return TrainingResult("completed", self._close())

    def _write_config(self) -> None:
        path = self.folder / CONFIG_FILE
        partial = path.with_suffix(".partial")
        with explained_disk_errors(path):
            partial.write_text(self.config.to_yaml(), encoding="utf-8")
            partial.replace(path)  # whole or not at all: half a configuration would look like another run's

    def _open(self, facts: list[StudentFacts]) -> None:
        self.numbers.go_to(0)
        schedule = self.config.schedule
        self._emit(
            RunStarted(
                students=self.students,
                domains=[domain.name for domain in self.domains],
                rounds=schedule.rounds,
                steps_per_round=schedule.steps_per_round,
                questions={d.name: {"train": len(d.train), "validation": len(d.validation), "test": len(d.test)} for d in self.domains},
                parameters={name: fact.trainable_parameters for name, fact in zip(self.students, facts, strict=True)},
                notes=[note for domain in self.domains for note in domain.notes],
            )
        )
        if self.config.evaluation.initial_test:
            self._evaluate(0, "test")

    def _restore(self, start: Manifest) -> None:
        self.hosts.ask(*((name, "load", (state,)) for name, state in start.students.items()))
        self.states = dict(start.students)
        self.steps = {name: state.steps for name, state in start.students.items()}
        self.tutors = dict(start.tutors)
        self.evaluations = list(start.evaluations)
        self.numbers.go_on_from(start.seq)
        self.saved_at = (start.round, dict(self.steps))
        logger.info("Going on from round %d, steps %s.", start.round, self.steps)

    def _begin_round(self, round: int) -> list[GateDecision]:
        """Validate, decide the gate, freeze the tutors; the round's first checkpoint."""
        self.numbers.go_to(round)
        self._emit(RoundStarted(round=round))
        self._evaluate(round - 1, "validation")
        scores = scores_of(self.evaluations, round=round - 1, split="validation")
        decisions = list(decide(self.config.method.gate, scores, round=round, algorithm=self.config.method.algorithm))
        for decision in decisions:
            self._emit(GateDecided(decision=decision))
        self._freeze_tutors(decisions)
        self._checkpoint(round, decisions)
        return decisions

    def _phases(self, round: int, decisions: list[GateDecision]) -> bool:
        """All phases of the round; False when the run was asked to stop in between."""
        begun: set[str] = set()
        for beat in self._beats(round):
            if self.stop.requested():
                self._checkpoint(round, decisions)
                return False
            for name, _ in beat:
                if name not in begun:
                    begun.add(name)
                    self._begin_phase(name, round, decisions)
            first = (round - 1) * self.K + 1
            measured = self.config.evaluation.break_rescue_questions > 0
            records = self.hosts.ask(*((name, "step", (round, step, measured and step == first)) for name, step in beat))
            for (name, step), record in zip(beat, records, strict=True):
                self._record(name, round, step, record, decisions)
            self._end_beat(beat, round, decisions)
        return True

    def _beats(self, round: int) -> Iterator[Beat]:
        """What is left of the round, in order."""
        last = round * self.K
        if self.side_by_side:
            for step in range(min(self.steps.values()) + 1, last + 1):
                yield [(name, step) for name in self.students]
        else:
            for name in self.students:
                for step in range(self.steps[name] + 1, last + 1):
                    yield [(name, step)]

    def _begin_phase(self, tutee: str, round: int, decisions: list[GateDecision]) -> None:
        tutors = {name: self.tutors[name] for name in self._tutors_of(tutee, decisions)}
        scores = scores_of(self.evaluations, round=round - 1, split="validation")
        self.hosts.ask((tutee, "begin_phase", (decisions, scores, tutors)))

    def _record(self, tutee: str, round: int, step: int, record: StepRecord, decisions: list[GateDecision]) -> None:
        self._go_to_step(tutee, round, step)
        in_round = step - (round - 1) * self.K
        if in_round == 1:
            self._emit(PhaseStarted(round=round, tutee=tutee, tutors=self._tutors_of(tutee, decisions)))
        for exchange in record.exchanges:
            self._emit(ExchangeRecorded(exchange=exchange))
        for result in record.break_rescue:
            self._emit(BreakRescueMeasured(result=result))
        self._emit(StepFinished(round=round, tutee=tutee, step=step, metrics=record.metrics))
        self._tell_micro_batches(tutee, step, record.metrics.get(f"{tutee}/train/micro_batch_tokens"))
        if in_round == self.K:
            self._emit(PhaseFinished(round=round, tutee=tutee))
        self.steps[tutee] = step

    def _tell_micro_batches(self, tutee: str, step: int, tokens: float | None) -> None:
        """Log where the limit has become another by more than what stands in memory differs from one step to the next."""
        if tokens is not None and abs(tokens - self.micro_batches[tutee]) > NOTABLE * self.micro_batches[tutee]:
            logger.info("%s: micro-batches of at most %d tokens in step %d.", tutee, tokens, step)
            self.micro_batches[tutee] = tokens

    def _end_beat(self, beat: Beat, round: int, decisions: list[GateDecision]) -> None:
        step = beat[0][1]
        ended = step == round * self.K
        if ended:
            self.hosts.ask(*((name, "end_phase", ()) for name, _ in beat))
            if self.config.schedule.tutor_snapshot == "latest":
                self._freeze_tutors(decisions)
        if ended or step % self.config.recording.checkpoint_every_steps == 0:
            self._checkpoint(round, decisions)

    def _close(self) -> Verdict:
        rounds = self.config.schedule.rounds
        self.numbers.go_to(rounds + 1)
        self._evaluate(rounds, "validation")
        self._evaluate(rounds, "test")
        initial, final = (scores_of(self.evaluations, round=round, split="test") for round in (0, rounds))
        result = verdict(initial, final)
        exports = dict(zip(self.students, self._ask_all("export"), strict=True))
        self._emit(RunFinished(verdict=result, exports=exports))
        self.sink.flush()
        return result

    def _evaluate(self, round: int, split: Split) -> None:
        for found in self._ask_all("evaluate", round, split):
            for evaluation in found:
                self.evaluations.append(evaluation)
                self._emit(EvaluationFinished(evaluation=evaluation))

    def _freeze_tutors(self, decisions: list[GateDecision]) -> None:
        """Freeze the students that may tutor anyone, as they are now."""
        open_gates = [decision.tutor for decision in decisions if decision.domains]
        self.hosts.ask(*((name, "freeze_tutor", ()) for name in open_gates))
        self.tutors = {name: self.steps[name] for name in open_gates}

    def _tutors_of(self, tutee: str, decisions: list[GateDecision]) -> list[str]:
        return [decision.tutor for decision in decisions if decision.domains and decision.tutor != tutee]

    def _checkpoint(self, round: int, decisions: list[GateDecision]) -> None:
        """Save every student, tell of it, and only then promise it: see `opcod.training.checkpoints`.

        Where nothing has moved since the last one, that one serves.
        """
        if self.saved_at == (round, self.steps):
            return
        if self.side_by_side and self.steps[self.students[0]] > (round - 1) * self.K:
            self.numbers.go_to(round, self.steps[self.students[0]] - (round - 1) * self.K, len(self.students) + 1)
        moved = [name for name in self.students if name not in self.states or self.states[name].steps != self.steps[name]]
        saved = self.hosts.ask(*((name, "save", ()) for name in moved))
        self.states.update(zip(moved, saved, strict=True))
        seq = self.numbers.next()
        path = f"{FOLDER}/{manifest_name(seq)}"
        size = sum(sum(state.files.values()) for state in self.states.values())
        self._emit(CheckpointSaved(round=round, steps=dict(self.steps), path=path, size_bytes=size))
        self.sink.flush()
        self.checkpoints.write(
            Manifest(
                seq=seq,
                config_digest=self.checkpoints.digest,
                round=round,
                decisions=decisions,
                evaluations=self.evaluations,
                students=self.states,
                tutors=self.tutors,
                score=self._score(round),
            )
        )
        self.saved_at = (round, dict(self.steps))

    def _score(self, round: int) -> float | None:
        """Mean validation score of the weights as they are; None unless they are those that the round began with."""
        if any(steps != (round - 1) * self.K for steps in self.steps.values()):
            return None
        scores = scores_of(self.evaluations, round=round - 1, split="validation")
        found = [score for domains in scores.values() for score in domains.values()]
        return sum(found) / len(found) if found else None

    def _go_to_step(self, tutee: str, round: int, step: int) -> None:
        place, in_round = self.students.index(tutee) + 1, step - (round - 1) * self.K
        self.numbers.go_to(round, *((in_round, place) if self.side_by_side else (place, in_round)))

    def _ask_all(self, method: str, *arguments: object) -> list[Any]:
        return self.hosts.ask(*((name, method, arguments) for name in self.students))

    def _emit(self, event: Event) -> None:
        self.sink.emit(self.numbers.stamp(event))
