from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from app.db import reading, writing
from app.records.ingest import ingest
from app.web import series as module
from app.web.series import series
from tests.unit.app.factories import claimed, queued_run, story


def test_what_is_asked_for_in_parts_is_the_whole(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    with writing(engine) as session:
        ingest(session, run_id, claim.token, story())
    with reading(engine) as session:
        whole = series(session, run_id)
    assert not whole["more"]
    assert {name: len(whole[name]) for name in ("metrics", "evaluations", "gates", "outcomes", "break_rescue")} == {
        "metrics": 3,
        "evaluations": 4,
        "gates": 1,
        "outcomes": 2,
        "break_rescue": 0,
    }
    monkeypatch.setattr(module, "EVENTS_AT_ONCE", 3)
    cursor, parts = 0, dict[str, list[Any]]()
    while True:
        with reading(engine) as session:
            part = series(session, run_id, cursor)
        for name in ("evaluations", "gates"):
            parts.setdefault(name, []).extend(part[name])
        parts.setdefault("metrics", []).extend([part["names"][name], step, value] for name, step, value in part["metrics"])
        cursor = part["cursor"]
        if not part["more"]:
            break
    assert cursor == whole["cursor"]
    assert parts["evaluations"] == whole["evaluations"]
    assert parts["gates"] == whole["gates"]
    assert parts["metrics"] == [[whole["names"][name], step, value] for name, step, value in whole["metrics"]]
    with reading(engine) as session:
        assert series(session, run_id, cursor)["cursor"] == cursor  # nothing new: ask again from the same place
