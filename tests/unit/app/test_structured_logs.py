from __future__ import annotations

import io
import json
import logging

from app.structured_logs import LogFormat, log_context, make_handler


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
