from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from app.db import make_engine, migrate
from tests.stores import PostgresUnavailableError, postgres_server

names = count(1)


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[str]:
    try:
        server = postgres_server()
        folder = server.__enter__()
    except PostgresUnavailableError as reason:
        pytest.skip(f"no PostgreSQL: {reason}")
    yield folder
    server.__exit__(None, None, None)


@pytest.fixture(scope="session")
def postgres_template(postgres_folder: str) -> str:
    """A migrated database that others are copied from."""
    admin = make_engine(f"postgresql+psycopg://opcod@/postgres?host={postgres_folder}").execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE template_opcod"))
    admin.dispose()
    template = make_engine(f"postgresql+psycopg://opcod@/template_opcod?host={postgres_folder}")
    migrate(template)
    template.dispose()
    return postgres_folder


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file that others are copied from."""
    path = tmp_path_factory.mktemp("template") / "opcod.db"
    engine = make_engine(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def lasting_engine(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A SQLite database that the examples of property tests share."""
    engine = make_engine(f"sqlite:///{shutil.copy(sqlite_template, tmp_path_factory.mktemp('lasting') / 'opcod.db')}")
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> str:
    """A migrated database of its own for each test."""
    if request.param == "sqlite":
        return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'opcod.db')}"
    folder = request.getfixturevalue("postgres_template")
    name = f"test{next(names)}"
    admin = make_engine(f"postgresql+psycopg://opcod@/postgres?host={folder}").execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template_opcod"))
    admin.dispose()
    return f"postgresql+psycopg://opcod@/{name}?host={folder}"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database without tables."""
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    if request.param == "postgresql":
        folder = request.getfixturevalue("postgres_folder")
        name = f"empty{next(names)}"
        admin = make_engine(f"postgresql+psycopg://opcod@/postgres?host={folder}").execution_options(isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        url = f"postgresql+psycopg://opcod@/{name}?host={folder}"
    engine = make_engine(url)
    yield engine
    engine.dispose()
