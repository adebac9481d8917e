"""The parts of `opcod up`: the home's lock, the port, the broker's socket, and the supervisor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from app.processes import embedded
from app.processes.embedded import broker_socket_path, clear_broker_socket, owned_home
from app.processes.listening import listening
from app.processes.supervisor import Program, Supervisor
from opcod.errors import ResourceError
from tests.integration.studio import await_value


def opcod(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env={**os.environ, **environment}, check=False)


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        answer = opcod("up", "--home", str(tmp_path / "home"), "--port", str(port))
    assert answer.returncode == 2
    assert f"Port {port}" in answer.stderr
    assert "--port" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "home" / "opcod.db").exists()


def test_an_address_that_others_can_reach_is_refused_unless_people_sign_in(tmp_path: Path) -> None:
    answer = opcod("up", "--home", str(tmp_path), "--host", "0.0.0.0", "--port", "0")
    assert answer.returncode == 2
    assert "OPCOD_AUTH=password" in answer.stderr
    with listening("0.0.0.0", 0, guarded=True) as listener:
        assert listener.getsockname()[1] > 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_by_any_name_is_fine(host: str) -> None:
    with listening(host, 0) as listener:
        assert listener.getsockname()[1] > 0


def test_an_unknown_host_is_said() -> None:
    with pytest.raises(ResourceError, match="There is no host"), listening("no such host.invalid", 0):
        pass


def test_a_home_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = opcod("up", "--home", str(tmp_path / "file" / "home"), "--port", "0")
    assert answer.returncode == 2
    assert "cannot be written" in answer.stderr
    assert "--home" in answer.stderr


def test_a_home_has_one_owner_and_is_free_after_it(tmp_path: Path) -> None:
    with owned_home(tmp_path) as note:
        note({"pid": 4321, "url": "http://127.0.0.1:8000"})
        with pytest.raises(ResourceError, match=r"process 4321, http://127\.0\.0\.1:8000"), owned_home(tmp_path):
            pass
    with owned_home(tmp_path):
        pass


def test_an_unknown_preset_is_said_before_anything_starts(tmp_path: Path) -> None:
    answer = opcod("up", "--home", str(tmp_path / "home"), "--demo", "nosuch", "--port", "0")
    assert answer.returncode == 2
    assert "nosuch" in answer.stderr
    assert not (tmp_path / "home").exists()


def test_a_database_that_is_away_is_said(tmp_path: Path) -> None:
    url = "postgresql://nobody:secretword@127.0.0.1:9/none"
    answer = opcod("up", "--home", str(tmp_path / "home"), "--port", "0", OPCOD_DATABASE_URL=url)
    assert answer.returncode == 2
    assert "127.0.0.1:9/none" in answer.stderr
    assert "OPCOD_DATABASE_URL" in answer.stderr
    assert "secretword" not in answer.stderr


def test_a_worker_without_its_broker_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = opcod("worker", OPCOD_HOME=str(tmp_path), OPCOD_BROKER_URL="")
    assert answer.returncode == 2
    assert "OPCOD_BROKER_URL" in answer.stderr


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder with a short path, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="o-") as name:
        yield Path(name)


def test_the_brokers_socket_has_a_short_path_however_deep_the_home(monkeypatch: pytest.MonkeyPatch, short_folder: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_folder))
    deep = short_folder / ("d" * 90) / ("e" * 60)
    path = broker_socket_path(deep)
    assert len(os.fsencode(path)) < 104
    assert path == broker_socket_path(deep)
    assert path != broker_socket_path(deep / "other")
    assert (path.parent.stat().st_mode & 0o777) == 0o700
    path.parent.chmod(0o755)
    with pytest.raises(ResourceError, match="private folder"):
        broker_socket_path(deep)


def test_a_broker_left_by_a_hard_kill_is_ended_and_its_socket_freed(tmp_path: Path) -> None:
    path = broker_socket_path(tmp_path)
    server = embedded._broker_command(path)[4:]  # without the lifeline, as after a hard kill
    with subprocess.Popen(server, stdout=subprocess.DEVNULL) as leftover:
        await_value(lambda: embedded._answers(path), seconds=90, what="the broker's start")
        with redis.Redis(unix_socket_path=str(path)) as client:
            client.set("mark", "old")
        assert clear_broker_socket(tmp_path) == path
        assert not path.exists()
        assert leftover.wait(timeout=60) is not None


def test_a_dead_socket_is_removed(tmp_path: Path) -> None:
    path = broker_socket_path(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    clear_broker_socket(tmp_path)
    assert not path.exists()


class Lines:
    """What a supervisor said."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.all.append((name, line))

    def of(self, name: str) -> list[str]:
        return [line for who, line in list(self.all) if who == name]


def supervise(supervisor: Supervisor, act: Callable[[], object]) -> int:
    """Run the supervisor here, in the main thread, while `act` happens beside it; then stop it."""
    failed: list[BaseException] = []

    def beside() -> None:
        try:
            act()
        except BaseException as error:
            failed.append(error)
        supervisor.request_stop()

    thread = threading.Thread(target=beside)
    thread.start()
    code = supervisor.run()
    thread.join()
    if failed:
        raise failed[0]
    return code


SPEAK = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_program_that_is_killed_is_started_again() -> None:
    lines = Lines()

    def act() -> None:
        first = await_value(lambda: lines.of("a"), seconds=90, what="the first start")[0]
        os.kill(int(first), signal.SIGKILL)
        await_value(lambda: len(lines.of("a")) == 2, seconds=90, what="the second start")

    assert supervise(Supervisor([Program("a", python(SPEAK))], lines), act) == 0
    assert any("SIGKILL" in line for line in lines.of("opcod"))


def test_a_program_that_cannot_start_ends_the_whole_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.processes.supervisor._LONGEST_PAUSE_SECONDS", 0.01)
    lines = Lines()
    supervisor = Supervisor([Program("a", python(SPEAK)), Program("b", python("print('bad luck'); raise SystemExit(7)"))], lines)
    assert supervisor.run() == 1
    assert lines.of("b") == ["bad luck"] * 5
    assert any("exit status 7" in line for line in lines.of("opcod"))


def test_a_program_that_ignores_the_stop_is_killed_in_time() -> None:
    lines = Lines()
    supervisor = Supervisor([Program("a", python(STUBBORN), stop_seconds=0.3)], lines)
    assert supervise(supervisor, lambda: await_value(lambda: lines.of("a"), seconds=90, what="the start")) == 0
    assert any("killed" in line for line in lines.of("opcod"))


def test_a_second_ctrl_c_kills_at_once() -> None:
    lines = Lines()
    supervisor = Supervisor([Program("a", python(STUBBORN), stop_seconds=60)], lines)

    def act() -> None:
        await_value(lambda: lines.of("a"), seconds=90, what="the start")
        os.kill(os.getpid(), signal.SIGINT)
        await_value(lambda: "stopping" in lines.of("opcod"), seconds=90, what="the stop")
        os.kill(os.getpid(), signal.SIGINT)

    began = time.monotonic()
    supervise(supervisor, act)
    assert time.monotonic() - began < 20


def test_programs_stop_in_the_reverse_order_of_their_start() -> None:
    lines = Lines()
    say = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye', flush=True))); "
    say += "print('hi', flush=True); time.sleep(600)"
    supervisor = Supervisor([Program(name, python(say)) for name in ("a", "b", "c")], lines)
    supervise(
        supervisor,
        lambda: await_value(lambda: sum(line == "hi" for _, line in list(lines.all)) == 3, seconds=90, what="the start") and None,
    )
    assert [name for name, line in lines.all if line == "bye"] == ["c", "b", "a"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux only")
def test_programs_end_with_a_supervisor_that_is_killed_hard(tmp_path: Path) -> None:
    code = f"""
import sys
from app.processes.supervisor import Program, Supervisor
speak = "from app.processes.lifeline import die_with_parent; die_with_parent(); " + {SPEAK!r}
Supervisor([Program("a", [sys.executable, "-c", speak])], lambda name, line: print(line, flush=True)).run()
"""
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        supervisor.kill()

    def ended() -> bool:
        try:
            return Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    await_value(ended, seconds=60, what="the child's end")


@pytest.mark.parametrize(
    ("named", "workers", "own"),
    [("0,1", 3, ["0", "1", ""]), ("GPU-a", 2, ["GPU-a", ""]), ("", 2, ["", ""]), ("0,1", 1, [None])],
)
def test_of_several_workers_each_gets_a_gpu_of_its_own_while_there_are_any(
    monkeypatch: pytest.MonkeyPatch, named: str, workers: int, own: list[str | None]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    programs = embedded._worker_programs(workers, {})
    assert [program.environment.get("CUDA_VISIBLE_DEVICES") for program in programs] == own


def test_gpus_are_counted_by_the_driver_s_own_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0; echo 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.visible_gpus() == ["0", "1"]
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2; exit 9\n")
    assert embedded.visible_gpus() == []
