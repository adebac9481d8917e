"""The faults. Each does its harm, and then what a supervisor, an administrator or the run's owner would do about it, nothing more."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

import httpx
from sqlmodel import col, select

from app.client import ServiceError
from app.db import reading
from app.errors import BrokerDown
from app.lifecycle import queue
from app.tables import CheckpointRow, NoticeRow, RunRow
from opcod.training.manifest import manifest_paths, read_manifest
from tests.faults.processes import Kind, Process
from tests.faults.stage import CLOCK_CACHE_SECONDS, LEASE_SECONDS, PATIENCE_SECONDS, Cluster, MissedError, Stage
from tests.faults.trial import Fault
from tests.integration.studio import await_value

# ---------- processes ----------


def _victim(stage: Stage, random: Random, *kinds: Kind) -> Process:
    found = stage.processes(*kinds)
    if not found:
        raise MissedError
    return random.choice(found)


def _await_attempt(stage: Stage, run_id: int, after: int) -> None:
    """Return once another attempt has begun, or the run has ended without one."""
    stage.await_run(
        run_id, lambda run: run.status == "completed" or len(stage.attempts(run_id)) > after, "another attempt, or the run's end"
    )


def kill_worker(stage: Stage, run_id: int, random: Random) -> str:
    before = len(stage.attempts(run_id))
    training = stage.processes("training", "student")
    stage.holder(run_id).kill()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := [process for process in stage.processes("training", "student") if process in training]:
        assert time.monotonic() < deadline, f"{left} outlived its worker"
        time.sleep(0.1)
    stage.revive()
    _await_attempt(stage, run_id, before)
    return "the training process ended with its worker; the lease lapsed; another attempt went on from the last checkpoint"


def kill_training(stage: Stage, run_id: int, random: Random) -> str:
    before = len(stage.attempts(run_id))
    _victim(stage, random, "training").kill()
    _await_attempt(stage, run_id, before)
    return "the worker gave the run back at once and took it up again"


def kill_student(stage: Stage, run_id: int, random: Random) -> str:
    before = len(stage.attempts(run_id))
    _victim(stage, random, "student").kill()
    _await_attempt(stage, run_id, before)
    return "as with the training process: given back, and taken up again"


def drain_worker(stage: Stage, run_id: int, random: Random) -> str:
    before = len(stage.attempts(run_id))
    worker = stage.holder(run_id)
    worker.signal(signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while worker in stage.processes("worker"):
        assert time.monotonic() < deadline, "the worker did not end"
        time.sleep(0.1)
    run, ended = stage.run(run_id), stage.attempts(run_id)[before - 1]
    if run.status == "completed" or ended.outcome == "completed":
        raise MissedError
    assert ended.outcome == "released", ended.outcome
    if len(stage.attempts(run_id)) == before:  # nobody has gone on yet
        newest = _newest_checkpoint(stage, run_id)
        assert newest is None or newest.steps == run.steps_done, (newest, run.steps_done)
    stage.revive()
    _await_attempt(stage, run_id, before)
    return "a checkpoint after the step under way, the run given back at once, no step made twice"


def _newest_checkpoint(stage: Stage, run_id: int) -> CheckpointRow | None:
    with reading(stage.engine) as session:
        rows = select(CheckpointRow).where(CheckpointRow.run_id == run_id).order_by(col(CheckpointRow.seq).desc())
        return session.exec(rows.limit(1)).first()


def freeze_worker(stage: Stage, run_id: int, random: Random) -> str:
    """A machine that hangs for longer than its lease, and then goes on as if nothing had been."""
    before = len(stage.attempts(run_id))
    frozen = [stage.holder(run_id), *stage.processes("training", "student")]
    for process in frozen:
        process.signal(signal.SIGSTOP)
    try:
        time.sleep(LEASE_SECONDS + random.uniform(1.0, 4.0))
        _await_attempt(stage, run_id, before)
    finally:
        for process in random.sample(frozen, len(frozen)):
            process.signal(signal.SIGCONT)
    return "another worker took the run; the one that awoke found its token void, wrote nothing and ended its training process"


def kill_server(stage: Stage, run_id: int, random: Random) -> str:
    _end_all(stage, stage.processes("server"))
    stage.revive()
    return "training went on; the server came back at the same address"


def cut_power(stage: Stage, run_id: int, random: Random) -> str:
    """Everything at once, in any order."""
    before = len(stage.attempts(run_id))
    processes = stage.processes()
    _end_all(stage, random.sample(processes, len(processes)))
    stage.revive()
    _await_attempt(stage, run_id, before)
    return "after the start of everything the run went on by itself from its last checkpoint"


def restart_all(stage: Stage, run_id: int, random: Random) -> str:
    """As an administrator does it: SIGTERM, and a start later."""
    before = len(stage.attempts(run_id))
    stage.stop()
    if stage.run(run_id).status == "completed":
        stage.revive()
        raise MissedError
    assert stage.attempts(run_id)[-1].outcome == "released", stage.attempts(run_id)
    stage.revive()
    _await_attempt(stage, run_id, before)
    return "the run was given back before the end, and went on by itself after the start"


def _end_all(stage: Stage, processes: Sequence[Process]) -> None:
    assert processes, "there is nobody to kill"
    for process in processes:
        process.kill()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := [process for process in stage.processes() if process in processes]:
        assert time.monotonic() < deadline, f"{left} did not end"
        time.sleep(0.1)


# ---------- broker ----------


def kill_broker(stage: Stage, run_id: int, random: Random) -> str:
    """The embedded one keeps nothing."""
    _end_all(stage, stage.processes("broker"))
    stage.revive()
    return "training went on; pages asked SQL until the broker was back"


def lose_broker(stage: Cluster, run_id: int, random: Random) -> str:
    return _broker_away(stage, run_id, random, forget=True)


def restart_broker(stage: Cluster, run_id: int, random: Random) -> str:
    return _broker_away(stage, run_id, random, forget=False)


def _broker_away(stage: Cluster, run_id: int, random: Random, *, forget: bool) -> str:
    """With its worker dead too, while nobody can be told: the other worker has to find the run by itself."""
    stage.await_workers()  # one that starts while there is no broker ends, and is for its supervisor to start again
    before, worker = len(stage.attempts(run_id)), stage.holder(run_id)
    _end_all(stage, stage.processes("broker"))
    if forget:
        stage.forget_bells()
    worker.kill()
    _await_attempt(stage, run_id, before)
    stage.revive()
    stage.await_broker()
    kept = "without its data" if forget else "with its data"
    return f"while the broker was away the other worker took up the dead one's run from SQL; it came back {kept}"


def ring_again(stage: Cluster, run_id: int, random: Random) -> str:
    """The same task delivered hundreds of times, to both workers, busy or idle."""
    before = _needless_attempts(stage, run_id)
    for _ in range(random.randrange(100, 300)):
        queue.ring(stage.broker_url, run_id)
    stage.await_run(run_id, lambda run: run.status in ("running", "completed"), "the run's going on")
    assert _needless_attempts(stage, run_id) == before, "a bell made another attempt"
    return "nobody claimed what was held"


def claim_twice(stage: Cluster, run_id: int, random: Random) -> str:
    """The run becomes free, and both workers are told at once, again and again."""
    if not _halt(stage, run_id, "pause"):
        raise MissedError
    before = _needless_attempts(stage, run_id)
    stage.client.request("POST", f"/runs/{run_id}:resume")
    tellers = [threading.Thread(target=_ring_often, args=(stage.broker_url, run_id)) for _ in range(4)]
    for teller in tellers:
        teller.start()
    for teller in tellers:
        teller.join()
    stage.await_run(run_id, lambda run: run.status in ("running", "completed"), "the run's going on")
    assert _needless_attempts(stage, run_id) == before + 1, "it was claimed twice"
    return "one of the two got it"


def _needless_attempts(stage: Stage, run_id: int) -> int:
    """Less those whose lease lapsed, as on a machine that is too busy to renew it in time."""
    return sum(attempt.outcome != "lapsed" for attempt in stage.attempts(run_id))


def _ring_often(broker_url: str, run_id: int) -> None:
    for _ in range(25):
        with suppress(BrokerDown):
            queue.ring(broker_url, run_id)


def _halt(stage: Stage, run_id: int, wish: str) -> bool:
    """Whether the run could be paused or stopped before it completed."""
    try:
        stage.client.request("POST", f"/runs/{run_id}:{wish}")
    except ServiceError as error:
        if error.status != 409:
            raise
        return False
    halted = {"pause": "paused", "stop": "stopped"}[wish]
    return stage.await_run(run_id, lambda run: run.status in (halted, "completed"), f"{wish} to act").status == halted


# ---------- database ----------


def crash_database(stage: Cluster, run_id: int, random: Random) -> str:
    stage.database.stop("immediate")
    stage.database.start()
    return "open transactions were lost and made again"


def refuse_database(stage: Cluster, run_id: int, random: Random) -> str:
    """Longer than the lease: whoever holds the run has to let it go."""
    stage.database.stop("immediate")
    time.sleep(10)
    stage.database.start()
    return "10 s: events were held back and stored afterwards; where the lease had lapsed meanwhile, another attempt went on"


def lock_database(stage: Stage, run_id: int, random: Random) -> str:
    lock = sqlite3.connect(stage.database_url.removeprefix("sqlite:///"), timeout=30, isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
        time.sleep(10)
        lock.execute("ROLLBACK")
    finally:
        lock.close()
    return "10 s: events were held back and stored afterwards; where the lease had lapsed meanwhile, another attempt went on"


# ---------- clock ----------


def _set_clock(stage: Stage, seconds: float) -> None:
    """One machine has one clock: its processes stand still until none goes by what it read before."""
    halted = [process for process in stage.processes() if process.signal(signal.SIGSTOP)]
    (stage.folder / "clock").write_text(f"{seconds:+.0f}")
    time.sleep(CLOCK_CACHE_SECONDS + 0.2)
    for process in halted:
        process.signal(signal.SIGCONT)


def step_clock(stage: Stage, run_id: int, random: Random) -> str:
    """Back or forth, for everything on the machine, and right again a while later."""
    _set_clock(stage, random.choice([-1, 1]) * random.uniform(20, 7200))
    time.sleep(random.uniform(1.0, 3.0))
    _set_clock(stage, 0)
    return "by up to two hours: at worst the lease was read as lapsed, and another attempt went on"


def die_ahead_of_time(stage: Stage, run_id: int, random: Random) -> str:
    """The worker renews its lease while the clock is hours ahead, and dies; then the clock is set right."""
    before = len(stage.attempts(run_id))
    _set_clock(stage, 7200)
    time.sleep(random.uniform(2.0, 3.0))
    if stage.run(run_id).status == "completed":
        _set_clock(stage, 0)
        raise MissedError
    for process in stage.processes("worker", "training"):
        process.kill()
    _set_clock(stage, 0)
    stage.revive()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(stage.attempts(run_id)) == before and stage.run(run_id).status != "completed":
        assert time.monotonic() < deadline, "the run waits for a lease that lapses in two hours"
        time.sleep(0.1)
    return "a lease from a future that was taken back lapsed after its length, not in two hours"


# ---------- disk and store ----------


def cut_checkpoint(stage: Stage, run_id: int, random: Random) -> str:
    """The machine dies, and the newest checkpoint is not whole when it is back."""
    known = len(_notices(stage, run_id))
    _end_all(stage, stage.processes())
    if stage.run(run_id).status == "completed":
        stage.revive()
        raise MissedError
    folder = stage.run_folder(run_id)
    newest, *older = [(path, found) for path in manifest_paths(folder) if (found := read_manifest(path))]
    victim = random.choice([newest[0], *(folder / name for name in newest[1].paths)])
    shared = any(str(victim.relative_to(folder)) in manifest.paths for _, manifest in older)
    content = victim.read_bytes()
    if random.random() < 0.5:
        victim.write_bytes(content[: random.randrange(len(content))])
    else:
        place = random.randrange(len(content))
        victim.write_bytes(content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :])
    stage.revive()
    told = await_value(lambda: _notices(stage, run_id)[known:], seconds=PATIENCE_SECONDS, what=f"a word about {victim.relative_to(folder)}")
    assert ("The run starts afresh" if shared or not older else "The run goes on from the one before") in told[-1], (victim, told)
    return (
        "a state that both kept checkpoints shared: the run began afresh, and its page said so"
        if shared
        else "the one before was used, and the run's page said which was damaged, and how"
    )


def _notices(stage: Stage, run_id: int) -> list[str]:
    with reading(stage.engine) as session:
        return list(session.exec(select(NoticeRow.message).where(NoticeRow.run_id == run_id).order_by(col(NoticeRow.id))).all())


def fill_disk(stage: Stage, run_id: int, random: Random) -> str:
    """Checkpoints and log have no room; after the run has failed with the reason its owner makes room and resumes it."""
    ballast = stage.home / "ballast"
    _fill(ballast)
    try:
        run = stage.await_run(run_id, lambda run: run.status in ("failed", "completed"), "the full disk's being noticed", may_fail=True)
        if run.status == "completed":
            raise MissedError
    finally:
        ballast.unlink()
    assert run.error_kind == "resource", (run.error_kind, run.error_message)
    assert "Free space" in (run.error_advice or ""), run.error_advice
    stage.client.request("POST", f"/runs/{run_id}:resume")
    return "the run failed with the reason and what to do; with room made, it was resumed from its last whole checkpoint"


def fill_all(stage: Stage, run_id: int, random: Random) -> str:
    """Database, checkpoints and log have no room for a few seconds."""
    ballast = stage.home / "ballast"
    _fill(ballast)
    time.sleep(random.uniform(2.0, 8.0))
    ballast.unlink()
    moment, folder = time.time(), stage.run_folder(run_id)

    def gone_on(run: RunRow) -> bool:
        """A checkpoint since then: what was started before has not failed of it."""
        return run.status in ("failed", "completed") or any(_written_at(path) > moment for path in manifest_paths(folder))

    run = stage.await_run(run_id, gone_on, "the run's going on", may_fail=True)
    if run.status == "failed":
        assert run.error_kind == "resource", (run.error_kind, run.error_message)
        stage.client.request("POST", f"/runs/{run_id}:resume")
    return "events were held back; the run went on by itself, or failed with the reason and was resumed"


def _written_at(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _fill(path: Path) -> None:
    """Leave no byte free."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def refuse_store(stage: Cluster, run_id: int, random: Random) -> str:
    """Nobody answers at the store's address for a few seconds."""
    assert stage.s3 is not None
    with stage.s3.refusing():
        time.sleep(random.uniform(2.0, 6.0))
    return "training went on from the worker's disk; what had not been shipped was shipped afterwards"


def lose_machine(stage: Cluster, run_id: int, random: Random) -> str:
    """A worker's machine is gone with everything on its disk; the other one has the store alone."""
    before = len(stage.attempts(run_id))
    worker = stage.holder(run_id)
    home = worker.home
    _end_all(stage, [worker, *stage.processes("training", "student")])
    shutil.rmtree(home, ignore_errors=True)
    _await_attempt(stage, run_id, before)
    stage.revive()
    return "the other machine fetched the last shipped checkpoint and went on; work since was made again"


# ---------- people ----------


def close_tab(stage: Stage, run_id: int, random: Random) -> str:
    """Tabs that follow the run go away in the middle of its stream."""
    before = _needless_attempts(stage, run_id)
    for _ in range(5):
        with suppress(httpx.HTTPError), httpx.stream("GET", f"{stage.url}/api/v1/runs/{run_id}/events", timeout=10) as stream:
            read = 0
            for part in stream.iter_raw():
                read += len(part)
                if read > random.randrange(1, 20_000):
                    break
    assert _needless_attempts(stage, run_id) == before
    return "nothing happened to the training"


KILL_WORKER = Fault("worker killed (`kill -9`), another takes over", "cluster", kill_worker)
KILL_ONLY_WORKER = Fault("worker killed (`kill -9`), the only one", "alone", kill_worker)
KILL_TRAINING = Fault("training process killed (`kill -9`)", "alone", kill_training)
KILL_STUDENT = Fault("a student's process killed (`kill -9`)", "alone", kill_student, side_by_side=True)
DRAIN_WORKER = Fault("worker told to end (SIGTERM)", "cluster", drain_worker)
FREEZE_WORKER = Fault("worker frozen for longer than its lease, then awake", "cluster", freeze_worker)
KILL_SERVER = Fault("server killed (`kill -9`)", "alone", kill_server)
CUT_POWER = Fault("everything killed at once (`kill -9`)", "alone", cut_power)
RESTART_ALL = Fault("everything stopped and started (SIGTERM)", "alone", restart_all)
KILL_BROKER = Fault("broker killed (`kill -9`), back without its data", "alone", kill_broker)
RESTART_BROKER = Fault("broker and a worker killed, the broker back late with its data", "cluster", restart_broker)
LOSE_BROKER = Fault("broker and a worker killed, the broker back late without its data", "cluster", lose_broker)
RING_AGAIN = Fault("broker delivers a task hundreds of times", "cluster", ring_again)
CLAIM_TWICE = Fault("two workers claim one run", "cluster", claim_twice)
CRASH_DATABASE = Fault("PostgreSQL crashes and restarts", "cluster", crash_database)
REFUSE_DATABASE = Fault("PostgreSQL refuses for 10 s", "cluster", refuse_database)
LOCK_DATABASE = Fault("SQLite is locked for 10 s", "alone", lock_database)
STEP_CLOCK = Fault("clock set back or forward", "clock", step_clock)
DIE_AHEAD_OF_TIME = Fault("worker dies while its clock is ahead", "clock", die_ahead_of_time)
FILL_DISK = Fault("disk full for checkpoints and log", "small disk", fill_disk)
FILL_ALL = Fault("disk full for database, checkpoints and log", "small home", fill_all)
CUT_CHECKPOINT = Fault("newest checkpoint cut or altered", "alone", cut_checkpoint, earliest=2)
REFUSE_STORE = Fault("S3 store refuses for some seconds", "machines", refuse_store)
LOSE_MACHINE = Fault("machine lost with its disk, another takes over from S3", "machines", lose_machine)
CLOSE_TAB = Fault("tabs closed", "alone", close_tab)

FAULTS = [
    *(KILL_WORKER, KILL_ONLY_WORKER, DRAIN_WORKER, FREEZE_WORKER, KILL_TRAINING, KILL_STUDENT, KILL_SERVER, CUT_POWER, RESTART_ALL),
    *(KILL_BROKER, RESTART_BROKER, LOSE_BROKER, RING_AGAIN, CLAIM_TWICE, CRASH_DATABASE, REFUSE_DATABASE, LOCK_DATABASE),
    *(STEP_CLOCK, DIE_AHEAD_OF_TIME, FILL_DISK, FILL_ALL, CUT_CHECKPOINT, REFUSE_STORE, LOSE_MACHINE, CLOSE_TAB),
]
"""In the order of the table."""

TOGETHER = [
    [CLAIM_TWICE, KILL_WORKER, RING_AGAIN, CRASH_DATABASE],
    [DRAIN_WORKER, FREEZE_WORKER],
    [RESTART_BROKER, REFUSE_DATABASE],
    [REFUSE_STORE, LOSE_MACHINE],
    [STEP_CLOCK],
    [FILL_DISK],
    [KILL_TRAINING, CUT_POWER, CUT_CHECKPOINT, KILL_SERVER],
    [RESTART_ALL, CLOSE_TAB, KILL_BROKER, LOCK_DATABASE],
]
"""What comes over one run, of one stage: twenty faults, each once, in few runs. The longest comes last, or the run would be over."""
