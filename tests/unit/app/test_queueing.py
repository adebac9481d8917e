"""Who is next: fair turns, priorities, moves, and what fits which worker."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from app.db import reading, writing
from app.errors import Conflict, NotFound
from app.lifecycle import queueing, runs, workers
from app.lifecycle.queueing import Needs, Offer
from app.records import queries
from app.tables import ExperimentRow, RunRow
from tests.unit.app.factories import claimed, config, queued_run

A100 = Offer(("gpu", "cpu"), 80.0, "GPU-1")


def queue_for(engine: Engine, owner: str, **compute: object) -> int:
    with writing(engine) as session:
        experiment = ExperimentRow(name="test", config=config(compute=compute))
        session.add(experiment)
        session.flush()
        assert experiment.id is not None
        run_id = runs.create_run(session, experiment.id, actor=owner).id
    assert run_id is not None
    return run_id


def order(engine: Engine) -> list[int | None]:
    with reading(engine) as session:
        return [run.id for run in runs.queued(session)]


def finish_all(engine: Engine) -> None:
    """Empty the queue, for the next example."""
    while True:
        with writing(engine) as session:
            claim = runs.claim(session, worker="w", device="cpu", lease_seconds=60, offer=Offer(("gpu", "cpu"), 1e6))
            if claim is None:
                return
            runs.finish(session, claim, "completed")


def test_an_owner_with_two_runs_does_not_wait_for_fifty_of_another(engine: Engine) -> None:
    many = [queue_for(engine, "ann") for _ in range(50)]
    few = [queue_for(engine, "bob") for _ in range(2)]
    assert [order(engine).index(run) for run in few] == [1, 3]
    assert [run for run in order(engine) if run in many] == many


@settings(max_examples=25)
@given(owners=st.lists(st.sampled_from("abc"), min_size=1, max_size=12), taken=st.integers(0, 6))
def test_while_two_owners_wait_neither_is_served_twice_more_than_the_other(lasting_engine: Engine, owners: list[str], taken: int) -> None:
    engine = lasting_engine
    finish_all(engine)
    waiting = Counter(owners)
    owner_of = {queue_for(engine, owner): owner for owner in owners}
    served: Counter[str] = Counter()
    for _ in range(min(taken, len(owners))):
        with writing(engine) as session:
            claim = runs.claim(session, worker="w", device="cpu", lease_seconds=60)
            assert claim is not None
            runs.finish(session, claim, "completed")
        owner = owner_of[claim.run_id]
        served[owner] += 1
        still = [other for other in waiting if served[other] < waiting[other]]
        assert served[owner] - 1 <= min((served[other] for other in still), default=served[owner]) + 1


def test_a_run_that_is_given_back_goes_before_those_that_came_later(engine: Engine) -> None:
    first, second = queued_run(engine), queued_run(engine)
    claim = claimed(engine)
    with writing(engine) as session:
        runs.release(session, claim)
    assert order(engine) == [first, second]


def test_a_higher_priority_goes_first(engine: Engine) -> None:
    first, second = queued_run(engine), queued_run(engine)
    with writing(engine) as session:
        runs.change(session, second, priority=5)
    assert order(engine) == [second, first]


@settings(max_examples=25)
@given(data=st.data(), priorities=st.lists(st.integers(-1, 1), min_size=1, max_size=6))
def test_a_moved_run_stands_where_it_was_put_and_the_others_keep_their_order(
    lasting_engine: Engine, data: st.DataObject, priorities: list[int]
) -> None:
    engine = lasting_engine
    finish_all(engine)
    for place, priority in enumerate(priorities):
        run_id = queue_for(engine, "ab"[place % 2])
        with writing(engine) as session:
            runs.change(session, run_id, priority=priority)
    before = order(engine)
    moved = data.draw(st.sampled_from(before))
    position = data.draw(st.integers(1, len(before) + 2))
    assert moved is not None
    with writing(engine) as session:
        queueing.move(session, moved, position)
    rest = [run for run in before if run != moved]
    rest.insert(min(position, len(before)) - 1, moved)
    assert order(engine) == rest


def test_only_a_waiting_run_is_moved(engine: Engine) -> None:
    run_id = queued_run(engine)
    claimed(engine)
    with pytest.raises(Conflict, match="starting"), writing(engine) as session:
        queueing.move(session, run_id, 1)
    with pytest.raises(NotFound), writing(engine) as session:
        queueing.move(session, 10_000, 1)


@pytest.mark.parametrize(
    ("compute", "needs", "words"),
    [
        ({}, Needs(), "any worker"),
        ({"device": "cpu"}, Needs("cpu"), "a CPU worker"),
        ({"device": "cuda:1"}, Needs("gpu"), "a GPU"),
        ({"gpu_memory_gib": 40}, Needs("gpu", 40.0), "a GPU with 40 GiB"),
        ({"gpus": 4}, Needs("gpu", None, 4), "4 GPUs"),
        ({"gpus": 2, "device": "cuda", "gpu_memory_gib": 40}, Needs("gpu", 40.0, 2), "2 GPUs with 40 GiB each"),
        ({"gpus": 2, "device": "cpu"}, Needs("cpu"), "a CPU worker"),
    ],
)
def test_a_run_asks_for_what_its_configuration_names(compute: dict[str, object], needs: Needs, words: str) -> None:
    found = queueing.needs_of(config(compute=compute))
    assert (found, str(found)) == (needs, words)


def test_a_run_waits_for_a_worker_that_has_what_it_needs(engine: Engine) -> None:
    large = queue_for(engine, "ann", gpu_memory_gib=60)
    anything = queue_for(engine, "ann")
    small = Offer(("gpu", "cpu"), 24.0, "GPU-2")
    with writing(engine) as session:
        assert runs.next_for(session, small) == anything
        assert runs.next_for(session, A100) == large
        claim = runs.claim(session, worker="w", device="x", lease_seconds=60, offer=small)
        assert claim is not None
        assert claim.run_id == anything
        assert runs.claim(session, worker="v", device="x", lease_seconds=60) is None


def test_a_run_on_several_gpus_waits_for_a_worker_that_has_as_many(engine: Engine) -> None:
    several = queue_for(engine, "ann", gpus=2)
    pair = Offer(("gpu", "cpu"), 80.0, "GPU-1,GPU-2", 2)
    with writing(engine) as session:
        assert runs.next_for(session, A100) is None
        workers.heartbeat(session, "w", host="h", pid=1, device="A100", offer=A100)
        assert queries.run(session, several).waiting_for == "No connected worker has 2 GPUs."
        assert queries.run(session, several).needs.gpus == 2
        workers.heartbeat(session, "v", host="h", pid=2, device="A100", offer=pair)
        assert queries.run(session, several).waiting_for is None
        assert runs.next_for(session, pair) == several


def test_a_worker_of_several_gpus_holds_each_of_them(engine: Engine) -> None:
    for _ in range(2):
        queued_run(engine)
    with writing(engine) as session:
        assert runs.claim(session, worker="w", device="x", lease_seconds=60, offer=Offer(("gpu",), 80.0, "GPU-1,GPU-2", 2)) is not None
        assert runs.claim(session, worker="v", device="x", lease_seconds=60, offer=Offer(("gpu",), 80.0, "GPU-2", 1)) is None
        assert runs.claim(session, worker="u", device="x", lease_seconds=60, offer=Offer(("gpu",), 80.0, "GPU-3", 1)) is not None


def test_a_gpu_trains_one_run_at_a_time(engine: Engine) -> None:
    first, second = queued_run(engine), queued_run(engine)
    with writing(engine) as session:
        claim = runs.claim(session, worker="w", device="A100", lease_seconds=60, offer=A100)
    assert claim is not None
    assert claim.run_id == first
    with writing(engine) as session:
        assert runs.claim(session, worker="another of the same GPU", device="A100", lease_seconds=60, offer=A100) is None
    with writing(engine) as session:
        runs.finish(session, claim, "completed")
        again = runs.claim(session, worker="another of the same GPU", device="A100", lease_seconds=60, offer=A100)
    assert again is not None
    assert again.run_id == second


def test_what_a_queued_run_waits_for_is_said(engine: Engine) -> None:
    run_id = queue_for(engine, "ann", gpu_memory_gib=60)
    with writing(engine) as session:
        assert queries.run(session, run_id).waiting_for == "No worker is connected."
        workers.heartbeat(session, "w", host="h", pid=1, device="cpu")
        assert queries.run(session, run_id).waiting_for == "No connected worker has a GPU with 60 GiB."
        workers.heartbeat(session, "v", host="h", pid=2, device="A100", offer=A100)
        assert queries.run(session, run_id).waiting_for is None
        row = session.get(RunRow, run_id)
        assert row is not None
        assert (row.needs_device, row.needs_memory_gib) == ("gpu", 60.0)
