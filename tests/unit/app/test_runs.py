from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import col, select

from app import db
from app.db import make_engine, migrate, now, reading, writing
from app.errors import Conflict, LeaseLost, NotFound
from app.lifecycle import runs
from app.lifecycle.runs import Claim
from app.records import ingest
from app.tables import AttemptRow, EventRow, RunRow, TransitionRow
from tests.unit.app.factories import claimed, queued_run, story


def status(engine: Engine, run_id: int) -> str:
    with reading(engine) as session:
        run = session.get(RunRow, run_id)
        assert run is not None
        return run.status


def history(engine: Engine, run_id: int) -> list[tuple[str | None, str]]:
    with reading(engine) as session:
        rows = session.exec(select(TransitionRow).where(col(TransitionRow.run_id) == run_id).order_by(col(TransitionRow.id))).all()
        return [(row.from_status, row.to_status) for row in rows]


def test_a_run_is_claimed_run_and_completed(engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    with writing(engine) as session:
        runs.mark_running(session, claim)
        assert runs.renew(session, claim) == runs.RunControl(stop=False, ours=True)
    with writing(engine) as session:
        runs.finish(session, claim, "completed")
    assert history(engine, run_id) == [(None, "queued"), ("queued", "starting"), ("starting", "running"), ("running", "completed")]
    with pytest.raises(Conflict, match="completed"), writing(engine) as session:
        runs.request_pause(session, run_id)


def test_every_transition_stands_in_the_live_stream_too(engine: Engine) -> None:
    run_id = queued_run(engine)
    claimed(engine)
    with reading(engine) as session:
        events = session.exec(select(EventRow).where(col(EventRow.run_id) == run_id).order_by(col(EventRow.id))).all()
    assert [(event.kind, event.data) for event in events] == [
        ("status_changed", {"from": None, "to": "queued"}),
        ("status_changed", {"from": "queued", "to": "starting"}),
    ]


def together(engine: Engine, act: Callable[[], object], times: int = 2) -> list[object]:
    """What `act` gives, or raises, when several threads do it at once."""
    start = threading.Barrier(times)

    def one(_: int) -> object:
        start.wait()
        try:
            return act()
        except Conflict as error:
            return error

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def test_of_two_that_stop_a_run_together_one_is_refused(engine: Engine) -> None:
    run_id = queued_run(engine)

    def stop() -> object:
        with writing(engine) as session:
            return runs.request_stop(session, run_id)

    results = together(engine, stop)
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "str"]
    assert history(engine, run_id) == [(None, "queued"), ("queued", "stopped")]


def test_of_four_workers_that_claim_one_run_together_one_gets_it(engine: Engine) -> None:
    run_id = queued_run(engine)

    def claim() -> object:
        with writing(engine) as session:
            return runs.claim(session, worker="w", device="cpu", lease_seconds=60)

    results = together(engine, claim, 4)
    assert sum(isinstance(result, Claim) for result in results) == 1
    with reading(engine) as session:
        assert len(session.exec(select(AttemptRow)).all()) == 1
    assert history(engine, run_id) == [(None, "queued"), ("queued", "starting")]


def test_claims_follow_the_queue(engine: Engine) -> None:
    first, second, third = (queued_run(engine) for _ in range(3))
    with reading(engine) as session:
        assert [run.id for run in runs.queued(session)] == [first, second, third]
    assert claimed(engine, second).run_id == second
    assert claimed(engine).run_id == first
    assert claimed(engine).run_id == third
    with writing(engine) as session:
        assert runs.claim(session, worker="w", device="cpu", lease_seconds=60) is None


def test_stop_reaches_the_worker_and_a_stopped_run_can_be_resumed(engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    with writing(engine) as session:
        assert runs.request_stop(session, run_id) == "stopping"
    with writing(engine) as session:
        runs.mark_running(session, claim)  # too late: it stays stopping
        assert runs.renew(session, claim).stop
    assert status(engine, run_id) == "stopping"
    with writing(engine) as session:
        runs.finish(session, claim, "halted")
    with writing(engine) as session:
        assert runs.request_resume(session, run_id) == "queued"
    assert claimed(engine).token > claim.token


def test_a_failed_run_says_why_until_it_is_resumed(engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    with writing(engine) as session:
        runs.finish(session, claim, "failed", error=runs.RunError("resource", "Memory ran out.", "Use less."))
    with reading(engine) as session:
        run = session.get(RunRow, run_id)
        assert run is not None
        assert (run.status, run.error_kind, run.error_message, run.error_advice) == ("failed", "resource", "Memory ran out.", "Use less.")
    with writing(engine) as session:
        runs.request_resume(session, run_id)
    with reading(engine) as session:
        run = session.get(RunRow, run_id)
        assert run is not None
        assert (run.status, run.error_kind, run.ended_at) == ("queued", None, None)


def test_a_lapsed_lease_queues_the_run_again_and_the_slow_worker_is_fenced_off(engine: Engine) -> None:
    run_id = queued_run(engine)
    slow = claimed(engine, worker="slow", lease_seconds=10)
    with writing(engine) as session:
        assert runs.reap(session) == []
        assert runs.reap(session, now() + timedelta(seconds=11)) == [run_id]
    quick = claimed(engine, worker="quick")
    with writing(engine) as session:
        assert runs.renew(session, slow) == runs.RunControl(stop=True, ours=False)
    for write in (
        lambda session: runs.mark_running(session, slow),
        lambda session: runs.finish(session, slow, "completed"),
        lambda session: runs.release(session, slow),
        lambda session: ingest.ingest(session, run_id, slow.token, story()),
    ):
        with pytest.raises(LeaseLost), writing(engine) as session:
            write(session)
    assert status(engine, run_id) == "starting"
    with writing(engine) as session:
        assert runs.renew(session, quick).ours


QUERY = b"SELECT $1\0"
HALF_SAID = b"".join([b"P", struct.pack("!I", 4 + 1 + len(QUERY) + 2), b"\0", QUERY, b"\0\0", b"B", struct.pack("!I", 100_000), b"\0\0abc"])
"""A statement for PostgreSQL to parse, and the beginning of what is to be put into it."""
FLUSH = b"H" + struct.pack("!I", 4)
"""PostgreSQL stops its timeout at every message, and starts it anew only at the end of a statement."""


@pytest.mark.parametrize("said", [b"", HALF_SAID, FLUSH], ids=["between two statements", "within a statement", "within a pipeline"])
def test_a_worker_that_hangs_in_the_middle_of_a_write_does_not_keep_its_run_from_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("its processes are on one machine and hang together")
    monkeypatch.setattr(db, "HUNG_SECONDS", 1)
    run_id = queued_run(engine)
    claim = claimed(engine, lease_seconds=0)

    def reaped() -> list[int]:
        with writing(engine) as session:
            return runs.reap(session)

    with pytest.raises(OperationalError), writing(engine) as hanging:  # noqa: PT012
        runs.hold(hanging, run_id, claim.token)
        connection = hanging.connection().connection.driver_connection
        assert connection is not None
        os.write(connection.fileno(), said)
        assert reaped() == []
        deadline = time.monotonic() + 120
        while (found := reaped()) != [run_id]:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        hanging.exec(select(RunRow)).all()
    assert status(engine, run_id) == "queued"


def test_a_lease_renewed_while_the_clock_was_ahead_lapses_after_its_length_once_the_clock_is_right(engine: Engine) -> None:
    run_id = queued_run(engine)
    claimed(engine, lease_seconds=10)
    right = now() - timedelta(hours=2)
    with writing(engine) as session:
        assert runs.reap(session, right) == []
        assert runs.reap(session, right + timedelta(seconds=9)) == []
        assert runs.reap(session, right + timedelta(seconds=11)) == [run_id]


def test_clocks_of_two_machines_may_differ_by_less_than_a_lease(engine: Engine) -> None:
    queued_run(engine)
    claim = claimed(engine, lease_seconds=10)
    with reading(engine) as session:
        before = session.get_one(RunRow, claim.run_id).lease_until
    with writing(engine) as session:
        assert runs.reap(session, now() - timedelta(seconds=8)) == []
    with reading(engine) as session:
        assert session.get_one(RunRow, claim.run_id).lease_until == before


def test_a_run_that_was_stopping_when_its_worker_died_is_stopped(engine: Engine) -> None:
    run_id = queued_run(engine)
    claimed(engine, lease_seconds=10)
    with writing(engine) as session:
        runs.request_stop(session, run_id)
    with writing(engine) as session:
        assert runs.reap(session, now() + timedelta(seconds=11)) == []
    assert status(engine, run_id) == "stopped"


def test_a_worker_that_shuts_down_gives_its_run_back(engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    with writing(engine) as session:
        assert runs.release(session, claim) == "queued"
    assert claimed(engine).run_id == run_id


@pytest.mark.parametrize("progress", [False, True])
def test_a_run_that_kills_each_worker_fails_in_the_end_unless_it_gets_further(engine: Engine, progress: bool) -> None:
    run_id = queued_run(engine)
    events = story()
    for attempt in range(runs.FRUITLESS_ATTEMPTS):
        claim = claimed(engine, lease_seconds=10)
        if progress:
            with writing(engine) as session:
                assert ingest.ingest(session, run_id, claim.token, [events[attempt]]) == 1
        with writing(engine) as session:
            runs.reap(session, now() + timedelta(seconds=11))
    assert status(engine, run_id) == ("queued" if progress else "failed")


def test_unannounced_runs_are_those_nobody_was_told_of_lately(engine: Engine) -> None:
    told, untold = queued_run(engine), queued_run(engine)
    with writing(engine) as session:
        runs.mark_announced(session, told)
    with reading(engine) as session:
        assert runs.unannounced(session, now() - timedelta(seconds=60)) == [untold]
        assert runs.unannounced(session, now() + timedelta(seconds=1)) == [told, untold]


def test_what_is_not_there_is_not_found(engine: Engine) -> None:
    for act in (runs.create_run, runs.request_stop, runs.request_resume):
        with pytest.raises(NotFound), writing(engine) as session:
            act(session, 7)


def test_a_transaction_that_fails_leaves_nothing(engine: Engine) -> None:
    run_id = queued_run(engine)

    def stop_and_fall() -> None:
        with writing(engine) as session:
            runs.request_stop(session, run_id)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop_and_fall()
    assert history(engine, run_id) == [(None, "queued")]


OPERATIONS = st.sampled_from(
    ["claim", "running", "stop", "pause", "resume", "renew", "reap", "release", "completed", "halted", "failed", "stale", "afresh"]
)


@given(operations=st.lists(OPERATIONS, max_size=14))
def test_any_sequence_of_operations_leaves_a_legal_history(lasting_engine: Engine, operations: list[str]) -> None:
    engine = lasting_engine
    run_id = queued_run(engine)
    claims: list[Claim] = []
    for operation in operations:
        holds = claims[0 if operation == "stale" else -1] if claims else Claim(run_id, 999, "", {}, 10)
        try:
            with writing(engine) as session:
                match operation:
                    case "claim":
                        claim = runs.claim(session, worker="w", device="cpu", lease_seconds=10, run_id=run_id)
                        claims += [claim] if claim else []
                    case "running":
                        runs.mark_running(session, holds)
                    case "stop":
                        runs.request_stop(session, run_id)
                    case "pause":
                        runs.request_pause(session, run_id)
                    case "afresh":
                        runs.retry_afresh(session, run_id)
                    case "resume":
                        runs.request_resume(session, run_id)
                    case "renew":
                        runs.renew(session, holds)
                    case "reap":
                        runs.reap(session, now() + timedelta(seconds=11))
                    case "release":
                        runs.release(session, holds)
                    case "stale":
                        runs.finish(session, holds, "completed")
                    case "completed" | "halted" | "failed":
                        runs.finish(session, holds, operation, error=runs.RunError("x", "y") if operation == "failed" else None)
        except (Conflict, LeaseLost):
            pass
    steps = history(engine, run_id)
    assert steps[0] == (None, "queued")
    for (_, before), (source, target) in pairwise(steps):
        assert source == before
        assert target in runs.LEGAL[source]  # type: ignore[index]
    with reading(engine) as session:
        run = session.get(RunRow, run_id)
        assert run is not None
        assert run.status == steps[-1][1]
        assert (run.status in runs.HELD) == (run.attempt_id is not None) == (run.lease_until is not None)
        assert (run.status in runs.ENDED) == (run.ended_at is not None)
        held = session.exec(select(AttemptRow).where(col(AttemptRow.run_id) == run_id, col(AttemptRow.ended_at).is_(None))).all()
        assert [attempt.id for attempt in held] == ([run.attempt_id] if run.attempt_id else [])


def test_the_database_folder_is_made(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'new' / 'home' / 'opcod.db'}")
    migrate(engine)
    engine.dispose()
    assert (tmp_path / "new" / "home" / "opcod.db").exists()


def test_pausing_lets_the_worker_go_and_resuming_queues_again(engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    with writing(engine) as session:
        runs.mark_running(session, claim)
        assert runs.request_pause(session, run_id) == "pausing"
        assert runs.renew(session, claim).stop
    with pytest.raises(Conflict, match="pausing"), writing(engine) as session:
        runs.request_resume(session, run_id)
    with writing(engine) as session:
        runs.finish(session, claim, "halted")
    assert status(engine, run_id) == "paused"
    with writing(engine) as session:
        assert runs.request_resume(session, run_id) == "queued"
    assert history(engine, run_id)[-3:] == [("running", "pausing"), ("pausing", "paused"), ("paused", "queued")]


def test_a_waiting_run_pauses_at_once_and_is_not_taken(engine: Engine) -> None:
    run_id = queued_run(engine)
    with writing(engine) as session:
        assert runs.request_pause(session, run_id) == "paused"
        assert runs.claim(session, worker="w", device="cpu", lease_seconds=60) is None
        assert runs.request_stop(session, run_id) == "stopped"


def test_a_stop_goes_before_a_pause(engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    with writing(engine) as session:
        runs.request_pause(session, run_id)
        assert runs.request_stop(session, run_id) == "stopping"
        runs.finish(session, claim, "halted")
    assert status(engine, run_id) == "stopped"


def test_a_pausing_run_whose_worker_vanished_is_paused(engine: Engine) -> None:
    run_id = queued_run(engine)
    claimed(engine, lease_seconds=1)
    with writing(engine) as session:
        runs.request_pause(session, run_id)
        assert runs.reap(session, now() + timedelta(seconds=2)) == []
    assert status(engine, run_id) == "paused"


@pytest.mark.parametrize("ending", ["completed", "failed"])
def test_an_ended_run_is_retried_once_at_a_time(engine: Engine, ending: runs.Ending) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine)
    with writing(engine) as session:
        runs.change(session, run_id, tags=["mine"])
        runs.finish(session, claim, ending)

    def retry() -> object:
        with writing(engine) as session:
            return runs.retry_afresh(session, run_id).id

    results = together(engine, retry, 3)
    new = [result for result in results if isinstance(result, int)]
    refused = [result for result in results if isinstance(result, Conflict)]
    assert (len(new), len(refused)) == (1, 2)
    assert f"being retried as run {new[0]}, which is queued" in str(refused[0])
    with reading(engine) as session:
        again = session.get(RunRow, new[0])
        assert again is not None
        assert (again.copied_from, again.tags, again.status) == (run_id, ["mine"], "queued")
    second = claimed(engine)
    with writing(engine) as session:
        runs.finish(session, second, "failed")
        assert runs.retry_afresh(session, run_id).id != new[0]


@pytest.mark.parametrize(("first", "second"), [("stop", "pause"), ("pause", "stop"), ("pause", "pause")])
def test_two_people_who_press_at_once_get_one_effect_and_one_refusal_or_an_order(engine: Engine, first: str, second: str) -> None:
    """A stop may follow a pause; nothing follows a stop; the refusal names the state."""
    run_id = queued_run(engine)
    wishes = {"stop": runs.request_stop, "pause": runs.request_pause}
    waiting = [first, second]

    def press() -> object:
        wish = waiting.pop()
        with writing(engine) as session:
            return wishes[wish](session, run_id)

    results = together(engine, press)
    refusals = [result for result in results if isinstance(result, Conflict)]
    assert all(refusal.status in ("stopped", "paused") for refusal in refusals)
    assert len(history(engine, run_id)) == 3 - len(refusals)
    assert status(engine, run_id) == ("stopped" if "stop" in (first, second) else "paused")
