"""Requests that nobody thought of, made from the schema: no server error, no undocumented answer, every answer as the schema says.

`make fuzz` asks more of it: OPCOD_FUZZ_EXAMPLES says how many requests each operation gets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import run_state_machine_as_test
from hypothesis.strategies import one_of
from schemathesis import Case, GenerationMode, HookContext
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import Engine

from app.db import migrate, writing
from app.domains.files import Sent
from app.domains.uploads import receive
from app.lifecycle import runs
from app.main import create_app
from app.records.ingest import ingest
from app.settings import Settings
from tests.unit.app.factories import claimed, queued_run, story

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("OPCOD_FUZZ_EXAMPLES", "10"))
LIMITS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="OPCOD_FUZZ_EXAMPLES" not in os.environ,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
ENDLESS = "/api/v1/runs/{run_id}/events"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
IDS = ("run_id", "experiment_id", "sweep_id", "exchange_id", "webhook_id", "upload_id")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """A studio with a run in each state, and something of everything."""
    app = create_app(Settings(home=tmp_path_factory.mktemp("home"), reap_seconds=600))
    migrate(app.state.engine)
    for number in range(6):
        run_id = queued_run(app.state.engine)
        if number < 3:
            claim = claimed(app.state.engine, run_id)
            with writing(app.state.engine) as session:
                runs.mark_running(session, claim)
                ingest(session, run_id, claim.token, story())
                if number < 2:
                    runs.finish(session, claim, "completed" if number else "failed", error=None if number else runs.RunError("data", "x"))
    questions = "".join(f'{{"id": "q{n}", "prompt": "Question {n}?", "answer": "{"AB"[n % 2]}"}}\n' for n in range(9))
    for _ in range(2):
        receive(app.state.engine, app.state.settings, {"train": Sent("facts.jsonl", BytesIO(questions.encode()))}, owner="user")
    yield app
    app.state.engine.dispose()


@pytest.fixture(scope="module")
def described(app: FastAPI) -> Any:
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)

    @schema.hook
    def map_path_parameters(context: HookContext, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        """Most ids are of something that is there."""
        return {
            name: value % 7 + 1 if name in IDS and isinstance(value, int) and value % 4 else value
            for name, value in (path_parameters or {}).items()
        }

    return schema.exclude(path=ENDLESS)


def modes(operation: Any) -> list[GenerationMode]:
    """Requests that the schema allows, and such that it forbids where it forbids any."""
    takes = operation.path_parameters or operation.query or operation.headers or operation.body
    return [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if takes else [GenerationMode.POSITIVE]


def test_every_operation_keeps_its_word(described: Any) -> None:
    """All operations are gone through, so that one fault hides no other."""
    faults = []
    for found in described.get_all_operations():
        operation = found.ok()

        @LIMITS
        @given(case=one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes(operation))))
        def keeps_its_word(case: Case[Any]) -> None:
            case.call_and_validate(checks=CHECKS)

        try:
            keeps_its_word()
        except Exception as fault:  # the application's own faults come through the transport as they are
            faults.append(f"{operation.method.upper()} {operation.path}: {type(fault).__name__} {fault} {getattr(fault, '__notes__', '')}")
    assert not faults, "\n\n".join(faults)


def test_lives_from_creation_to_the_end_keep_their_word(described: Any, app: FastAPI) -> None:
    """Each life begins with the same studio, so that what was found once is found again."""
    engine: Engine = app.state.engine
    database = Path(str(engine.url.database))
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    beginning = database.read_bytes()

    class Lives(described.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            engine.dispose()
            for path in database.parent.glob(f"{database.name}*"):
                path.unlink()
            database.write_bytes(beginning)

        def validate_response(self, response: Any, case: Case[Any], **_: Any) -> None:
            case.validate_response(response, checks=CHECKS)

    run_state_machine_as_test(Lives, settings=settings(LIMITS, max_examples=EXAMPLES * 2, stateful_step_count=8))
