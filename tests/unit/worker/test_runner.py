"""What becomes of a run, for each way in which its training process can end. The training process is a small script here."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import col, select

from app.db import now, reading, writing
from app.lifecycle import runs
from app.lifecycle.runs import Claim
from app.tables import AttemptRow, RunRow, TransitionRow
from opcod.errors import ResourceError
from tests.unit.worker.conftest import take
from worker.control import Report, only_writer
from worker.runner import Runner
from worker.settings import WorkerSettings
from worker.telemetry import worker_name

PRELUDE = """
import os, signal, subprocess, sys, time
from worker.control import DISK_FULL, Assignment, Report, StopRequest, only_writer
assignment = Assignment.model_validate_json(sys.stdin.readline())
stop = StopRequest()
stop.listen(sys.stdin)
def report(outcome, **words):
    Report(token=assignment.token, outcome=outcome, **words).save(assignment.folder)
def await_stop():
    while not stop.requested():
        time.sleep(0.01)
"""


class Bench:
    """A runner whose training process is a script."""

    def __init__(self, settings: WorkerSettings, engine: Engine, claim: Claim, folder: Path) -> None:
        self.settings, self.engine, self.claim, self._folder = settings, engine, claim, folder
        self.drain = threading.Event()
        self.rings: list[int] = []

    def start(self, script: str) -> threading.Thread:
        path = self._folder / "train.py"
        path.write_text(PRELUDE + script, encoding="utf-8")
        runner = Runner(self.settings, self.engine, self.drain, self.rings.append, command=(sys.executable, str(path)))
        thread = threading.Thread(target=runner.carry_out, args=(self.claim,), daemon=True)
        thread.start()
        return thread

    def finish(self, thread: threading.Thread) -> RunRow:
        thread.join(timeout=120)
        assert not thread.is_alive()
        return self.run()

    def carry_out(self, script: str) -> RunRow:
        return self.finish(self.start(script))

    def carry_out_again(self, script: str, *, times: int) -> RunRow:
        """The same script in as many attempts, claimed anew as a worker does."""
        for number in range(times):
            if number:
                again = take(self.engine)
                assert again is not None
                self.claim = again
            run = self.carry_out(script)
        return run

    def run(self) -> RunRow:
        with reading(self.engine) as session:
            run = session.get(RunRow, self.claim.run_id)
        assert run is not None
        return run

    def attempt_outcome(self) -> str | None:
        with reading(self.engine) as session:
            attempt = session.get(AttemptRow, self.claim.token)
        assert attempt is not None
        return attempt.outcome

    @property
    def folder(self) -> Path:
        return self.settings.run_folder(self.claim.folder)

    @property
    def log(self) -> str:
        return "".join(path.read_text(encoding="utf-8") for path in sorted(self.folder.glob("log/*.txt")))


@pytest.fixture
def bench(settings: WorkerSettings, engine: Engine, claim: Claim, tmp_path: Path) -> Bench:
    return Bench(settings, engine, claim, tmp_path)


def eventually(condition: Callable[[], bool], *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie that nobody reaps has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_completed_run_with_its_history_and_its_log(bench: Bench) -> None:
    run = bench.carry_out("print('hello from training', flush=True)\nreport('completed')")
    assert (run.status, run.attempt_id, run.error_message) == ("completed", None, None)
    assert "hello from training" in bench.log
    assert not list(bench.folder.glob("report-*"))
    assert bench.rings
    with reading(bench.engine) as session:
        history = session.exec(select(TransitionRow.to_status).order_by(col(TransitionRow.id))).all()
    assert history == ["queued", "starting", "running", "completed"]


def test_a_report_that_cannot_be_written_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *_: object, **__: object) -> None:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        Report(token=1, outcome="completed").save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_users_fault_is_shown_as_it_is(bench: Bench) -> None:
    run = bench.carry_out("report('failed', kind='model', message='There is no student at /nowhere.', advice='Mend students.0.model.')")
    assert (run.status, run.error_kind) == ("failed", "model")
    assert (run.error_message, run.error_advice) == ("There is no student at /nowhere.", "Mend students.0.model.")


def test_a_crash_shows_a_plain_line_with_the_runs_number_and_the_log_keeps_the_traceback(bench: Bench) -> None:
    run = bench.carry_out("raise KeyError('secret detail')")
    assert (run.status, run.error_kind) == ("failed", "internal")
    assert f"run {run.id}." in (run.error_message or "")
    assert "secret detail" not in (run.error_message or "") + (run.error_advice or "")
    assert "secret detail" in bench.log


def test_a_killed_training_process_is_started_again(bench: Bench) -> None:
    assert bench.carry_out("os.kill(os.getpid(), signal.SIGKILL)").status == "queued"
    assert bench.attempt_outcome() == "killed"
    again = take(bench.engine)
    assert again is not None
    bench.claim = again
    assert bench.carry_out("report('completed')").status == "completed"


def test_a_killed_student_is_no_different(bench: Bench) -> None:
    assert bench.carry_out("report('failed', kind='killed', message='A process ended abruptly.')").status == "queued"
    assert bench.attempt_outcome() == "killed"


def test_one_that_is_killed_again_and_again_fails_with_advice_on_memory(bench: Bench) -> None:
    run = bench.carry_out_again("os.kill(os.getpid(), signal.SIGKILL)", times=runs.FRUITLESS_ATTEMPTS)
    assert (run.status, run.error_kind) == ("failed", "killed")
    assert "memory" in (run.error_message or "")
    assert "micro_batch_tokens" in (run.error_advice or "")


def test_a_crash_in_native_code_names_the_signal(bench: Bench) -> None:
    run = bench.carry_out_again("os.kill(os.getpid(), signal.SIGSEGV)", times=runs.FRUITLESS_ATTEMPTS)
    assert run.status == "failed"
    assert "SIGSEGV" in (run.error_message or "")


def test_a_pausing_run_is_paused_when_its_training_process_has_saved(bench: Bench) -> None:
    thread = bench.start("await_stop()\nreport('stopped')")
    eventually(lambda: bench.run().status == "running")
    with writing(bench.engine) as session:
        runs.request_pause(session, bench.claim.run_id)
    run = bench.finish(thread)
    assert (run.status, bench.attempt_outcome()) == ("paused", "paused")


def test_a_disk_too_full_even_for_the_report_is_said_as_what_it_is(bench: Bench) -> None:
    run = bench.carry_out("raise SystemExit(DISK_FULL)")
    assert (run.status, run.error_kind) == ("failed", "resource")
    assert "disk" in (run.error_message or "")
    assert "last whole checkpoint" in (run.error_advice or "")


def test_the_log_says_who_took_the_run_before_the_training_says_anything(bench: Bench) -> None:
    bench.carry_out("print('hello', flush=True)\nreport('completed')")
    assert bench.log.index("was claimed by test on cpu after") < bench.log.index("hello")


def test_a_stop_reaches_the_training_process_and_ends_the_run(bench: Bench) -> None:
    thread = bench.start("await_stop()\nreport('stopped')")
    eventually(lambda: bench.run().status == "running")
    with writing(bench.engine) as session:
        runs.request_stop(session, bench.claim.run_id)
    run = bench.finish(thread)
    assert (run.status, bench.attempt_outcome()) == ("stopped", "stopped")


def test_a_worker_that_ends_gives_its_run_back(bench: Bench) -> None:
    thread = bench.start("await_stop()\nreport('stopped')")
    eventually(lambda: bench.run().status == "running")
    bench.drain.set()
    run = bench.finish(thread)
    assert (run.status, bench.attempt_outcome()) == ("queued", "released")


def test_a_training_process_that_does_not_stop_in_time_is_killed_and_its_run_given_back(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"drain_seconds": 0.3})
    thread = bench.start("time.sleep(600)")
    eventually(lambda: bench.run().status == "running")
    bench.drain.set()
    run = bench.finish(thread)
    assert (run.status, run.error_kind, bench.attempt_outcome()) == ("queued", None, "released")


def test_sigterm_from_outside_is_a_wish_to_stop(bench: Bench) -> None:
    thread = bench.start("(assignment.folder / 'pid').write_text(str(os.getpid()))\nawait_stop()\nreport('stopped')")
    pid = bench.folder / "pid"
    eventually(lambda: pid.exists() and pid.read_text() != "" and bench.run().status == "running")
    os.kill(int(pid.read_text()), signal.SIGTERM)
    assert bench.finish(thread).status == "queued"


def test_the_lease_is_kept_up_for_as_long_as_it_takes(bench: Bench) -> None:
    thread = bench.start("await_stop()\nreport('stopped')")
    eventually(lambda: bench.run().status == "running")
    end = time.monotonic() + 1.5 * bench.claim.lease_seconds
    while time.monotonic() < end:
        with writing(bench.engine) as session:
            assert runs.reap(session) == []
        time.sleep(0.05)
    bench.drain.set()
    bench.finish(thread)


def test_a_lost_lease_kills_the_training_process_and_leaves_the_new_attempt_alone(bench: Bench) -> None:
    thread = bench.start("(assignment.folder / 'pid').write_text(str(os.getpid()))\ntime.sleep(600)")
    pid = bench.folder / "pid"
    eventually(lambda: pid.exists() and pid.read_text() != "" and bench.run().status == "running")
    with writing(bench.engine) as session:
        assert runs.reap(session, now() + timedelta(hours=1)) == [bench.claim.run_id]
    other = take(bench.engine, lease_seconds=60, worker="other")
    assert other is not None
    run = bench.finish(thread)
    assert gone(int(pid.read_text()))
    assert (run.status, run.attempt_id, run.error_kind) == ("starting", other.token, None)


def test_what_the_training_process_started_ends_with_it(bench: Bench) -> None:
    script = "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    script += "(assignment.folder / 'pid').write_text(str(child.pid))\nreport('completed')\nos._exit(0)"
    assert bench.carry_out(script).status == "completed"
    orphan = int((bench.folder / "pid").read_text())
    eventually(lambda: gone(orphan))  # killed by now, but its new parent has yet to bury it


def test_a_folder_that_cannot_be_written_fails_the_run_with_its_name(bench: Bench) -> None:
    bench.settings.runs_folder.parent.mkdir(parents=True, exist_ok=True)
    bench.settings.runs_folder.write_text("a file where the folder should be")
    run = bench.carry_out("report('completed')")
    assert (run.status, run.error_kind) == ("failed", "resource")
    assert "runs" in (run.error_message or "")


def test_two_training_processes_never_write_one_folder(bench: Bench) -> None:
    bench.folder.mkdir(parents=True)
    with only_writer(bench.folder), pytest.raises(ResourceError, match="still holds"), only_writer(bench.folder, patience_seconds=0.1):
        raise AssertionError("both got in")
    with only_writer(bench.folder, patience_seconds=0.1):
        pass  # free again


WORKER = """
import sys, threading
from pathlib import Path
from app.db import make_engine
from app.lifecycle.runs import Claim
from worker.runner import Runner
from worker.settings import WorkerSettings
settings = WorkerSettings()
claim = Claim(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], {}, 30.0)
engine, command = make_engine(settings.database_url), (sys.executable, sys.argv[4])
Runner(settings, engine, threading.Event(), lambda run_id: None, command=command).carry_out(claim)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_worker_killed_hard_takes_its_training_process_and_all_below_along(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    below = "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    below += "(assignment.folder / 'pids').write_text(f'{os.getpid()} {child.pid}')\ntime.sleep(600)"
    script.write_text(PRELUDE + below)
    (tmp_path / "worker_script.py").write_text(WORKER)
    command = [
        sys.executable,
        str(tmp_path / "worker_script.py"),
        str(bench.claim.run_id),
        str(bench.claim.token),
        bench.claim.folder,
        str(script),
    ]
    environment = {**os.environ, "OPCOD_HOME": str(bench.settings.home)}
    pids = bench.folder / "pids"
    with subprocess.Popen(command, env=environment) as worker:
        eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        worker.kill()
    for pid in pids.read_text().split():
        eventually(lambda pid=pid: gone(int(pid)), seconds=60)  # type: ignore[misc]


def test_where_logs_are_collected_training_writes_there_too(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.settings = bench.settings.model_copy(update={"log_format": "json"})
    with open(tmp_path / "collected", "w+", encoding="utf-8") as collected:
        monkeypatch.setattr(sys, "stdout", collected)
        bench.carry_out("from worker import training; training._collect_logs(assignment); training.log.error('hm'); report('completed')")
    line = json.loads((tmp_path / "collected").read_text(encoding="utf-8"))
    told = {name: line[name] for name in ("run_id", "attempt", "worker", "message")}
    assert told == {"run_id": bench.claim.run_id, "attempt": bench.claim.token, "worker": worker_name(), "message": "hm"}
