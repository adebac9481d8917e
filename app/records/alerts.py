"""What in a run should be looked at now: signs that training goes wrong, each with what to try.

They are worked out from what is recorded whenever they are asked for, so that one that is over is gone by itself. A student's
newest steps are compared with its first ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sqlmodel import Session, col, select

from app.experiments.remembered import experiments
from app.records.chart_shapes import Alert, AlertKind
from app.tables import AttemptRow, GateDecisionRow, MetricRow, RunRow, WorkerRow

STEPS = 10
"""Newest steps that are looked at, and first ones that they are compared with."""
FEWEST = 3
"""With fewer points at either end nothing is said: a curve of a few steps jumps."""
KEPT_FRACTION = 0.1
"""Below this nearly all feedback is wasted, whatever it was at first."""
NEAR_MEMORY = 0.92
"""Share of a GPU's memory from which the next longer batch may not fit."""
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Rule:
    """A curve that must not fall below a share of its own beginning."""

    kind: AlertKind
    metric: str
    share: float
    least: float | None
    """It is said below this too, and only below `most`."""
    most: float | None
    says: str
    advice: str


RULES = (
    Rule(
        "kept_rate_collapse",
        "feedback/kept_fraction",
        0.5,
        KEPT_FRACTION,
        0.4,
        "Of the feedback to {student}, only {percent:.0f} % is kept; at first it was {percent_then:.0f} %.",
        "Open the dropped exchanges and read why. `no_concept_tag` in most: the tutor forgets the form, or is cut before it ends it "
        "(raise `method.feedback.max_tokens`). `no_match`: it names concepts that are not in the question (lower "
        "`method.feedback.temperature`). If its answers have decayed as well, stop and go on from an earlier checkpoint.",
    ),
    Rule(
        "length_collapse",
        "response/length_mean",
        0.4,
        None,
        None,
        "{student}'s answers have shrunk to {now:.0f} tokens; at first they had {then:.0f}.",
        "Read a few exchanges: if it answers without reasoning and is right less often, stop. Try a lower `optimizer.learning_rate`, a "
        "slower self-teacher (`method.teacher.ema_rate`), or `method.loss.aggregation: sequence_mean`.",
    ),
    Rule(
        "entropy_collapse",
        "train/entropy",
        0.15,
        None,
        None,
        "{student}'s answers hardly vary any more: entropy {now:.3g} nats a token, at first {then:.3g}.",
        "Its rollouts of one question become alike, so that there is less to learn from them. Try a higher `generation.temperature`, a "
        "lower `optimizer.learning_rate`, or `method.loss.alpha` nearer 0.",
    ),
)
MEMORY = "memory/peak_bytes"
METRICS = (*(rule.metric for rule in RULES), MEMORY)


def alerts(session: Session, run: RunRow) -> list[Alert]:
    """What stands out in the run as it is now, the gravest first."""
    config = experiments(session, [run.experiment_id])[run.experiment_id].config
    students = [student["name"] for student in config["students"]]
    curves = _ends(session, run, students)
    found = [*_loss(run), *_memory(session, run, students, curves), *_gates(session, run, config)]
    for rule in RULES:
        for student in students:
            now_and_then = _compared(curves[f"{student}/{rule.metric}"], run.steps_done.get(student, 0))
            if now_and_then and _breaks(rule, *now_and_then):
                now, then = now_and_then
                says = rule.says.format(student=student, now=now, then=then, percent=100 * now, percent_then=100 * then)
                found.append(_alert(run, rule.kind, says, rule.advice, student, rule.metric))
    return found


def _alert(run: RunRow, kind: AlertKind, message: str, advice: str, student: str | None = None, metric: str | None = None) -> Alert:
    name = f"{student}/{metric}" if student and metric else None
    return Alert(kind=kind, student=student, message=message, advice=advice, metric=name, round=run.round)


def _breaks(rule: Rule, now: float, then: float) -> bool:
    if rule.least is not None and now < rule.least:
        return True
    return now < rule.share * then and (rule.most is None or now < rule.most)


def _compared(points: Mapping[int, float], done: int) -> tuple[float, float] | None:
    """Means over the newest of `done` steps and over the first ones; None where they are too few to be compared."""
    begin = max(done - STEPS, done // 2)
    now = [value for step, value in points.items() if step > begin]
    then = [value for step, value in points.items() if step <= min(STEPS, begin)]
    return (fmean(now), fmean(then)) if min(len(now), len(then)) >= FEWEST else None


def _ends(session: Session, run: RunRow, students: Sequence[str]) -> dict[str, dict[int, float]]:
    """Name -> step -> value, at each student's first and newest steps."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    row = MetricRow
    for student in students:
        names = [f"{student}/{metric}" for metric in METRICS]
        newest = run.steps_done.get(student, 0) - STEPS
        for steps in (col(row.step) <= STEPS, col(row.step) > newest):  # two ranges of an index; with OR all that lies between is read
            points = select(row.name, row.step, row.value).where(col(row.run_id) == run.id, col(row.name).in_(names), steps)
            for name, step, value in session.exec(points).all():
                found[name][step] = value
    return found


def _loss(run: RunRow) -> list[Alert]:
    if run.error_kind != "numerics":
        return []
    return [_alert(run, "loss_not_finite", run.error_message or "", run.error_advice or "")]


def _gates(session: Session, run: RunRow, config: Mapping[str, Any]) -> list[Alert]:
    if config["method"]["algorithm"] != "opcod" or config["method"]["gate"]["strategy"] == "never":
        return []
    row = GateDecisionRow
    newest = select(row.round).where(col(row.run_id) == run.id).order_by(col(row.round).desc()).limit(1).scalar_subquery()
    decisions = session.exec(select(row).where(col(row.run_id) == run.id, col(row.round) == newest)).all()
    if len(decisions) < len(config["students"]) or any(decision.domains for decision in decisions):
        return []
    closest = min(decisions, key=lambda decision: decision.gap)
    return [
        _alert(
            run,
            "gate_shut_for_all",
            f"In round {closest.round} nobody may tutor: the smallest gap is {closest.gap:.3g} ({closest.tutor}), the threshold "
            f"{closest.threshold:.3g}. The students learn from their own solutions only.",
            "Every student is behind its peers somewhere by more than the threshold. Try a higher `method.gate.threshold`, or "
            "`method.gate.strategy: domain_selective`, which lets each tutor in the domain where it is the best.",
        )
    ]


def _memory(session: Session, run: RunRow, students: Sequence[str], curves: Mapping[str, Mapping[int, float]]) -> list[Alert]:
    peaks = {student: max(curves[f"{student}/{MEMORY}"].values(), default=0.0) for student in students}
    if not any(peaks.values()):
        return []
    held = (
        select(WorkerRow.memory_gib).join(AttemptRow, col(AttemptRow.worker) == col(WorkerRow.name)).where(col(AttemptRow.run_id) == run.id)
    )
    memory = session.exec(held.order_by(col(AttemptRow.id).desc()).limit(1)).first()
    student = max(peaks, key=lambda name: peaks[name])
    if not memory or peaks[student] < NEAR_MEMORY * memory * GIB:
        return []
    return [
        _alert(
            run,
            "memory_near_limit",
            f"The GPU's memory is nearly full: {peaks[student] / GIB:.1f} of {memory:.1f} GiB at its peak.",
            "A longer batch may end the run; it can be resumed then. Lower `compute.micro_batch_tokens`, `generation.batch_size` or "
            "`generation.max_response_tokens`, or set `compute.gradient_checkpointing`.",
            student,
            MEMORY,
        )
    ]
