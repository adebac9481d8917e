"""A few real steps of every student, measured part by part. Nothing is kept of them.

The steps go the way of a run's first phase, with three differences: nobody is validated, so every gate that may open is open;
phases run in turn, so that one student's figures are not another's; and one process does it all, whatever `compute.gpus` says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from opcod.config import ExperimentConfig, GateConfig
from opcod.events import EventSink, ExchangeRecorded, StepFinished
from opcod.feedback.gating import decide
from opcod.feedback.prompts import check_templates
from opcod.profiling.findings import PartProfile, Profile, StudentProfile
from opcod.profiling.gauges import gauge_of
from opcod.sinks import JsonLinesSink
from opcod.stopwatch import Part, Stopwatch, measuring
from opcod.students.loading import resolve_device
from opcod.tasks.questions import load_domains
from opcod.training.hosts import Hosts, available_cores, open_hosts
from opcod.training.step import StepRecord
from opcod.training.student_host import StudentFacts
from opcod.types import GateDecision, Scores

Tell = Callable[[str], None]
"""What is under way."""


def profile(config: ExperimentConfig, *, steps: int = 3, warmup: int = 1, tell: Tell = lambda _: None) -> Profile:
    """Measure `steps` steps of each student, after `warmup` that are not counted.

    Raises:
        UserError: settings, data, students or resources are at fault, as they would be for a run.
    """
    check_templates(config.method)
    domains = load_domains(config.domains)
    device = resolve_device(config.compute.device)
    config = _in_turn(config)
    names = [student.name for student in config.students]
    tell("Loading the students")
    with tempfile.TemporaryDirectory() as made, open_hosts(config, Path(made), domains) as hosts:
        scores: dict[str, Scores] = {name: dict.fromkeys((domain.name for domain in domains), 1.0) for name in names}
        gate = config.method.gate if config.method.gate.strategy == "never" else GateConfig(strategy="always")
        decisions = list(decide(gate, scores, round=1, algorithm=config.method.algorithm))
        facts: list[StudentFacts] = hosts.ask(*((name, "check", ()) for name in names))
        hosts.ask(*((one.tutor, "freeze_tutor", ()) for one in decisions if one.domains))
        found = []
        with JsonLinesSink(Path(made) / "events.jsonl") as sink:
            for name, fact in zip(names, facts, strict=True):
                phase = _Phase(name, fact, hosts, decisions, scores, sink)
                found.append(_measure(phase, device, steps=steps, warmup=warmup, tell=tell))
    memory = "allocated on the device" if device.type == "cuda" else "resident size of the process"
    return Profile(device=str(device), threads=torch.get_num_threads(), memory=memory, students=found)


def _in_turn(config: ExperimentConfig) -> ExperimentConfig:
    """All students in this process, each with the threads that it has in a run."""
    compute = config.compute
    processes = compute.gpus * (len(config.students) if compute.side_by_side else 1)
    if processes == 1:
        return config
    threads = compute.threads or max(1, available_cores() // processes)
    return config.with_compute(side_by_side=False, gpus=1, threads=threads)


@dataclass(frozen=True, slots=True)
class _Phase:
    name: str
    facts: StudentFacts
    hosts: Hosts
    decisions: list[GateDecision]
    scores: dict[str, Scores]
    sink: EventSink


def _measure(phase: _Phase, device: torch.device, *, steps: int, warmup: int, tell: Tell) -> StudentProfile:
    name, hosts = phase.name, phase.hosts
    tutors = {one.tutor: 0 for one in phase.decisions if one.domains and one.tutor != name}
    hosts.ask((name, "begin_phase", (phase.decisions, phase.scores, tutors)))
    watch = Stopwatch(gauge_of(device))
    skipped, tokens = 0, None
    for step in range(1, warmup + steps + 1):
        tell(f"{name}: step {step} of {warmup + steps}{', to warm up' if step <= warmup else ''}")
        with measuring(watch if step > warmup else Stopwatch()) as stopwatch, stopwatch.part("all"):
            record: StepRecord = hosts.ask((name, "step", (1, step, False)))[0]
            with stopwatch.part("events"):
                _emit(phase.sink, name, record)
        skipped += step > warmup and not record.metrics[f"{name}/train/updates"]
        tokens = record.metrics.get(f"{name}/train/micro_batch_tokens", tokens)
    hosts.ask((name, "end_phase", ()))
    everything = watch.whole.parts["all"]
    tops = {**everything.parts["step"].parts, "events": everything.parts["events"]}
    tops.pop("break_rescue")  # of a phase's first step alone, and asked for apart
    return StudentProfile(
        student=name,
        trainable_parameters=phase.facts.trainable_parameters,
        vocabulary=phase.facts.vocabulary,
        steps=steps,
        seconds=everything.seconds / steps,
        skipped_updates=skipped,
        micro_batch_tokens=None if tokens is None else int(tokens),
        parts=_shares(tops, everything.seconds, everything.seconds, steps),
    )


def _emit(sink: EventSink, name: str, record: StepRecord) -> None:
    """A step's events, as the trainer tells them."""
    events = [*(ExchangeRecorded(exchange=one) for one in record.exchanges)]
    first = (record.step - 1) * (len(events) + 1) + 1
    for seq, event in enumerate(events, first):
        sink.emit(event.model_copy(update={"seq": seq}))
    finished = StepFinished(round=1, tutee=name, step=record.step, metrics=record.metrics)
    sink.emit(finished.model_copy(update={"seq": first + len(events)}))


def _shares(parts: dict[str, Part], of_seconds: float, whole: float, steps: int) -> list[PartProfile]:
    """The parts of something that took `of_seconds`, with what lies between them; all over `steps` steps."""
    found = [_share(part, parts.get("student_forward"), whole, steps) for part in parts.values()]
    if found:
        rest = Part("rest", seconds=max(0.0, of_seconds - sum(part.seconds for part in parts.values())))
        found.append(_share(rest, None, whole, steps))
    return found


def _share(part: Part, forward: Part | None, whole: float, steps: int) -> PartProfile:
    # The backward pass goes over what went forward.
    tokens, padding = _work(forward if part.name == "student_backward" and forward is not None else part)
    return PartProfile(
        name=part.name,
        seconds=part.seconds / steps,
        share=part.seconds / whole if whole else 0.0,
        tokens=tokens / steps,
        tokens_per_s=tokens / part.seconds if tokens and part.seconds else None,
        padding_waste=padding / (tokens + padding) if tokens else None,
        peak_bytes=part.peak_bytes,
        parts=_shares(part.parts, part.seconds, whole, steps),
    )


def _work(part: Part) -> tuple[int, int]:
    """(tokens, padding) of a part and all its own."""
    inner = [_work(one) for one in part.parts.values()]
    return part.tokens + sum(tokens for tokens, _ in inner), part.padding + sum(padding for _, padding in inner)
