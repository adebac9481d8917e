from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db import migrate
from app.main import create_app
from app.settings import Settings


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = create_app(Settings(home=tmp_path_factory.mktemp("home")))
    migrate(app.state.engine)
    client = TestClient(app, raise_server_exceptions=False)
    yield client
    client.close()
    app.state.engine.dispose()


@pytest.fixture(scope="module")
def engine(client: TestClient) -> Engine:
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    return engine


@pytest.fixture
def templates() -> Path:
    return Path(__file__).parents[3] / "templates"
