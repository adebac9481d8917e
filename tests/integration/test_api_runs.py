from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db import writing
from app.lifecycle import runs, workers
from app.main import create_app
from app.records.ingest import ingest
from app.settings import Settings
from tests.integration.service import make_data
from tests.integration.studio import await_value
from tests.unit.app.factories import claimed, exchange, story


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(home=tmp_path / "home")), base_url="http://testserver/api/v1") as client:
        yield client


@pytest.fixture
def engine(client: TestClient) -> Engine:
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    return engine


@pytest.fixture
def experiment_id(client: TestClient, tmp_path: Path) -> int:
    made: dict[str, Any] = client.post("/experiments", json={"config": make_data(tmp_path)}).json()
    return int(made["id"])


@pytest.fixture
def run_id(client: TestClient, experiment_id: int) -> int:
    return int(client.post(f"/experiments/{experiment_id}/runs").json()["id"])


@pytest.fixture
def told_run(engine: Engine, run_id: int) -> int:
    """A run that has lived through the whole story."""
    claim = claimed(engine)
    with writing(engine) as session:
        runs.mark_running(session, claim)
        ingest(session, run_id, claim.token, story())
        runs.finish(session, claim, "completed")
    return run_id


def test_a_new_run_waits_in_the_queue(client: TestClient, experiment_id: int) -> None:
    first, second = (client.post(f"/experiments/{experiment_id}/runs", json={"name": name}) for name in ("one", "two"))
    assert (first.status_code, first.json()["status"], first.json()["name"]) == (201, "queued", "one")
    run = client.get(f"/runs/{second.json()['id']}").json()
    assert run["queue_position"] == 2
    assert run["experiment_id"] == experiment_id
    assert run["progress"] == {"round": 0, "rounds": 2, "phase": None, "step": 0, "steps": 12, "fraction": 0.0, "eta_seconds": None}
    assert run["verdict"] == {"mutual_improvement": None, "students": {"s1": None, "s2": None}}
    assert run["students"][0]["scores"]["initial"] == {}
    assert run["students"][0]["scores"]["final"] is None
    assert (run["error"], run["started_at"], run["ended_at"]) == (None, None, None)


def test_the_queue_is_paged_and_keeps_its_place_while_runs_before_it_go(client: TestClient, experiment_id: int) -> None:
    ids = [client.post(f"/experiments/{experiment_id}/runs").json()["id"] for _ in range(5)]
    client.patch(f"/runs/{ids[4]}", json={"priority": 7})
    client.patch(f"/runs/{ids[0]}", json={"priority": -3})
    order = [ids[4], ids[1], ids[2], ids[3], ids[0]]
    assert [run["id"] for run in client.get("/queue").json()["items"]] == order
    page = client.get("/queue?limit=2").json()
    assert [run["id"] for run in page["items"]] == order[:2]
    client.post(f"/runs/{order[1]}:stop")
    rest = client.get("/queue", params={"limit": 5, "cursor": page["next_cursor"]}).json()
    assert ([run["id"] for run in rest["items"]], rest["next_cursor"]) == (order[2:], None)
    assert client.get("/queue?cursor=7").status_code == 422


def test_runs_are_listed_newest_first_and_filtered_by_status(client: TestClient, experiment_id: int) -> None:
    ids = [client.post(f"/experiments/{experiment_id}/runs").json()["id"] for _ in range(3)]
    client.post(f"/runs/{ids[0]}:stop")
    assert [run["id"] for run in client.get("/runs").json()["items"]] == ids[::-1]
    assert [run["id"] for run in client.get("/runs?status=stopped").json()["items"]] == ids[:1]
    page = client.get("/runs?status=queued&status=stopped&limit=2").json()
    assert [run["id"] for run in page["items"]] == [ids[2], ids[1]]
    assert [run["id"] for run in client.get("/runs", params={"limit": 2, "cursor": page["next_cursor"]}).json()["items"]] == [ids[0]]
    assert client.get("/runs?status=asleep").status_code == 422
    assert client.get("/runs?cursor=x").json()["errors"][0]["field"] == "cursor"


def test_stop_and_resume_and_the_conflicts_between(client: TestClient, engine: Engine, run_id: int) -> None:
    refused = client.post(f"/runs/{run_id}:resume")
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["state"] == "queued"
    assert client.post(f"/runs/{run_id}:stop").json()["status"] == "stopped"
    assert client.post(f"/runs/{run_id}:stop").json()["state"] == "stopped"
    assert client.post(f"/runs/{run_id}:resume").json()["status"] == "queued"
    claimed(engine)
    assert client.post(f"/runs/{run_id}:stop").json()["status"] == "stopping"
    history = client.get(f"/runs/{run_id}/transitions").json()["items"]
    assert [step["to_status"] for step in history] == ["queued", "stopped", "queued", "starting", "stopping"]


def test_pause_retry_and_clone(client: TestClient, engine: Engine, run_id: int) -> None:
    assert client.post(f"/runs/{run_id}:pause").json()["status"] == "paused"
    assert client.post(f"/runs/{run_id}:pause").json()["state"] == "paused"
    assert client.post(f"/runs/{run_id}:retry").json()["state"] == "paused"
    assert client.post(f"/runs/{run_id}:resume").json()["status"] == "queued"
    claim = claimed(engine)
    with writing(engine) as session:
        runs.finish(session, claim, "failed", error=runs.RunError("data", "A line is broken.", "Mend it."))
    afresh = client.post(f"/runs/{run_id}:retry", json={"start": "afresh"}).json()
    assert (afresh["status"], afresh["copied_from"]) == ("queued", run_id)
    assert client.get(f"/runs/{run_id}").json()["retried_as"] == afresh["id"]
    refused = client.post(f"/runs/{run_id}:retry", json={"start": "afresh"})
    assert (refused.status_code, refused.json()["state"]) == (409, "failed")
    resumed = client.post(f"/runs/{run_id}:retry").json()
    assert (resumed["id"], resumed["status"], resumed["error"]) == (run_id, "queued", None)

    override = {"name": "another tau", "config": {"method": {"gate": {"threshold": 0.4}}}}
    clone = client.post(f"/runs/{run_id}:clone", json=override)
    assert clone.status_code == 201
    made = client.get(f"/experiments/{clone.json()['experiment_id']}").json()
    assert (clone.json()["name"], made["config"]["method"]["gate"]["threshold"]) == ("another tau", 0.4)
    same = client.post(f"/runs/{run_id}:clone").json()
    assert same["experiment_id"] == resumed["experiment_id"]
    wrong = client.post(f"/runs/{run_id}:clone", json={"config": {"method": {"gate": {"threshold": -1}}}})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "method.gate.threshold")


def test_a_completed_run_makes_its_ending_again(client: TestClient, told_run: int) -> None:
    assert client.post(f"/runs/{told_run}:resume").json()["status"] == "queued"


def test_the_queue_is_moved_and_ranked(client: TestClient, experiment_id: int) -> None:
    ids = [client.post(f"/experiments/{experiment_id}/runs").json()["id"] for _ in range(3)]

    def queue() -> list[int]:
        return [run["id"] for run in client.get("/queue").json()["items"]]

    assert client.post(f"/runs/{ids[2]}:move", json={"position": 1}).json()["queue_position"] == 1
    assert queue() == [ids[2], ids[0], ids[1]]
    assert client.patch(f"/runs/{ids[1]}", json={"priority": 5}).json()["queue_position"] == 1
    client.post(f"/runs/{ids[0]}:stop")
    assert client.post(f"/runs/{ids[0]}:move", json={"position": 1}).json()["state"] == "stopped"
    assert queue() == [ids[1], ids[2]]


def test_runs_are_renamed_tagged_and_archived(client: TestClient, experiment_id: int) -> None:
    first, second = (client.post(f"/experiments/{experiment_id}/runs").json()["id"] for _ in range(2))
    changed = client.patch(f"/runs/{first}", json={"name": "mine", "tags": ["a", "b%", "a"]}).json()
    assert (changed["name"], changed["tags"], changed["archived"]) == ("mine", ["a", "b%"], False)
    assert [run["id"] for run in client.get("/runs", params={"tag": ["a", "b%"]}).json()["items"]] == [first]
    assert client.get("/runs", params={"tag": "b"}).json()["items"] == []
    client.patch(f"/runs/{first}", json={"archived": True})
    assert [run["id"] for run in client.get("/runs").json()["items"]] == [second]
    assert [run["id"] for run in client.get("/runs?archived=true").json()["items"]] == [first]
    assert client.patch(f"/runs/{first}", json={"status": "completed"}).status_code == 422
    assert client.get(f"/runs/{first}").json()["tags"] == ["a", "b%"]


def test_a_failed_run_tells_its_error(client: TestClient, engine: Engine, run_id: int) -> None:
    claim = claimed(engine)
    with writing(engine) as session:
        runs.finish(session, claim, "failed", error=runs.RunError("data", "A line is broken.", "Mend it."))
    run = client.get(f"/runs/{run_id}").json()
    assert (run["status"], run["error"]) == ("failed", {"kind": "data", "message": "A line is broken.", "advice": "Mend it."})


@pytest.mark.parametrize(
    "path",
    ["/runs/77", "/experiments/77", "/exchanges/77", "/runs/77/metrics", "/runs/77/exchanges", "/runs/77/events", "/runs/77/logs", "/none"],
)
def test_what_is_not_there_is_a_404_problem(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 404


def test_metrics_are_read_after_a_cursor_without_gap_or_repeat(client: TestClient, told_run: int) -> None:
    everything = client.get(f"/runs/{told_run}/metrics").json()["items"]
    assert len(everything) == 9
    assert set(everything[0]) >= {"seq", "name", "step", "round", "value", "at"}
    seen: list[Any] = []
    after: Any = 0
    while page := client.get(f"/runs/{told_run}/metrics", params={"after": after, "limit": 2}).json()["items"]:
        seen += page
        after = page[-1]["id"]
    assert seen == everything


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("name=s1/train/loss", ["s1/train/loss", "s1/train/loss"]),
        ("name=s2/*", ["s2/gate/gap", "s2/gate/open"]),
        ("name=s1/train/entropy&name=s2/gate/*", ["s2/gate/gap", "s2/gate/open", "s1/train/entropy"]),
        ("name=s%25", []),
        ("name=s%25*", []),
        ("name=nothing", []),
    ],
)
def test_metrics_by_name(client: TestClient, told_run: int, query: str, names: list[str]) -> None:
    assert [point["name"] for point in client.get(f"/runs/{told_run}/metrics?{query}").json()["items"]] == names


def test_metric_names_are_listed(client: TestClient, told_run: int) -> None:
    assert "s1/eval/facts/avg@16" in client.get(f"/runs/{told_run}/metric-names").json()["items"]


def test_one_exchange_with_its_siblings(client: TestClient, told_run: int) -> None:
    listed = client.get(f"/runs/{told_run}/exchanges").json()["items"]
    detail = client.get(f"/exchanges/{listed[1]['id']}").json()
    assert detail["siblings"] == [item["id"] for item in listed]
    assert {key: value for key, value in detail.items() if key in listed[1]} == listed[1]
    assert detail.keys() - listed[1].keys() == {"siblings", "tokens_recorded"}
    assert detail["tokens_recorded"] is False
    assert detail["question"] == {"id": "q0", "prompt": "How dense is lead?", "answer": "3"}
    assert detail["rollout"]["index"] == 1
    assert detail["feedback"] == {
        "raw": "<concept>dense</concept> wrong",
        "text": "wrong",
        "outcome": "no_match",
        "concept": "dense",
        "matched_word": "dense",
        "removed": ["(B)"],
    }
    assert (detail["divergence"], detail["in_loss"], detail["teacher_prompt"]) == ({"mean": 0.25, "max": 0.5}, True, "the prompt")


def test_exchanges_by_filter_and_by_page(client: TestClient, engine: Engine, run_id: int) -> None:
    claim = claimed(engine)
    events = [
        exchange(1000 + 100 * step + 10 * group + index, step=step, group=group, index=index, tutee=tutee, feedback=index < 2)
        for step, tutee in ((1, "s1"), (2, "s1"), (3, "s2"))
        for group in range(2)
        for index in range(3)
    ]
    with writing(engine) as session:
        ingest(session, run_id, claim.token, events)

    def found(**filters: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = client.get(f"/runs/{run_id}/exchanges", params={"limit": 4, "cursor": cursor, **filters}).json()
            items += page["items"]
            cursor = page["next_cursor"]
        return items

    assert len(found()) == len({item["id"] for item in found()}) == 18
    assert [item["id"] for item in found(order="newest")] == [item["id"] for item in found()][::-1]
    assert {item["tutee"] for item in found(student="s2")} == {"s2"}
    assert len(found(step=2)) == 6
    assert len(found(question="q1", student="s1")) == 6
    assert [item["rollout"]["index"] for item in found(correct=True)] == [0] * 6
    assert {item["feedback"]["outcome"] for item in found(outcome="no_match")} == {"no_match"}
    assert [item["feedback"] for item in found(outcome="none")] == [None] * 6
    assert len(found(outcome=["none", "kept"])) == 12
    assert found(domain="history") == []
    assert found(round=1, step=1, tutee="s1", correct=False, outcome="no_match", question="q0")[0]["rollout"]["index"] == 1
    assert client.get(f"/runs/{run_id}/exchanges?outcome=lost").status_code == 422


def test_evaluations_gates_checkpoints_and_the_report(client: TestClient, told_run: int) -> None:
    evaluations = client.get(f"/runs/{told_run}/evaluations").json()["items"]
    assert [(item["split"], item["round"], item["score"]) for item in evaluations][-1] == ("test", 2, 0.75)
    told = {"round", "student", "domain", "split", "score", "low", "high", "questions", "samples", "majority_baseline"}
    assert set(evaluations[0]) >= told
    assert client.get(f"/runs/{told_run}/gate-decisions").json()["items"][0]["domains"] == ["facts"]
    assert client.get(f"/runs/{told_run}/checkpoints").json()["items"][0]["path"] == "checkpoints/1.json"
    (rates,) = client.get(f"/runs/{told_run}/break-rescue").json()["items"]
    assert (rates["difficulty"], rates["break_rate"], rates["rescue_rate"]) == ([0, 1], 0.25, None)
    report = client.get(f"/runs/{told_run}/report").json()
    assert report["run"]["verdict"] == {"mutual_improvement": True, "students": {"s1": True, "s2": True}}
    assert report["outcomes"] == {"kept": 2, "no_match": 2}
    exported = next(item for item in client.get("/students").json()["items"] if item["run_id"] == told_run)
    assert Path(exported["model"]).is_absolute()


def test_the_log_is_read_in_whole_characters(client: TestClient, run_id: int, engine: Engine, tmp_path: Path) -> None:
    assert client.get(f"/runs/{run_id}/logs").json() == {"text": "", "next_cursor": "0", "size": 0}
    claim = claimed(engine)
    folder = tmp_path / "home" / "runs" / claim.folder
    folder.mkdir(parents=True)
    text = "started\nτ = 0.2 ünïcode\n"
    (folder / "log.txt").write_bytes(text.encode() + "é".encode()[:1])  # a character half written
    read, cursor = "", "0"
    while part := client.get(f"/runs/{run_id}/logs", params={"after": cursor, "limit": 7}).json():
        if not part["text"]:
            break
        read, cursor = read + part["text"], part["next_cursor"]
    assert read == text
    assert client.get(f"/runs/{run_id}/logs?limit=12").json()["text"].endswith("code\n")
    assert client.get(f"/runs/{run_id}/logs?after=100000").json()["text"] == ""


def test_workers_and_health(client: TestClient, engine: Engine) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    ready = client.get("/health/ready").json()
    assert ready["ready"] is True
    assert any("worker" in reason for reason in ready["reasons"])
    with writing(engine) as session:
        workers.heartbeat(session, "gpu1", host="node", pid=5, device="cuda:0")
    (worker,) = client.get("/workers").json()["items"]
    assert (worker["name"], worker["device"], worker["run_id"]) == ("gpu1", "cuda:0", None)
    assert not any("worker is connected" in reason for reason in client.get("/health").json()["reasons"])


def test_a_database_that_is_away_is_a_503_and_not_ready(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", reap_seconds=600)
    with TestClient(create_app(settings), base_url="http://testserver/api/v1") as client:
        database = tmp_path / "home" / "opcod.db"

        def gone() -> bool:
            """The service's own first sweep may be at the database still, and make its file again."""
            client.app.state.engine.dispose()  # type: ignore[attr-defined]
            for path in tmp_path.glob("home/opcod.db*"):
                path.unlink(missing_ok=True)
            with suppress(FileExistsError):
                database.mkdir()  # nothing can be opened there
                return True
            return False

        await_value(gone, seconds=60, what="a moment in which nobody opens the database")
        client.app.state.engine.dispose()  # type: ignore[attr-defined]  # of what the first sweep had opened meanwhile
        answer = client.get("/runs")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["advice"]
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200


def test_a_fault_of_ours_tells_an_id_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fall(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("app.records.queries.run", fall)
    app = create_app(Settings(home=tmp_path / "home"))
    with TestClient(app, base_url="http://testserver/api/v1", raise_server_exceptions=False) as client:
        answer = client.get("/runs/1")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["id"] in caplog.text


def test_the_interface_describes_itself(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert "/api/v1/runs/{run_id}:stop" in schema["paths"]
    assert schema["components"]["schemas"]["RunStudent"]["properties"]["gap"]["description"]
    assert not [path for path in schema["paths"] if not path.startswith("/api/v1/")]
