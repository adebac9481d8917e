"""One trace from the request that queues a run to its steps, across processes; nothing where nobody asks for traces."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Engine

from app.telemetry import tracing
from opcod.events import PhaseStarted, StepFinished
from tests.unit.worker.conftest import queue_run, take
from worker.control import Assignment
from worker.runner import Runner
from worker.settings import WorkerSettings
from worker.sinks import StepSpans

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys
from worker.control import Assignment, Report
assignment = Assignment.model_validate_json(sys.stdin.readline())
(assignment.folder / "assignment.json").write_text(assignment.model_dump_json())
Report(token=assignment.token, outcome="completed").save(assignment.folder)
"""


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_TRACER", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def test_request_queue_attempt_and_steps_are_one_trace(settings: WorkerSettings, engine: Engine, exported: InMemorySpanExporter) -> None:
    with tracing.span("request"):
        queue_run(engine)
    claim = take(engine)
    assert claim is not None
    runner = Runner(settings, engine, threading.Event(), lambda _: None, command=(sys.executable, "-c", SCRIPT))
    runner.carry_out(claim)
    assignment = Assignment.model_validate_json((settings.run_folder(claim.folder) / "assignment.json").read_bytes())
    steps = StepSpans(claim.run_id, assignment.traceparent)
    steps.emit(PhaseStarted(seq=1, round=1, tutee="s1", tutors=["s2"]))
    for step in (1, 2):
        steps.emit(StepFinished(seq=1 + step, round=1, tutee="s1", step=step, metrics={}))
    spans = exported.get_finished_spans()
    assert sorted(span.name for span in spans) == ["attempt", "queue", "request", "step", "step"]
    assert len({span.context.trace_id for span in spans}) == 1
    identities = {span.name: span.context.span_id for span in spans}
    parents = [(span.name, span.parent.span_id if span.parent else None) for span in spans]
    assert sorted(set(parents), key=str) == sorted(
        [("request", None), ("queue", identities["request"]), ("attempt", identities["request"]), ("step", identities["attempt"])], key=str
    )
    first, second = (span for span in spans if span.name == "step")
    assert first.end_time == second.start_time  # one after the other


def test_without_anybody_who_asks_nothing_is_carried(settings: WorkerSettings, engine: Engine) -> None:
    queue_run(engine)
    claim = take(engine)
    assert claim is not None
    assert claim.traceparent is None
    assert tracing.carried() is None


REQUEST = """
import sys
from fastapi.testclient import TestClient
from app.telemetry import tracing
from app.main import create_app
from app.settings import Settings
tracing.configure_tracing("web")
with TestClient(create_app(Settings(home=sys.argv[1]))) as client:
    client.get("/api/v1/runs/7")
tracing.flush()
"""


def test_a_requests_span_is_sent_where_the_environment_says(tmp_path: Path) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
        subprocess.run([sys.executable, "-c", REQUEST, str(tmp_path)], env={**os.environ, **told}, cwd=ROOT, check=True, timeout=240)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert {path for path, _ in received} == {"/v1/traces"}
    sent = b"".join(body for _, body in received)
    assert b"opcod-web" in sent
    assert b"/api/v1/runs/{run_id}" in sent
