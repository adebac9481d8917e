"""Many readers at once, of a service with few threads: each is answered, and none waits for another who waits for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx

from app.main import create_app
from app.settings import Settings
from tests.integration.service import served
from tests.unit.app.factories import queued_run


def test_more_readers_than_connections_are_all_answered(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path / "home", request_threads=2))
    with served(app) as address:
        run_id = queued_run(app.state.engine)
        paths = ("/", f"/runs/{run_id}", f"/runs/{run_id}/series", f"/api/v1/runs/{run_id}", "/api/v1/runs", "/api/v1/queue")

        async def ask() -> Counter[int]:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            async with httpx.AsyncClient(base_url=address, timeout=None, limits=limits) as client:
                answers = await asyncio.gather(*(client.get(path) for path in paths * 20))
            return Counter(answer.status_code for answer in answers)

        assert asyncio.run(ask()) == {200: 120}  # a wait for a connection that never comes ends with 503
