from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from app.db import altering, make_engine, migrate, migration_config
from app.tables import NEVER_REUSED, metadata
from tests.unit.app.factories import queued_run


def test_migrations_give_exactly_the_tables_of_the_code(engine: Engine) -> None:
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    with engine.begin() as connection:
        columns = "name, host, pid, device, run_id, started_at, seen_at"
        connection.execute(text(f"INSERT INTO workers ({columns}) VALUES ('w', 'h', 1, 'cpu', NULL, '2026-01-01', '2026-01-01')"))
    migrate(engine)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM workers")).scalar() == 1


def test_the_way_back_leaves_no_table(engine: Engine) -> None:
    with engine.begin() as connection:
        command.downgrade(migration_config(connection), "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]


def test_servers_that_start_together_migrate_once(tmp_path: Path) -> None:
    engines = [make_engine(f"sqlite:///{tmp_path / 'opcod.db'}") for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(migrate, engines))
    assert "runs" in inspect(engines[0]).get_table_names()
    for engine in engines:
        engine.dispose()


def test_a_table_that_is_rebuilt_keeps_the_rows_that_refer_to_it(engine: Engine) -> None:
    run_id = queued_run(engine)
    with altering(engine) as connection:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("runs", table_kwargs=NEVER_REUSED) as batch:
            batch.alter_column("name", nullable=True)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT run_id FROM transitions")).scalar() == run_id


def test_a_row_that_refers_to_nothing_stops_an_alteration(engine: Engine) -> None:
    queued_run(engine)
    with pytest.raises(IntegrityError), altering(engine) as connection:
        connection.execute(text("DELETE FROM runs"))
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM runs")).scalar() == 1
