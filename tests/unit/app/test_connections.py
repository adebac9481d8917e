"""Which of a database's connections is used."""

from contextlib import ExitStack

from sqlalchemy import text

from app.db import make_engine


def test_who_asks_alone_gets_the_same_connection_again(postgres_folder: str) -> None:
    """Its statements are prepared: in turn, each of the pool's connections would start cold."""
    engine = make_engine(f"postgresql+psycopg://opcod@/postgres?host={postgres_folder}")
    own_number = text("SELECT pg_backend_pid()")
    with ExitStack() as stack:
        together = {stack.enter_context(engine.connect()).execute(own_number).scalar_one() for _ in range(4)}
    alone = set()
    for _ in range(4):
        with engine.connect() as connection:
            alone.add(connection.execute(own_number).scalar_one())
    engine.dispose()
    assert len(together) == 4
    assert len(alone) == 1
