"""Words and counts of exchanges, to search and to filter by: kept off the writing path, and made anew whenever they are lost.

Training writes exchanges and nothing else. A task of the web server follows behind and fills the index: on SQLite a file of
its own beside the database (FTS5), so that no writer ever waits for it; on PostgreSQL the schema ``search`` (tsvector, GIN).
It is no part of migrations and backups. SQL moves the texts within the database; no thread of Python's is held up by them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, TextClause, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from app.records.search_sql import BEHIND, COUNT, COUNTED, MARK, POSTGRES, SQLITE, STALE, UPTO, Dialect, fact, fts5, tsquery
from app.records.search_terms import Term
from app.records.search_windows import Window, window_from

VERSION = 1
"""Another one makes the index anew."""
BATCH = 500
"""Exchanges of one transaction."""
EVERY_SECONDS = 1.0
FEW, FEW_FOR_ONE = 10_000, 40
"""Matches that PostgreSQL expects: so many, and so many more for each that is wanted, are all fetched and sorted; where it expects
more it goes through the exchanges in their order until it has what is wanted."""
LOOKS_THROUGH = {"sqlite": 100_000, "postgresql": 3_000}
"""Texts that have all the words of a search, looked into for their places in about 15 ms."""
MOST_KEPT = 32
"""Runs whose counts stay in memory, as long as nothing is added."""
_LOCK = 0x0DC0E
_UPTO = "SELECT upto FROM INDEX.indexed WHERE run_id = :run_id"
Kind = tuple[Sequence[Any], int]
"""What exchanges have in common, as in `COUNTED`, and how many they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """A run's exchanges up to `upto`, counted by what they have in common."""

    upto: int
    kinds: Sequence[Kind]
    told: dict[Any, Any] = field(default_factory=dict)
    """What was worked out of them for a filter; `app.records.exchange_facets` keeps it here."""


class ExchangeSearch:
    """The index beside one database."""

    def __init__(self, engine: Engine) -> None:
        self._sqlite = engine.dialect.name == "sqlite"
        self._sql: Dialect = SQLITE if self._sqlite else POSTGRES
        self._prepared = False
        self._counted: dict[int, Counts] = {}
        self._engine = self._beside(engine) if self._sqlite else engine

    @staticmethod
    def _beside(engine: Engine) -> Engine:
        database = Path(engine.url.database or "opcod.db")
        made = create_engine(f"sqlite:///{database.with_name(f'{database.stem}-search.db')}", poolclass=NullPool, hide_parameters=True)

        def prepare(connection: Any, _record: Any) -> None:
            connection.isolation_level = None
            for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=NORMAL"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("ATTACH DATABASE ? AS source", (str(database),))

        event.listen(made, "connect", prepare)
        event.listen(made, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))  # locks only what is written: the index
        return made

    def find(
        self,
        session: Session,
        facts: Mapping[str, Any],
        terms: Sequence[Term],
        *,
        among: Sequence[int] | None = None,
        after: int | None = None,
        until: int | None = None,
        window: Window | None = None,
        newest_first: bool = False,
        limit: int,
    ) -> list[int]:
        """Ids of exchanges of which the facts hold, the run's number among them, and whose texts have the terms; in order.

        `after` is the last id of the page before, `until` the highest to be found, `among` whatever else they must be one of; in a
        `window` all those are found that lie in it.
        """
        bound: dict[str, Any] = {"run_id": facts["run"], "limit": limit}
        if self._sqlite:
            known = [fact(name, value) for name, value in facts.items() if value is not None]
            sql, bound["wanted"], key = self._sql.search, fts5(known, terms), "rowid"
            order = key
            if window is not None and window.beyond is not None:  # FTS5 looks for the next hit, however far: it has one behind the window
                stop = fts5([fact("run", facts["run"]), fact("step", window.beyond)], ())
                bound["wanted"] = f"({bound['wanted']}) OR ({stop})"
        else:
            sql, values = self._asked(facts, terms)
            key, bound = "id", bound | values
            # PostgreSQL takes looking into a text for cheap, and would look into all of a run's for a word that few of them have.
            order = "id" if window is not None or self._expects_many(session, sql, bound) else "id + 0"
        if window is not None:
            sql, bound["last"] = f"{sql} AND {key} {'>=' if newest_first else '<='} :last", window.last
        if after is not None:
            sql, bound["after"] = f"{sql} AND {key} {'<' if newest_first else '>'} :after", after
        if until is not None:
            sql, bound["until"] = f"{sql} AND {key} <= :until", until
        if among is not None:
            sql, bound["among"] = f"{sql} AND {key} IN ({self._sql.listed})", json.dumps(list(among))
        with self._reading(session) as connection:
            found = connection.execute(self._text(f"{sql} ORDER BY {order} {'DESC' if newest_first else 'ASC'} LIMIT :limit"), bound)
            return [row[0] for row in found]

    def window(
        self, session: Session, facts: Mapping[str, Any], terms: Sequence[Term], *, after: int | None, newest_first: bool
    ) -> Window | None:
        """How far from `after` on a search goes at once that may have to look into many texts; None: to the run's end."""
        if not self._may_take_long(session, facts, terms):
            return None
        length = LOOKS_THROUGH["sqlite" if self._sqlite else "postgresql"]
        return window_from(session, facts["run"], after, length, by_step=self._sqlite, newest_first=newest_first)

    def _may_take_long(self, session: Session, facts: Mapping[str, Any], terms: Sequence[Term]) -> bool:
        if self._sqlite:
            return any(len(term.words) > 1 and not term.absent for term in terms)
        sql, values = self._asked(facts, terms)
        return self._expects_many(session, sql, {"run_id": facts["run"], "limit": 1, **values})

    def _asked(self, facts: Mapping[str, Any], terms: Sequence[Term]) -> tuple[str, dict[str, str]]:
        """PostgreSQL's statement, and what is bound in it besides the run.

        A column tells the run as well: with another fact the index need not go through all of the run's.
        """
        known = [fact(name, value) for name, value in facts.items() if value is not None and name != "run"]
        wanted, values = tsquery(known or [fact("run", facts["run"])], terms)
        return self._sql.search.replace("{wanted}", wanted), values

    def _expects_many(self, session: Session, sql: str, bound: Mapping[str, Any]) -> bool:
        with self._reading(session) as connection:
            plan = connection.execute(self._text(f"EXPLAIN (FORMAT JSON) {sql}"), bound).scalar_one()
        return bool(plan[0]["Plan"]["Plan Rows"] > FEW + FEW_FOR_ONE * bound["limit"])

    def upto(self, session: Session, run_id: int) -> int:
        """The run's last exchange that the index knows; 0 for none."""
        with self._reading(session) as connection:
            return connection.execute(self._text(_UPTO), {"run_id": run_id}).scalar() or 0

    def counts(self, session: Session, run_id: int) -> Counts:
        """How many exchanges there are of each kind: the same object, as long as none is added."""
        with self._reading(session) as connection:
            bound = {"run_id": run_id}
            upto = connection.execute(self._text(_UPTO), bound).scalar() or 0
            known = self._counted.get(run_id)
            if known is None or known.upto != upto:
                listed = f"SELECT {', '.join(COUNTED)}, exchanges FROM INDEX.exchange_counts WHERE run_id = :run_id"
                known = Counts(upto, [(tuple(row[:-1]), row[-1]) for row in connection.execute(self._text(listed), bound)])
                if len(self._counted) >= MOST_KEPT:
                    self._counted.clear()
                self._counted[run_id] = known
            return known

    def update(self) -> bool:
        """Follow every run that is ahead of the index by a batch; whether any still is."""
        self._prepare()
        with self._engine.connect() as connection:
            behind = connection.execute(self._text(BEHIND)).all()
        more = False
        for run_id, created_at, _ in behind:
            with self._alone() as connection:
                if connection is None:
                    return False
                more = self._follow(connection, run_id, created_at) or more
        return more

    def _follow(self, connection: Connection, run_id: int, created_at: str) -> bool:
        bound: dict[str, Any] = {"run_id": run_id, "created_at": created_at, "batch": BATCH}
        row = connection.execute(self._text(_UPTO), bound).scalar()
        gone = connection.execute(self._text("SELECT 1 FROM SOURCE.runs WHERE id = :run_id AND deleted_at IS NULL"), bound).scalar() is None
        bound["after"] = row or 0
        bound["upto"] = None if gone else connection.execute(self._text(UPTO), bound).scalar()
        if bound["upto"] is None:
            return False
        for statement in (self._sql.words, COUNT, MARK):
            connection.execute(self._text(statement), bound)
        return True

    def forget(self, run_id: int) -> None:
        """Take a run out, before its rows go."""
        while True:
            with self._alone(wait=True) as connection:
                assert connection is not None
                bound: dict[str, Any] = {"run_id": run_id, "batch": BATCH}
                bound["upto"] = connection.execute(self._text(_UPTO), bound).scalar() or 0
                lowest = """SELECT min(id) FROM (SELECT id FROM SOURCE.exchanges WHERE run_id = :run_id AND id <= :upto
                    ORDER BY id DESC LIMIT :batch) AS batch"""
                first = connection.execute(self._text(lowest), bound).scalar()
                if first is None:
                    for table in ("exchange_counts", "indexed"):
                        connection.execute(self._text(f"DELETE FROM INDEX.{table} WHERE run_id = :run_id"), bound)
                    return
                bound["after"] = first - 1
                connection.execute(self._text(self._sql.forget), bound)
                connection.execute(self._text("UPDATE INDEX.indexed SET upto = :after WHERE run_id = :run_id"), bound)

    def reset(self) -> None:
        """Throw the index away; it is made anew. For a database whose rows were exchanged for others."""
        self._prepared = False
        self._counted.clear()
        with self._engine.begin() as connection:
            for statement in self._sql.drop:
                connection.execute(self._text(statement))

    def _prepare(self) -> None:
        if self._prepared:
            return
        with self._engine.begin() as connection:
            if self._sqlite:
                connection.execute(text("CREATE TABLE IF NOT EXISTS starting (id INTEGER)"))  # the write lock: one makes it, others look
                made = connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'about'")).scalar()
            else:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                made = connection.execute(text("SELECT to_regclass('search.about')")).scalar()
            version = connection.execute(self._text("SELECT version FROM INDEX.about")).scalar() if made else None
            if version != VERSION or connection.execute(self._text(STALE)).scalar():
                for statement in (*self._sql.drop, *self._sql.make):
                    connection.execute(self._text(statement))
                connection.execute(self._text("INSERT INTO INDEX.about (version) VALUES (:version)"), {"version": VERSION})
        self._prepared = True

    @contextmanager
    def _reading(self, session: Session) -> Iterator[Connection]:
        """On PostgreSQL the session's own connection: who waits for a second one may wait for ever."""
        self._prepare()
        if not self._sqlite:
            yield session.connection()
            return
        with self._engine.connect() as connection:
            try:
                yield connection
            except OperationalError:
                self._prepared = False  # the file may have been taken away
                raise

    @contextmanager
    def _alone(self, *, wait: bool = False) -> Iterator[Connection | None]:
        """A transaction that writes the index; None while another process does, unless one waits for it."""
        self._prepare()
        with self._engine.begin() as connection:
            if self._sqlite:
                connection.execute(text("UPDATE about SET version = version"))  # takes the index's write lock before anything is read
            elif wait:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            elif not connection.execute(text(f"SELECT pg_try_advisory_xact_lock({_LOCK})")).scalar():
                yield None
                return
            yield connection

    def _text(self, statement: str) -> TextClause:
        places = ("main.", "source.") if self._sqlite else ("search.", "")
        return text(statement.replace("INDEX.", places[0]).replace("SOURCE.", places[1]))


_KNOWN: dict[str, ExchangeSearch] = {}


def search_of(engine: Engine) -> ExchangeSearch:
    """The index beside the engine's database."""
    address = engine.url.render_as_string(hide_password=False)
    if address not in _KNOWN:
        _KNOWN[address] = ExchangeSearch(engine.engine if hasattr(engine, "engine") else engine)
    return _KNOWN[address]
