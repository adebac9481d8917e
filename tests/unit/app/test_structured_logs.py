from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.db import make_engine
from app.telemetry.structured_logs import LogFormat, log_context, make_handler
from tests.hostile import PAYLOADS, Payload


def logged(form: LogFormat, message: str, *arguments: object, error: Exception | None = None, **fields: object) -> str:
    stream = io.StringIO()
    logger = logging.Logger("app.test")
    logger.addHandler(make_handler(form, stream, program="web"))
    with log_context(run_id=3), log_context(attempt=7, **fields):
        try:
            if error is not None:
                raise error
            logger.warning(message, *arguments)
        except ZeroDivisionError:
            logger.exception(message, *arguments)
    return stream.getvalue()


def test_a_json_line_tells_what_it_belongs_to() -> None:
    line = json.loads(logged("json", "slow by %d s", 3, request_id="abc"))
    moment = line.pop("at")
    assert moment.endswith("+00:00")
    assert line == {
        "level": "WARNING",
        "logger": "app.test",
        "message": "slow by 3 s",
        "program": "web",
        "run_id": 3,
        "attempt": 7,
        "request_id": "abc",
    }


def test_a_traceback_stays_within_its_line() -> None:
    text = logged("json", "failed", error=ZeroDivisionError("nought"))
    assert text.count("\n") == 1
    assert "ZeroDivisionError: nought" in json.loads(text)["error"]


def test_text_for_people_has_the_same_fields() -> None:
    assert logged("text", "slow").rstrip().endswith("WARNING app.test: slow program=web run_id=3 attempt=7")


def test_what_is_logged_cannot_play_with_a_terminal() -> None:
    for form in ("text", "json"):
        text = logged(form, "path %s", "/\x1b[2J\u202e\r")
        assert not set(text) & {"\x1b", "\u202e", "\r"}
        assert text.count("\n") == 1


def test_what_a_line_belongs_to_ends_with_the_work() -> None:
    with log_context(run_id=1):
        pass
    stream = io.StringIO()
    logger = logging.Logger("app.test")
    logger.addHandler(make_handler("json", stream))
    logger.error("after")
    assert "run_id" not in json.loads(stream.getvalue())


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.name)
def test_no_line_of_the_log_can_be_forged(payload: Payload) -> None:
    for told in (logged("text", "asked for %s", payload.text), logged("text", "failed", error=ZeroDivisionError(payload.text))):
        first, *further = told.rstrip("\n").split("\n")
        assert re.match(r"\d{4}-\d\d-\d\d \S+ (WARNING|ERROR) app\.test: ", first)
        assert all(line.startswith("  | ") for line in further)
        assert all(character in "\n\t" or character.isprintable() for character in told)
    assert logged("json", "asked for %s", payload.text).count("\n") == 1


def test_an_error_of_the_database_quotes_no_stored_text(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/opcod.db")
    with pytest.raises(SQLAlchemyError) as caught, engine.connect() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:said)"), {"said": "what a model said"})
    assert "what a model said" not in logged("text", "%s", caught.value)
