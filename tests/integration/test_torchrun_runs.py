"""Whole runs by processes that torchrun starts, as on two machines: what one process says, and how they end when one of them does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest

from opcod.config import ExperimentConfig
from tests.integration.test_team_runs import assert_same_run, settings
from tests.integration.training_runs import run

pytestmark = pytest.mark.slow


class Agents:
    """Two torchruns of one process each, which meet; `said` is what all of them print."""

    def __init__(self, processes: list[subprocess.Popen[str]], said: IO[str]) -> None:
        self.processes, self.said = processes, said

    def member(self, rank: int) -> psutil.Process:
        members = [child for agent in self.processes for child in psutil.Process(agent.pid).children()]
        (found,) = [member for member in members if member.environ().get("RANK") == str(rank)]
        return found

    def end(self) -> tuple[list[int], str]:
        """How they end, and what they still say."""
        said = self.said.read()
        return [agent.wait(timeout=60) for agent in self.processes], said


@contextmanager
def torchruns(config: ExperimentConfig, folder: Path, *options: str) -> Iterator[Agents]:
    file = folder.with_suffix(".yaml")
    file.write_text(config.to_yaml())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", folder.name, "--local-addr", "127.0.0.1"),
        *("-m", "opcod", "train", str(file), "--folder", str(folder), "--json", *options),
    ]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    read, write = os.pipe()
    with os.fdopen(read, encoding="utf-8") as said:
        agents = [
            subprocess.Popen(command, stdout=write, stderr=write, text=True, env=environment, start_new_session=True) for _ in range(2)
        ]
        os.close(write)
        members: list[psutil.Process] = []
        try:
            yield Agents(agents, said)
        finally:
            for agent in agents:
                if agent.poll() is None:
                    members += psutil.Process(agent.pid).children(recursive=True)
                    agent.kill()
                agent.wait()
            for member in members:
                if member.is_running():
                    member.kill()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    assert run(settings(1, "opcod"), folder).outcome == "completed"
    return folder


def test_two_machines_say_what_one_process_says(alone: Path, tmp_path: Path) -> None:
    with torchruns(settings(1, "opcod"), tmp_path / "run") as agents:
        codes, said = agents.end()
    assert codes == [0, 0], said
    assert_same_run(tmp_path / "run", alone)


def test_a_member_that_dies_ends_the_run_and_another_number_goes_on(alone: Path, tmp_path: Path) -> None:
    with torchruns(settings(1, "opcod"), tmp_path / "run") as agents:
        assert any('"checkpoint_saved"' in line and '"student1":1' in line.replace(" ", "") for line in agents.said)
        agents.member(1).send_signal(signal.SIGKILL)
        codes, said = agents.end()
    assert codes == [1, 1]
    assert "A process of a student's team ended" in said
    assert run(settings(1, "opcod"), tmp_path / "run").outcome == "completed"
    assert_same_run(tmp_path / "run", alone)


def test_what_ends_the_first_ends_the_others(tmp_path: Path) -> None:
    with torchruns(settings(1, "opcod"), tmp_path / "run", "--set", "compute.gpus=3") as agents:
        codes, said = agents.end()
    assert codes == [1, 1]
    assert "compute.gpus is 3, and torchrun started 2 processes" in said
    assert not (tmp_path / "run").exists()
