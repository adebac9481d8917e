"""`opcod up` as a whole: it starts, answers, restarts what dies, refuses a second of its kind and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.client import Client
from tests.integration.studio import Studio, await_value, processes_of, studio

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")]


def workers(client: Client) -> list[str]:
    return [worker["name"] for worker in client.request("GET", "/workers")["items"]]


def leaves_nothing(up: Studio, number: int) -> None:
    assert up.stop(number) == 0
    assert processes_of(up.home) == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(up.url.rsplit(":", 1)[1]))) != 0


def test_sigterm_leaves_no_process_behind(tmp_path: Path) -> None:
    with studio(tmp_path / "home") as up:
        await_value(lambda: workers(up.client), seconds=180, what="the worker's first heartbeat")
        assert len(processes_of(up.home)) >= 3
        leaves_nothing(up, signal.SIGTERM)


def test_a_second_studio_in_the_same_home_is_refused_and_the_first_goes_on_until_ctrl_c(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with studio(home) as up:
        command = [sys.executable, "-m", "app.cli", "up", "--home", str(home), "--port", "0"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert second.returncode == 2
        assert up.url in second.stderr
        assert str(up.process.pid) in second.stderr
        assert up.client.ready()
        leaves_nothing(up, signal.SIGINT)


def test_what_is_killed_hard_comes_back_and_so_does_the_studio_itself(tmp_path: Path) -> None:
    home = tmp_path / ("deep" * 20) / "home"  # too deep for a socket inside it
    with studio(home) as up:
        before = await_value(lambda: workers(up.client), seconds=180, what="the worker's first heartbeat")
        broker = next(pid for pid in processes_of(home) if b"valkey" in Path(f"/proc/{pid}/cmdline").read_bytes())
        for pid in (up.child("app.cli"), broker, up.child("worker")):
            os.kill(pid, signal.SIGKILL)

        def new_worker() -> bool:
            return up.client.ready() and any(name not in before for name in workers(up.client))

        await_value(new_worker, seconds=180, what="a new worker")
        await_value(lambda: not up.client.request("GET", "/health")["reasons"], seconds=90, what="full health")
        assert up.log.count("ended unexpectedly (killed by SIGKILL)") == 3
        up.process.kill()
        up.process.wait()
        await_value(lambda: not processes_of(home), seconds=90, what="the end of what the studio had started")
    with studio(home) as up:
        leaves_nothing(up, signal.SIGTERM)
