"""What becomes of a job, for each way in which its process can end. The process is a small script here."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.db import reading, writing
from app.lifecycle import jobs
from app.lifecycle.queueing import Needs, Offer
from app.tables import JobRow, RunRow
from tests.unit.worker.conftest import queue_run
from tests.unit.worker.test_desk import PLAIN, make_desk
from tests.unit.worker.test_runner import PRELUDE, eventually
from worker.job_desk import JobDesk
from worker.settings import WorkerSettings
from worker.telemetry import Device

SCRIPT = """
import json, os, signal, sys, time
from app.db import make_engine, writing
from app.lifecycle import jobs
told = json.loads(sys.stdin.readline())
engine = make_engine(os.environ["OPCOD_DATABASE_URL"])
def finish():
    with writing(engine) as session:
        jobs.finish(session, told["job_id"], told["token"], {"by": os.getpid()})
"""


class Jobs:
    def __init__(self, settings: WorkerSettings, engine: Engine, folder: Path) -> None:
        self.settings, self.engine, self._folder = settings, engine, folder
        self.drain = threading.Event()

    def ask(self) -> int:
        with writing(self.engine) as session:
            job_id = jobs.create(session, "replay", owner="ann", needs=Needs(), request={}).id
        assert job_id is not None
        return job_id

    def desk(self, script: str) -> JobDesk:
        path = self._folder / "job.py"
        path.write_text(SCRIPT + script, encoding="utf-8")
        return JobDesk(self.settings, self.engine, "here", PLAIN, self.drain, command=(sys.executable, str(path)))

    def job(self, job_id: int) -> JobRow:
        with reading(self.engine) as session:
            return jobs.get(session, job_id)


@pytest.fixture
def bench(settings: WorkerSettings, engine: Engine, tmp_path: Path) -> Jobs:
    return Jobs(settings, engine, tmp_path)


def test_all_that_wait_are_carried_out(bench: Jobs) -> None:
    ids = [bench.ask(), bench.ask()]
    bench.desk("finish()").serve()
    assert [bench.job(job_id).state for job_id in ids] == ["completed", "completed"]


def test_a_killed_process_is_tried_again_and_not_for_ever(bench: Jobs) -> None:
    job_id = bench.ask()
    marker = bench.settings.home / "second"
    bench.desk(f"p = {str(marker)!r}\nif os.path.exists(p): finish()\nelse: open(p, 'w'); os.kill(0, signal.SIGKILL)").serve()
    assert (bench.job(job_id).state, bench.job(job_id).tries) == ("completed", 1)
    hopeless = bench.ask()
    bench.desk("os.kill(0, signal.SIGKILL)").serve()
    assert (bench.job(hopeless).state, bench.job(hopeless).error_kind, bench.job(hopeless).tries) == ("failed", "killed", jobs.TRIES)


def test_a_fault_of_ours_is_told_in_a_line(bench: Jobs) -> None:
    job_id = bench.ask()
    bench.desk("sys.exit(3)").serve()
    assert (bench.job(job_id).state, bench.job(job_id).error_kind) == ("failed", "internal")


def test_a_cancelled_job_ends_within_a_moment(bench: Jobs) -> None:
    job_id = bench.ask()
    desk = bench.desk("time.sleep(600)")
    desk.begin()
    eventually(lambda: bench.job(job_id).state == "running")
    with writing(bench.engine) as session:
        jobs.cancel(session, job_id)
    desk.join()
    assert bench.job(job_id).state == "cancelled"


def test_a_worker_that_ends_gives_its_job_back(bench: Jobs) -> None:
    job_id = bench.ask()
    desk = bench.desk("time.sleep(600)")
    desk.begin()
    eventually(lambda: bench.job(job_id).state == "running")
    bench.drain.set()
    desk.join()
    assert (bench.job(job_id).state, bench.job(job_id).tries) == ("queued", 0)


def test_on_a_cpu_a_job_runs_beside_the_run(bench: Jobs, tmp_path: Path) -> None:
    train = tmp_path / "train.py"
    train.write_text(PRELUDE + f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\nreport('completed')")
    desk = make_desk(bench.settings, bench.engine, train)
    desk._jobs = bench.desk("finish()")
    queue_run(bench.engine)
    training = threading.Thread(target=desk.serve)
    training.start()
    job_id = bench.ask()
    desk.serve_jobs()
    eventually(lambda: bench.job(job_id).state == "completed")
    assert training.is_alive()
    (tmp_path / "go").touch()
    training.join(timeout=30)


def test_on_a_gpu_jobs_go_before_the_next_run(bench: Jobs, tmp_path: Path) -> None:
    train = tmp_path / "train.py"
    train.write_text(PRELUDE + f"report('completed' if os.path.exists({str(tmp_path / 'done')!r}) else 'failed')")
    gpu = Device("gpu", Offer(("gpu", "cpu"), 24.0, "gpu-0"))
    desk = make_desk(bench.settings, bench.engine, train, device=gpu)
    desk._jobs = bench.desk(f"finish(); open({str(tmp_path / 'done')!r}, 'w')")
    desk._jobs._offer = gpu.offer
    run_id = queue_run(bench.engine)
    job_id = bench.ask()
    desk.serve_jobs()
    assert bench.job(job_id).state == "completed"
    with reading(bench.engine) as session:
        run = session.get(RunRow, run_id)
    assert run is not None
    assert run.status == "completed"
