"""What keeping the record costs: of a training step, in rows a second, and in bytes.

    python -m tests.benchmarks.record [--database postgresql] [--pairs 4] [--exchanges 10000]

Steps of the demo (24 questions x 8 rollouts, one student after the other, one thread) are made with and without the record, turn
about; the fastest phase of each counts, which a busy machine disturbs least. Without: nothing is recorded token by token, and events
go nowhere. With: every token of every exchange with five alternatives, and events into a database by the thread that writes them in a
run. Then the exchanges that these steps made are written again and again into a database of their own, as fast as it takes them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from app.db import make_engine, migrate, reading, writing
from app.records.exchange_search import search_of
from app.records.ingest import ingest
from opcod.config import ExperimentConfig, load_preset, parse_config
from opcod.events import Event, EventSink, ExchangeRecorded, PhaseFinished, PhaseStarted, RunStarted
from opcod.sinks import FanOut
from opcod.training.trainer import train
from tests.stores import postgres_server
from tests.unit.app.factories import claimed, queued_run
from worker.sinks import LARGEST_BATCH, SqlSink

KEEPS = {"all tokens": None, "8 questions a step (default)": 8, "no tokens": 0}


def demo(steps: int, token_questions: int | None) -> ExperimentConfig:
    data = load_preset("demo")
    data["schedule"] |= {"rounds": 1, "steps_per_round": steps}
    data["evaluation"] |= {"samples": 1, "validation_questions": 4, "test_questions": 1, "initial_test": False, "break_rescue_questions": 0}
    data["recording"] |= {"checkpoint_every_steps": 10_000, "token_questions": token_questions}
    data["compute"] |= {"side_by_side": False, "threads": 1}
    return parse_config(data)


class Never:
    """A stop signal that never comes."""

    def requested(self) -> bool:
        return False


class Watch:
    """Seconds of each phase, from its first event until everything of it is where it belongs; and the exchanges."""

    def __init__(self, sink: EventSink | None) -> None:
        self.sink = sink
        self.phases: list[float] = []
        self.exchanges: list[ExchangeRecorded] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            self.began = time.perf_counter()
        if isinstance(event, ExchangeRecorded):
            self.exchanges.append(event)
        if self.sink is not None:
            self.sink.emit(event)
        if isinstance(event, PhaseFinished):
            self.flush()
            self.phases.append(time.perf_counter() - self.began)

    def flush(self) -> None:
        if self.sink is not None:
            self.sink.flush()


def phases(config: ExperimentConfig, engine: Engine | None) -> Watch:
    """Train, with the record in a database or without any."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sink = None
        if engine is not None:
            run_id = queued_run(engine)
            claim = claimed(engine, run_id, lease_seconds=3600)
            sink = stack.enter_context(SqlSink(engine, run_id, claim.token, lambda: None))
        watch = Watch(sink)
        train(config, folder, FanOut(watch), Never())
        return watch


def cost_of_a_step(engine: Engine, *, pairs: int, steps: int) -> tuple[dict[str, float], list[ExchangeRecorded]]:
    """Seconds of a step with and without the record, and the exchanges that were recorded."""
    best: dict[str, list[float]] = {"without": [], "with": []}
    found: list[ExchangeRecorded] = []
    for _ in range(pairs):
        for kind, tokens, where in (("without", 0, None), ("with", None, engine)):
            watch = phases(demo(steps, tokens), where)
            best[kind].append(min(watch.phases) / steps)
            found = watch.exchanges
    without, kept = min(best["without"]), min(best["with"])
    return {"without_s": without, "with_s": kept, "share": kept / without - 1}, found


def rewritten(exchanges: list[ExchangeRecorded], tokens: int | None) -> Iterator[ExchangeRecorded]:
    """The same exchanges without end, at ever new steps of a run, with the tokens of `tokens` questions a step."""
    last = max(one.exchange.step for one in exchanges)
    for number, one in enumerate(cycle(exchanges)):
        exchange, turn = one.exchange, number // len(exchanges)
        lens = exchange.lens if tokens is None or exchange.group < tokens else None
        moved = replace(exchange, step=exchange.step + turn * last, lens=lens)
        yield one.model_copy(update={"seq": number + 2, "exchange": moved})


def fill(engine: Engine, exchanges: list[ExchangeRecorded], number: int, tokens: int | None) -> dict[str, float]:
    """Write `number` exchanges into an empty database and let them be searched."""
    run_id = queued_run(engine)
    claim = claimed(engine, run_id, lease_seconds=3600)
    with writing(engine) as session:
        ingest(session, run_id, claim.token, [RunStarted(seq=1, students=["student1", "student2"], domains=["densities", "protons"],
               rounds=1, steps_per_round=10**6, questions={}, parameters={})])  # fmt: skip
    before, began = size(engine), time.perf_counter()
    events = islice(rewritten(exchanges, tokens), number)
    while batch := list(islice(events, LARGEST_BATCH)):
        with writing(engine) as session:
            ingest(session, run_id, claim.token, batch)
    written = time.perf_counter() - began
    kept = size(engine) - before
    began = time.perf_counter()
    while search_of(engine).update():
        pass
    return {
        "exchanges_per_s": number / written,
        "mb_per_10000": kept / number * 10_000 / 1e6,
        "index_exchanges_per_s": number / (time.perf_counter() - began),
        "index_mb_per_10000": (index_size(engine) if engine.dialect.name == "sqlite" else size(engine) - before - kept) / number * 1e-2,
    }


def size(engine: Engine) -> int:
    """Bytes of the database."""
    with reading(engine) as session:
        if engine.dialect.name == "postgresql":
            return int(session.connection().execute(text("SELECT pg_database_size(current_database())")).scalar_one())
        pages = session.connection().execute(text("PRAGMA page_count")).scalar_one()
        return int(pages) * int(session.connection().execute(text("PRAGMA page_size")).scalar_one())


def index_size(engine: Engine) -> int:
    """Bytes of the files beside a SQLite database."""
    database = Path(engine.url.database or "")
    return sum(path.stat().st_size for path in database.parent.glob("*") if path.is_file() and not path.name.startswith(database.name))


@contextmanager
def database(kind: str) -> Iterator[Engine]:
    """An empty one."""
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="opcod-record-"))
        url = f"sqlite:///{home}/opcod.db"
        if kind == "postgresql":
            url = f"postgresql+psycopg://opcod@/postgres?host={stack.enter_context(postgres_server())}"
        engine = make_engine(url)
        stack.callback(engine.dispose)
        migrate(engine)
        yield engine


def measure(kind: str, *, pairs: int, steps: int, exchanges: int) -> dict[str, Any]:
    with database(kind) as engine:
        step, recorded = cost_of_a_step(engine, pairs=pairs, steps=steps)
    rows = {}
    for name, tokens in KEEPS.items():
        with database(kind) as engine:
            rows[name] = fill(engine, recorded, exchanges, tokens)
    lengths = [one.exchange.rollout.tokens for one in recorded]
    return {"step": step, "rows": rows, "mean_rollout_tokens": sum(lengths) / len(lengths)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--pairs", type=int, default=4, help="phases with and without the record")
    parser.add_argument("--steps", type=int, default=5, help="steps of a phase")
    parser.add_argument("--exchanges", type=int, default=10_000, help="to write into a database")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    output = given.output or Path(__file__).parent / "results" / f"record-{given.database}.json"
    found = measure(given.database, pairs=given.pairs, steps=given.steps, exchanges=given.exchanges)
    report = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "settings": {key: getattr(given, key) for key in ("database", "pairs", "steps", "exchanges")},
        **found,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
