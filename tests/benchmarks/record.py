"""What keeping the record costs: of a training step, in rows a second, and in bytes.

    python -m tests.benchmarks.record [--database postgresql] [--pairs 4] [--exchanges 10000]
    python -m tests.benchmarks.record --model FOLDER --questions 8 --response-tokens 256     # another student than the demo's
    python -m tests.benchmarks.record --pairs 0 --keep default --exchanges 1000000           # only what a million exchanges take

Steps of the demo (24 questions x 8 rollouts, one student after the other, one thread) are made with and without the record, turn
about; the least that each phase took counts, which a busy machine disturbs least. Without: nothing is recorded token by token, and events
go nowhere. With: every token of every exchange with five alternatives, and events into a database by the thread that writes them in a
run. Beside the time stands processor time, which other programs make longer less: of the training thread, and of everything, the
database's processes included. Then the exchanges that these steps made are written again and again into a database of their own, as
fast as it takes them.

With `--model` both students are that one (`random`: 0.4 million random weights) and as many tokens are kept as by default (8 questions
a step). It is taught by what its tutor says, whatever that is, since nobody can expect right answers of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, fields, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
from sqlalchemy import Engine, text

from app.db import make_engine, migrate, reading, writing
from app.records.exchange_search import search_of
from app.records.ingest import ingest
from opcod.config import ExperimentConfig, RecordingConfig, load_preset, parse_config
from opcod.events import Event, EventSink, ExchangeRecorded, PhaseFinished, PhaseStarted, RunStarted
from opcod.sinks import FanOut
from opcod.training.trainer import train
from tests.benchmarks.bench_step import make_tiny_model
from tests.stores import postgres_server
from tests.unit.app.factories import claimed, queued_run
from worker.sinks import LARGEST_BATCH, SqlSink

KEEPS = {"all": None, "default": RecordingConfig().token_questions, "none": 0}
"""How many questions of a step are written token by token."""
Server = Callable[[], Sequence[psutil.Process]]
"""The processes of a database, as they are now."""


@dataclass(frozen=True, slots=True)
class World:
    """Whose steps are made: the demo's, or another student's."""

    model: str | None = None
    questions: int = 24
    response_tokens: int = 32

    @property
    def token_questions(self) -> int | None:
        """As many as are recorded token by token."""
        return None if self.model is None else RecordingConfig().token_questions

    def config(self) -> dict[str, Any]:
        data = load_preset("demo")
        data["schedule"]["questions_per_step"] = self.questions
        data["generation"]["max_response_tokens"] = self.response_tokens
        if self.model is not None:
            data["students"] = [student | {"model": self.model} for student in data["students"]]
            said = {"style": "generic", "max_tokens": self.response_tokens}
            data["method"] = {"feedback": said, "gate": {"strategy": "always"}}
            del data["generation"]["max_prompt_tokens"]
        return data


def experiment(world: World, steps: int, token_questions: int | None) -> ExperimentConfig:
    """One round of so many steps, and next to nothing beside them."""
    data = world.config()
    data["schedule"] |= {"rounds": 1, "steps_per_round": steps}
    data["evaluation"] |= {"samples": 1, "validation_questions": 4, "test_questions": 1, "initial_test": False, "break_rescue_questions": 0}
    data["recording"] |= {"checkpoint_every_steps": 10_000, "token_questions": token_questions}
    data["compute"] |= {"side_by_side": False, "threads": 1}
    return parse_config(data)


class Never:
    """A stop signal that never comes."""

    def requested(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds: by the clock, of the training thread's processor, and of every processor that worked for the run."""

    wall_s: float
    thread_s: float
    processor_s: float

    @staticmethod
    def so_far(server: Server) -> Spent:
        return Spent(time.perf_counter(), time.thread_time(), time.process_time() + sum(map(processor_time, server())))

    def since(self, before: Spent, steps: int) -> Spent:
        return Spent(*((here - there) / steps for here, there in zip(astuple(self), astuple(before), strict=True)))


def processor_time(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.NoSuchProcess:
        return 0.0


class Watch:
    """What each phase took, from its first event until everything of it is where it belongs; and the exchanges."""

    def __init__(self, sink: EventSink | None, server: Server, steps: int) -> None:
        self.sink, self.server, self.steps = sink, server, steps
        self.phases: list[Spent] = []
        self.exchanges: list[ExchangeRecorded] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            self.began = Spent.so_far(self.server)
        if isinstance(event, ExchangeRecorded):
            self.exchanges.append(event)
        if self.sink is not None:
            self.sink.emit(event)
        if isinstance(event, PhaseFinished):
            self.flush()
            self.phases.append(Spent.so_far(self.server).since(self.began, self.steps))

    def flush(self) -> None:
        if self.sink is not None:
            self.sink.flush()


def phases(config: ExperimentConfig, engine: Engine | None, server: Server = list) -> Watch:
    """Train, with the record in a database or without any."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sink = None
        if engine is not None:
            run_id = queued_run(engine)
            claim = claimed(engine, run_id, lease_seconds=3600)
            sink = stack.enter_context(SqlSink(engine, run_id, claim.token, lambda: None))
        watch = Watch(sink, server, config.schedule.steps_per_round)
        train(config, folder, FanOut(watch), Never())
        return watch


def cost_of_a_step(
    engine: Engine, server: Server, world: World, *, pairs: int, steps: int
) -> tuple[dict[str, Any], list[ExchangeRecorded]]:
    """What a step takes with and without the record, and the exchanges that were recorded. Either way the phases do the same, so that
    the least that each of them took is compared.
    """
    spent: dict[str, list[list[Spent]]] = {"without": [], "with": []}
    found: list[ExchangeRecorded] = []
    for _ in range(pairs):
        for kind, tokens, where in (("without", 0, None), ("with", world.token_questions, engine)):
            watch = phases(experiment(world, steps, tokens), where, server)
            spent[kind].append(watch.phases)
            found = watch.exchanges
    least = {
        kind: {
            clock.name: fmean(min(getattr(each, clock.name) for each in phase) for phase in zip(*runs, strict=True))
            for clock in fields(Spent)
        }
        for kind, runs in spent.items()
    }
    ratios = {name: least["with"][name] / least["without"][name] for name in least["with"]}
    return least | {"with_over_without": ratios}, found


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
    before = size(engine)
    events = islice(rewritten(exchanges, tokens), number)
    moments = [time.perf_counter()]
    while batch := list(islice(events, LARGEST_BATCH)):
        with writing(engine) as session:
            ingest(session, run_id, claim.token, batch)
        moments.append(time.perf_counter())
    written = moments[-1] - moments[0]
    tenth = max(1, len(moments) // 10)
    kept = size(engine) - before
    began = time.perf_counter()
    while search_of(engine).update():
        pass
    return {
        "exchanges_per_s": number / written,
        "first_tenth_per_s": tenth * LARGEST_BATCH / (moments[tenth] - moments[0]),
        "last_tenth_per_s": tenth * LARGEST_BATCH / (moments[-1] - moments[-1 - tenth]),
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
def database(kind: str) -> Iterator[tuple[Engine, Server]]:
    """An empty one, and its processes beside this one."""
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="opcod-record-"))
        url, server = f"sqlite:///{home}/opcod.db", list
        if kind == "postgresql":
            folder = stack.enter_context(postgres_server())
            url = f"postgresql+psycopg://opcod@/postgres?host={folder}"
            server = psutil.Process(int(Path(folder, "data/postmaster.pid").read_text().split()[0])).children
        engine = make_engine(url)
        stack.callback(engine.dispose)
        migrate(engine)
        yield engine, server


def measure(kind: str, world: World, *, pairs: int, steps: int, exchanges: int, keeps: Sequence[str]) -> dict[str, Any]:
    with database(kind) as (engine, server):
        step, recorded = cost_of_a_step(engine, server, world, pairs=pairs, steps=steps) if pairs else (None, [])
    recorded = recorded or phases(experiment(world, steps, None), None).exchanges
    rows = {}
    for name in keeps:
        with database(kind) as (engine, _):
            rows[name] = fill(engine, recorded, exchanges, KEEPS[name])
    lengths = [one.exchange.rollout.tokens for one in recorded]
    return {"step": step, "rows": rows, "mean_rollout_tokens": sum(lengths) / len(lengths)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--pairs", type=int, default=4, help="phases with and without the record; 0: only rows are written")
    parser.add_argument("--steps", type=int, default=5, help="steps of a phase")
    parser.add_argument("--exchanges", type=int, default=10_000, help="to write into a database; 0: only steps are made")
    parser.add_argument("--keep", choices=[*KEEPS], help="whose tokens are written with them; each in turn if not given")
    parser.add_argument("--model", help="folder of a student, or random; the demo's if not given")
    parser.add_argument("--questions", type=int, default=World().questions, help="of a step")
    parser.add_argument("--response-tokens", type=int, default=World().response_tokens, help="of a rollout, and of a feedback with --model")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    output = given.output or Path(__file__).parent / "results" / f"record-{given.database}.json"
    keeps = [] if given.exchanges == 0 else [given.keep] if given.keep else [*KEEPS]
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_model(Path(folder)) if given.model == "random" else given.model
        world = World(model, given.questions, given.response_tokens)
        found = measure(given.database, world, pairs=given.pairs, steps=given.steps, exchanges=given.exchanges, keeps=keeps)
    asked = ("database", "pairs", "steps", "exchanges", "model", "questions", "response_tokens")
    report = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "settings": {key: getattr(given, key) for key in asked},
        **found,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
