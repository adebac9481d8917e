"""Traces of requests, runs and steps, sent where OpenTelemetry's own variables say (`OTEL_EXPORTER_OTLP_ENDPOINT`); none without them.

A run's trace begins with the request that queued it. Its context waits in SQL with the run, so that the
worker's spans, and the steps of the training process, belong to the same trace.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from opentelemetry import trace
from opentelemetry.trace import Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

logger = logging.getLogger(__name__)

_TRACER = trace.get_tracer("opcod")
_PROPAGATOR = TraceContextTextMapPropagator()


def configure_tracing(program: str) -> None:
    """Send this process's spans, if the environment asks for it and the extra `telemetry` is installed."""
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(os.environ.get(name) for name in endpoints):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        logger.warning("No traces are sent: install opcod-studio[telemetry].")
        return
    name = os.environ.get("OTEL_SERVICE_NAME") or f"opcod-{program}"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def flush() -> None:
    """Send what has not been sent, before a process that ends abruptly does."""
    force = getattr(trace.get_tracer_provider(), "force_flush", None)
    if force is not None:
        force(2_000)


def carried() -> str | None:
    """The present span's context as text (W3C traceparent); None where there is none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def span(name: str, parent: str | None = None, **attributes: str | int) -> Iterator[Span]:
    """A piece of work, within `parent` where that is carried from elsewhere."""
    context = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
    with _TRACER.start_as_current_span(name, context, attributes={f"opcod.{key}": value for key, value in attributes.items()}) as found:
        yield found


def past_span(name: str, began: datetime, ended: datetime, parent: str | None = None, **attributes: str | int) -> None:
    """A piece of work that is over."""
    context = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
    named = {f"opcod.{key}": value for key, value in attributes.items()}
    _TRACER.start_span(name, context, attributes=named, start_time=_nanoseconds(began)).end(_nanoseconds(ended))


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)
