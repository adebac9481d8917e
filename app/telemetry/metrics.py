"""What Prometheus scrapes. Whatever stands in SQL is asked of SQL at the scrape, so that every server process says the same.

Only what a process alone knows (its requests, its open streams) is counted in the process; `opcod serve
--processes N` adds those up over its processes, by prometheus-client's own multiprocess mode.
"""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import Engine, func, text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from app.artefacts.usage import usage
from app.db import now, reading
from app.lifecycle import workers
from app.lifecycle.runs import HELD
from app.lifecycle.statuses import RunStatus
from app.tables import AttemptRow, MetricRow, RunRow, WorkerRow
from app.webhooks.tables import DeliveryRow, WebhookRow

IN_PROCESS = CollectorRegistry()
"""What this process counts."""
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus-client knows that several processes count together."""

REQUESTS = Histogram(
    "opcod_request_seconds",
    "Time from a request to the end of its answer, live streams left out.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=IN_PROCESS,
)
VIEWERS = Gauge("opcod_stream_viewers", "Live streams that are open.", registry=IN_PROCESS, multiprocess_mode="livesum")
SWEPT = Gauge(
    "opcod_sweep_finished_timestamp_seconds",
    "When a sweep for lapsed leases last got through; time() less this is its lag.",
    registry=IN_PROCESS,
    multiprocess_mode="max",
)
SWEEP = Histogram("opcod_sweep_seconds", "Time that a sweep took.", buckets=(0.01, 0.05, 0.25, 1, 5), registry=IN_PROCESS)
if SHARED not in os.environ:
    ProcessCollector(registry=IN_PROCESS)

PACE = {
    "throughput/rollout_tokens_per_s": ("opcod_run_tokens_per_second", "Rollout tokens a second in a student's last step."),
    "memory/peak_bytes": ("opcod_run_peak_memory_bytes", "Peak memory up to a student's last step."),
    "timing_s/step": ("opcod_run_step_seconds", "Duration of a student's last step."),
}
"""What each student's last step says of its pace: the training metric's name after the student's -> our name and help."""


def exposition(engine: Engine, accept: str) -> tuple[bytes, str]:
    """Everything, in the format that `accept` asks for, and that format's media type."""
    registry = CollectorRegistry()
    if SHARED in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(_Copy(IN_PROCESS))
    registry.register(SqlCollector(engine))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Copy:
    """Another registry's metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        return iter(self._registry.collect())


class SqlCollector:
    """The service's state as SQL has it: a handful of small queries. A database that is away is a metric too."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> list[Metric]:
        """Nothing is asked of SQL until the scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics, or only that the database does not answer."""
        parts: tuple[Callable[[Session], list[Metric]], ...] = (_runs, _queue, _attempts, _workers, _events, _artefacts, _webhooks, _pace)
        found: list[Metric] = []
        try:
            with reading(self._engine) as session:
                for part in parts:
                    found += part(session)
        except SQLAlchemyError:
            yield GaugeMetricFamily("opcod_database_up", "Whether the database answers.", 0)
            return
        yield GaugeMetricFamily("opcod_database_up", "Whether the database answers.", 1)
        yield from found


def _runs(session: Session) -> list[Metric]:
    family = GaugeMetricFamily("opcod_runs", "Runs by status.", labels=["status"])
    counts = dict(session.exec(select(RunRow.status, func.count()).group_by(RunRow.status)).all())
    for status in get_args(RunStatus):
        family.add_metric([status], counts.get(status, 0))
    return [family]


def _queue(session: Session) -> list[Metric]:
    waiting = select(func.count(), func.min(col(RunRow.queued_at))).where(col(RunRow.status) == "queued")
    length, oldest = session.exec(waiting).one()
    wait = max(0.0, (now() - oldest).total_seconds()) if oldest is not None else 0.0
    return [
        GaugeMetricFamily("opcod_queue_length", "Runs that wait for a worker.", length),
        GaugeMetricFamily("opcod_queue_oldest_wait_seconds", "How long the first of them has waited.", wait),
    ]


def _attempts(session: Session) -> list[Metric]:
    family = GaugeMetricFamily(
        "opcod_attempts",
        "Workers' holds on runs by how they ended (lapsed: the worker vanished), deleted runs' left out.",
        labels=["outcome"],
    )
    for outcome, count in session.exec(select(AttemptRow.outcome, func.count()).group_by(AttemptRow.outcome)).all():
        family.add_metric([outcome or "under way"], count)
    return [family]


def _workers(session: Session) -> list[Metric]:
    alive = workers.alive(session)
    kinds = Tally(_kind(worker) for worker in alive)
    family = GaugeMetricFamily("opcod_workers", "Workers heard of lately, by kind of device.", labels=["device"])
    busy = GaugeMetricFamily("opcod_workers_busy", "Those that hold a run, by kind of device.", labels=["device"])
    working = Tally(_kind(worker) for worker in alive if worker.run_id is not None)
    for kind in sorted({"cpu", "gpu"} | set(kinds)):
        family.add_metric([kind], kinds[kind])
        busy.add_metric([kind], working[kind])
    return [family, busy]


def _kind(worker: WorkerRow) -> str:
    return "gpu" if "gpu" in worker.labels else "cpu"


def _events(session: Session) -> list[Metric]:
    counter = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
    if session.get_bind().dialect.name == "postgresql":
        counter = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM events_id_seq"
    stored = session.connection().execute(text(counter)).scalar() or 0
    return [CounterMetricFamily("opcod_events", "Events stored so far: training events and changes of status.", stored)]


def _artefacts(session: Session) -> list[Metric]:
    return [GaugeMetricFamily("opcod_artefact_bytes", "What all runs' artefacts take.", usage(session).used_bytes)]


def _webhooks(session: Session) -> list[Metric]:
    waiting = session.exec(select(func.count()).where(col(DeliveryRow.next_try_at).is_not(None))).one()
    failing = session.exec(select(func.count()).where(col(WebhookRow.failing_since).is_not(None))).one()
    return [
        GaugeMetricFamily("opcod_webhook_deliveries_waiting", "Deliveries that have neither got through nor been given up.", waiting),
        GaugeMetricFamily("opcod_webhooks_failing", "Webhooks that nothing gets through to.", failing),
    ]


def _pace(session: Session) -> list[Metric]:
    """Steps, tokens a second and memory of the runs that train now: as many series as there are busy workers."""
    steps = GaugeMetricFamily("opcod_run_steps", "Updates that a run under way has made, of all its students.", labels=["run"])
    tokens = GaugeMetricFamily(
        "opcod_run_tokens_per_second", "Rollout tokens a second in a student's last step.", labels=["run", "student"]
    )
    memory = GaugeMetricFamily("opcod_run_peak_memory_bytes", "Peak memory up to a student's last step.", labels=["run", "student"])
    seconds = GaugeMetricFamily("opcod_run_step_seconds", "Duration of a student's last step.", labels=["run", "student"])
    families = dict(zip(PACE, (tokens, memory, seconds), strict=True))
    for run in session.exec(select(RunRow).where(col(RunRow.status).in_(HELD)).order_by(col(RunRow.id))).all():
        steps.add_metric([str(run.id)], sum(run.steps_done.values()))
        for student in run.steps_done:
            for name, family in families.items():
                newest = select(MetricRow.value).where(col(MetricRow.run_id) == run.id, col(MetricRow.name) == f"{student}/{name}")
                value = session.exec(newest.order_by(col(MetricRow.id).desc()).limit(1)).first()
                if value is not None:
                    family.add_metric([str(run.id), student], value)
    return [steps, *families.values()]
