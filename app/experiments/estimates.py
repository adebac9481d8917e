"""What an experiment will take, from the runs that this studio has seen; and, once it has run, what it took.

An estimate is made on the launch page and over REST as often as somebody asks, and kept with each run that is launched, so
that predicted and achieved stand side by side when it has ended.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, func
from sqlmodel import Session, col, select

from app import shapes
from app.db import insert_into, reading, writing
from app.experiments import preflights
from app.experiments.remembered import experiments
from app.lifecycle import queueing
from app.lifecycle.workers import alive
from app.tables import AttemptRow, EstimateRow, EvaluationRow, EventRow, MetricRow, RunRow
from opcod.config import ExperimentConfig, parse_config
from opcod.errors import ConfigError
from opcod.estimation.estimate import A_CPU, CPU, estimate, kind_of
from opcod.estimation.figures import Estimate
from opcod.estimation.measured import METRICS, PEAKS, MeasuredRun, Milestone, put_together

NEWEST = 20
"""Completed runs that times are fitted on."""
MEASURED_KEPT = 200
MILESTONES = (
    "run_started", "round_started", "evaluation_finished", "gate_decided", "phase_started", "phase_finished", "step_finished",
    "checkpoint_saved", "run_finished",
)  # fmt: skip
_MEASURED: WeakKeyDictionary[Engine, OrderedDict[tuple[int, str], MeasuredRun | None]] = WeakKeyDictionary()
"""What ended runs took: it changes no more, and takes a few queries to gather."""


def estimate_of(session: Session, config: ExperimentConfig) -> Estimate:
    """What an experiment that holds will take, on the device that a worker would train it on."""
    return estimate(config, device=expected_device(session, config), history=history(session))


def keep(engine: Engine, run_ids: Iterable[int]) -> None:
    """Estimate runs that were just launched, and keep that with them, and who foretold them. One that has an estimate keeps it."""
    with reading(engine) as session:
        found = []
        for run_id in run_ids:
            run = session.get(RunRow, run_id)
            if run is not None:
                config = parse_config(experiments(session, [run.experiment_id])[run.experiment_id].config)
                expected = estimate_of(session, config).model_dump(mode="json")
                found.append({"run_id": run_id, "estimate": expected, "preflight_id": preflights.newest_of(session, config)})
    if found:
        with writing(engine) as session:
            for values in found:
                session.exec(insert_into(session, EstimateRow).values(**values).on_conflict_do_nothing())


def of_run(session: Session, run: RunRow) -> shapes.RunEstimate:
    """What was expected of a run when it was launched, and what it took."""
    row = session.get(EstimateRow, run.id)
    predicted = Estimate.model_validate(row.estimate) if row else None
    return shapes.RunEstimate(
        predicted=predicted,
        achieved=_achieved(session, run) if run.status == "completed" else None,
        preflight_id=row.preflight_id if row else None,
    )


def expected_device(session: Session, config: ExperimentConfig) -> str:
    """The name of the device that the experiment would be trained on: a living worker's that fits, else the last one used."""
    needs = queueing.needs_of(config.model_dump(mode="json"))
    wanted = RunRow(
        experiment_id=0,
        name="",
        folder="",
        status="queued",
        needs_device=needs.device,
        needs_memory_gib=needs.memory_gib,
        needs_gpus=needs.gpus,
    )
    for worker in alive(session):
        if queueing.fits(worker, wanted):
            return _device(worker.device, worker.name, config)
    attempts = select(AttemptRow.device, AttemptRow.worker).order_by(col(AttemptRow.id).desc()).limit(50)
    for device, name in session.exec(attempts).all():
        found = _device(device, name, config)
        if needs.device is None or kind_of(found) == needs.device:
            return found
    return "GPU" if needs.device == queueing.GPU else A_CPU


def _device(name: str, worker: str, config: ExperimentConfig) -> str:
    """A worker's device, or the processor of its machine where the run asks for that."""
    if config.compute.device == CPU and kind_of(name) != CPU:
        return f"CPU of {worker.rpartition(':')[0]}"
    return name


def history(session: Session) -> list[MeasuredRun]:
    """The newest completed runs that were measured, newest first."""
    bind = session.get_bind()
    engine = bind if isinstance(bind, Engine) else bind.engine
    known = _MEASURED.setdefault(engine, OrderedDict())
    rows = session.exec(
        select(RunRow)
        .where(col(RunRow.status) == "completed", col(RunRow.deleted_at).is_(None), col(RunRow.ended_at).is_not(None))
        .order_by(col(RunRow.ended_at).desc())
        .limit(NEWEST)
    ).all()
    found = []
    for run in rows:
        key = (run.id or 0, f"{run.ended_at} {run.size_bytes}")
        if key not in known:
            known[key] = measure(session, run)
            while len(known) > MEASURED_KEPT:
                known.popitem(last=False)
        if (measured := known[key]) is not None:
            found.append(measured)
    return found


def measure(session: Session, run: RunRow) -> MeasuredRun | None:
    """What a completed run took; None where that cannot be told, as of one that was resumed."""
    attempts = session.exec(select(AttemptRow).where(col(AttemptRow.run_id) == run.id)).all()
    attempt, ended = attempts[0] if len(attempts) == 1 else None, attempts[0].ended_at if attempts else None
    if attempt is None or ended is None:
        return None
    try:
        config = parse_config(experiments(session, [run.experiment_id])[run.experiment_id].config)
    except ConfigError:  # of a version whose settings were others
        return None
    begun = attempt.started_at.timestamp()
    kinds = select(EventRow.kind, EventRow.at, EventRow.data).where(col(EventRow.run_id) == run.id, col(EventRow.kind).in_(MILESTONES))
    milestones = [
        Milestone(kind, at.timestamp() - begun, data.get("round", 0), data.get("split"))
        for kind, at, data in session.exec(kinds.order_by(col(EventRow.seq))).all()
    ]
    asked = (
        select(EvaluationRow.split, EvaluationRow.domain, func.max(col(EvaluationRow.questions)))
        .where(col(EvaluationRow.run_id) == run.id)
        .group_by(col(EvaluationRow.split), col(EvaluationRow.domain))
    )
    questions: dict[str, int] = {}
    for split, _, count in session.exec(asked).all():
        questions[split] = questions.get(split, 0) + int(count or 0)
    return put_together(
        config,
        source=f"run {run.id}",
        device=_device(attempt.device, attempt.worker, config),
        milestones=milestones,
        means=_means(session, run.id or 0, [student.name for student in config.students]),
        questions=questions,
        wall=ended.timestamp() - begun,
        size_bytes=run.size_bytes or None,
    )


def _means(session: Session, run_id: int, students: Iterable[str]) -> dict[str, dict[str, float]]:
    """Student -> metric -> its mean over the steps, or its highest value."""
    names = {f"{student}/{name}": (student, name) for student in students for name in METRICS}
    value = col(MetricRow.value)
    rows = select(MetricRow.name, func.avg(value), func.max(value)).where(col(MetricRow.run_id) == run_id, col(MetricRow.name).in_(names))
    found: dict[str, dict[str, float]] = {}
    for full, mean, highest in session.exec(rows.group_by(col(MetricRow.name))).all():
        student, name = names[full]
        found.setdefault(student, {})[name] = float((highest if name in PEAKS else mean) or 0.0)
    return found


def _achieved(session: Session, run: RunRow) -> shapes.Achieved:
    attempts = session.exec(select(AttemptRow).where(col(AttemptRow.run_id) == run.id)).all()
    held = [attempt.ended_at - attempt.started_at for attempt in attempts if attempt.ended_at is not None]
    config: Mapping[str, object] = experiments(session, [run.experiment_id])[run.experiment_id].config
    settings = parse_config(config)
    means = _means(session, run.id or 0, [student.name for student in settings.students])
    schedule = settings.schedule
    steps = schedule.rounds * schedule.steps_per_round
    rollouts = steps * schedule.questions_per_step * settings.generation.rollouts
    tokens = [
        rollouts * of["response/length_mean"] + steps * of.get("feedback/count", 0.0) * of.get("feedback/length_mean", 0.0)
        for of in means.values()
        if "response/length_mean" in of
    ]
    peaks = [of["memory/peak_bytes"] for of in means.values() if "memory/peak_bytes" in of]
    whole = len(tokens) == len(settings.students)
    return shapes.Achieved(
        seconds=sum(span.total_seconds() for span in held) if held else None,
        memory_bytes=(sum(peaks) if settings.compute.side_by_side else max(peaks)) if peaks else None,
        disk_bytes=float(run.size_bytes) if run.size_bytes else None,
        training_tokens=sum(tokens) if whole else None,
    )
