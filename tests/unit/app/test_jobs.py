"""Short jobs: one holder at a time, tried again a few times, cancelled at once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from app.db import reading, writing
from app.errors import Refused
from app.lifecycle import jobs
from app.lifecycle.jobs import JobClaim, JobLost
from app.lifecycle.queueing import Needs, Offer
from app.tables import JobRow

ANY = Needs()
CPU = Offer()
GPU = Offer(("gpu", "cpu"), 24.0, "gpu-0")


def asked(engine: Engine, needs: Needs = ANY, owner: str = "ann") -> int:
    with writing(engine) as session:
        job_id = jobs.create(session, "replay", owner=owner, needs=needs, request={"n": 1}).id
    assert job_id is not None
    return job_id


def taken(engine: Engine, offer: Offer = CPU, lease_seconds: float = 60.0) -> JobClaim | None:
    with writing(engine) as session:
        return jobs.claim(session, worker="w", lease_seconds=lease_seconds, offer=offer)


def job(engine: Engine, job_id: int) -> JobRow:
    with reading(engine) as session:
        return jobs.get(session, job_id)


def test_the_oldest_that_fits_is_taken_once(engine: Engine) -> None:
    large, plain = asked(engine, Needs("gpu", 16.0)), asked(engine)
    first, second, third = taken(engine), taken(engine), taken(engine, GPU)
    assert first is not None
    assert third is not None
    assert (first.job_id, second, third.job_id) == (plain, None, large)
    with reading(engine) as session:
        assert jobs.next_for(session, GPU) is None


def test_what_is_reported_is_there_at_once_and_stays(engine: Engine) -> None:
    asked(engine)
    claim = taken(engine)
    assert claim is not None
    with writing(engine) as session:
        jobs.report(session, claim.job_id, claim.token, progress=0.5, result={"half": 1})
    assert (job(engine, claim.job_id).progress, job(engine, claim.job_id).result) == (0.5, {"half": 1})
    with writing(engine) as session:
        jobs.finish(session, claim.job_id, claim.token, {"whole": 1})
    done = job(engine, claim.job_id)
    assert (done.state, done.progress, done.result, done.lease_until) == ("completed", 1.0, {"whole": 1}, None)


def test_whoever_lost_it_writes_nothing(engine: Engine) -> None:
    asked(engine)
    slow = taken(engine, lease_seconds=-1.0)
    assert slow is not None
    with writing(engine) as session:
        assert jobs.reap(session) == [slow.job_id]
    again = taken(engine)
    assert again is not None
    assert again.token != slow.token
    with writing(engine) as session:
        assert not jobs.renew(session, slow)
        assert jobs.renew(session, again)
    with pytest.raises(JobLost), writing(engine) as session:
        jobs.finish(session, slow.job_id, slow.token, {})


def test_a_vanished_worker_is_forgiven_twice(engine: Engine) -> None:
    job_id = asked(engine)
    for state in ("queued", "queued", "failed"):
        assert taken(engine, lease_seconds=-1.0) is not None
        with writing(engine) as session:
            jobs.reap(session)
        assert job(engine, job_id).state == state
    assert (job(engine, job_id).error_kind, taken(engine)) == ("worker_lost", None)


def test_a_worker_that_ends_in_order_costs_no_try(engine: Engine) -> None:
    job_id = asked(engine)
    for _ in range(5):
        claim = taken(engine)
        assert claim is not None
        with writing(engine) as session:
            jobs.give_back(session, claim, killed=False)
    assert (job(engine, job_id).state, job(engine, job_id).tries) == ("queued", 0)


def test_cancelling_takes_it_from_its_worker(engine: Engine) -> None:
    job_id = asked(engine)
    claim = taken(engine)
    assert claim is not None
    with writing(engine) as session:
        jobs.cancel(session, job_id)
        assert not jobs.renew(session, claim)
    with pytest.raises(Refused, match="cancelled"), writing(engine) as session:
        jobs.cancel(session, job_id)


def test_nobody_fills_the_list_alone(engine: Engine) -> None:
    for _ in range(jobs.MOST_WAITING):
        asked(engine)
    with pytest.raises(Refused):
        asked(engine)
    asked(engine, owner="bob")


def test_workers_are_told_until_they_have_heard(engine: Engine) -> None:
    job_id = asked(engine)
    long_ago = job(engine, job_id).created_at - timedelta(minutes=1)
    with writing(engine) as session:
        assert jobs.unannounced(session, long_ago) == [job_id]
        jobs.mark_announced(session, job_id)
    with reading(engine) as session:
        assert jobs.unannounced(session, long_ago) == []
