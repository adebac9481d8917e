"""Webhooks are listed with their newest deliveries, however many there are, in a fixed number of queries."""

from __future__ import annotations

from sqlalchemy import Engine, event

from app.db import now, reading, writing
from app.webhooks import registry
from app.webhooks.tables import DeliveryRow, DeliveryTryRow, WebhookRow


def hook(engine: Engine, deliveries: int) -> int:
    with writing(engine) as session:
        row = WebhookRow(owner="local", url="https://example.org", events=["run.failed"], sealed_secret="")
        session.add(row)
        session.flush()
        for number in range(deliveries):
            told = DeliveryRow(webhook_id=row.id or 0, event="run.failed", body={"number": number})
            session.add(told)
            session.flush()
            for status in (500, 200 + number):
                session.add(DeliveryTryRow(delivery_id=told.id or 0, at=now(), status=status, seconds=0.1, answer="well"))
        return row.id or 0


def test_each_webhook_has_its_newest_deliveries(engine: Engine) -> None:
    ids = [hook(engine, number) for number in (3, 0, 1, 7)]
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    with reading(engine) as session:
        found = registry.newest_deliveries(session, ids, 2)
    assert len([statement for statement in asked if statement.startswith("SELECT")]) == 2
    with reading(engine) as session:
        assert [found.get(one, []) for one in ids] == [registry.deliveries(session, one, limit=2)[0] for one in ids]
        assert registry.newest_deliveries(session, [], 2) == {}
    assert [told.last_status for told in found[ids[3]]] == [206, 205]
