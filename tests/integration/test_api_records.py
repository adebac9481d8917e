"""ETags, exports over HTTP, labels, and reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db import writing
from app.lifecycle import runs
from app.main import create_app
from app.records.exchange_search import search_of
from app.records.ingest import ingest
from app.settings import Settings
from opcod.events import StepFinished
from tests.unit.app.factories import claimed, queued_run, story


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = create_app(Settings(home=tmp_path_factory.mktemp("home")))
    with TestClient(app, base_url="http://testserver/api/v1") as client:
        yield client


@pytest.fixture
def engine(client: TestClient) -> Engine:
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    return engine


def told(engine: Engine) -> int:
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    with writing(engine) as session:
        runs.mark_running(session, claim)
        ingest(session, run_id, claim.token, story())
        runs.finish(session, claim, "completed")
    return run_id


@pytest.fixture
def run_id(engine: Engine) -> int:
    return told(engine)


@pytest.mark.parametrize("path", ["/runs", "/runs/{run}", "/runs/{run}/metrics?limit=2", "/runs/{run}/evaluations", "/workers", "/queue"])
def test_what_is_polled_is_304_until_it_changes(client: TestClient, run_id: int, path: str) -> None:
    path = path.format(run=run_id)
    first = client.get(path)
    tag = first.headers["etag"]
    again = client.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(path, headers={"If-None-Match": '"other"'}).json() == first.json()


def test_a_change_gives_another_tag(client: TestClient, engine: Engine) -> None:
    run_id = queued_run(engine)
    claim = claimed(engine, run_id)
    tags = {path: client.get(path).headers["etag"] for path in (f"/runs/{run_id}", f"/runs/{run_id}/metrics", "/runs")}
    with writing(engine) as session:
        ingest(session, run_id, claim.token, [StepFinished(seq=40, round=1, tutee="s1", step=1, metrics={"s1/train/loss": 0.5})])
    for path, tag in tags.items():
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_an_error_has_no_tag(client: TestClient) -> None:
    answer = client.get("/runs/999999", headers={"If-None-Match": "*"})
    assert answer.status_code == 404
    assert "etag" not in answer.headers


@pytest.mark.parametrize(
    ("path", "media_type", "name"),
    [
        ("metrics/export", "application/x-ndjson", "metrics.jsonl"),
        ("metrics/export?format=csv", "text/csv; charset=utf-8", "metrics.csv"),
        ("metrics/export?format=parquet", "application/vnd.apache.parquet", "metrics.parquet"),
        ("exchanges/export?outcome=kept", "application/x-ndjson", "exchanges.jsonl"),
        ("exchanges/export?format=parquet", "application/vnd.apache.parquet", "exchanges.parquet"),
    ],
)
def test_exports_are_files(client: TestClient, run_id: int, path: str, media_type: str, name: str) -> None:
    answer = client.get(f"/runs/{run_id}/{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"] == f'attachment; filename="run-{run_id}-{name}"'
    assert client.get(f"/runs/999999/{path}").status_code == 404
    if name == "exchanges.jsonl":
        listed = client.get(f"/runs/{run_id}/exchanges?outcome=kept").json()["items"]
        assert [json.loads(line) for line in answer.text.splitlines()] == listed


def test_exchanges_have_no_csv(client: TestClient, run_id: int) -> None:
    assert client.get(f"/runs/{run_id}/exchanges/export?format=csv").status_code == 422


def test_labels_are_put_found_and_taken_off(client: TestClient, run_id: int) -> None:
    ids = [item["id"] for item in client.get(f"/runs/{run_id}/exchanges").json()["items"]]
    for exchange_id, label in ((ids[0], "odd"), (ids[0], "odd"), (ids[2], "odd"), (ids[2], "a b é")):
        answer = client.put(f"/exchanges/{exchange_id}/labels/{label}")
        assert answer.status_code == 200
    assert [item["label"] for item in answer.json()["items"]] == ["a b é", "odd"]
    assert answer.json()["items"][0]["person"] == "user"
    assert [item["id"] for item in client.get(f"/runs/{run_id}/exchanges?label=odd").json()["items"]] == [ids[0], ids[2]]
    assert client.get(f"/exchanges/{ids[2]}").json()["labels"] == ["a b é", "odd"]
    page = client.get(f"/labels?run={run_id}&limit=1").json()
    assert page["items"] == [{"label": "a b é", "exchanges": 1}]
    page = client.get("/labels", params={"run": run_id, "limit": 1, "cursor": page["next_cursor"]}).json()
    assert page == {"items": [{"label": "odd", "exchanges": 2}], "next_cursor": None}
    for _ in range(2):
        assert client.delete(f"/exchanges/{ids[0]}/labels/odd").status_code == 204
    assert [item["id"] for item in client.get(f"/runs/{run_id}/exchanges?label=odd").json()["items"]] == [ids[2]]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/exchanges/999999/labels/odd", 404),
        ("/exchanges/{exchange}/labels/%20", 422),
        ("/exchanges/{exchange}/labels/a%0Ab", 422),
        ("/exchanges/{exchange}/labels/" + "x" * 65, 422),
    ],
)
def test_what_is_no_label_is_refused(client: TestClient, run_id: int, path: str, status: int) -> None:
    exchange = client.get(f"/runs/{run_id}/exchanges").json()["items"][0]["id"]
    answer = client.put(path.format(exchange=exchange))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_comments_are_written_read_and_taken_away(client: TestClient, run_id: int) -> None:
    exchange = client.get(f"/runs/{run_id}/exchanges").json()["items"][0]["id"]
    place = f"/exchanges/{exchange}/comments"
    made = client.post(place, json={"text": "  Look <b>here</b>\n"})
    assert made.status_code == 201
    comment = made.json()
    assert (comment["text"], comment["person"], comment["exchange_id"]) == ("Look <b>here</b>", "user", exchange)
    assert client.get(place).json()["items"] == [comment]
    assert client.post(place, json={"text": "   "}).status_code == 422
    assert client.post("/exchanges/999999/comments", json={"text": "x"}).status_code == 404
    assert client.delete(f"/exchanges/{exchange + 1}/comments/{comment['id']}").status_code == 404
    assert client.delete(f"{place}/{comment['id']}").status_code == 204
    assert client.get(place).json()["items"] == []


def test_views_are_saved_once_a_name(client: TestClient) -> None:
    first = client.post("/views", json={"name": "breaks", "query": "?effect=break"}).json()
    again = client.post("/views", json={"name": "breaks", "query": "effect=break&round=2"}).json()
    assert (again["id"], again["query"], again["owner"]) == (first["id"], "effect=break&round=2", "user")
    assert client.get("/views").json()["items"] == [again]
    assert client.post("/views", json={"name": "a\nb", "query": ""}).status_code == 422
    assert client.delete(f"/views/{first['id']}").status_code == 204
    assert client.delete(f"/views/{first['id']}").status_code == 404


def test_exchanges_are_searched_counted_and_picked(client: TestClient, engine: Engine, run_id: int) -> None:
    while search_of(engine).update():
        pass
    everything = client.get(f"/runs/{run_id}/exchanges").json()["items"]
    assert client.get(f"/runs/{run_id}/exchanges?q=dense lead").json()["items"] == everything
    assert client.get(f"/runs/{run_id}/exchanges?q=zebra").json()["items"] == []
    facets = client.get(f"/runs/{run_id}/exchanges/facets?correct=true").json()
    told = {facet["name"]: {value["value"]: value["exchanges"] for value in facet["values"]} for facet in facets["facets"]}
    assert facets["total"] == 1
    assert told["correct"] == {"false": 3, "true": 1}
    assert told["outcome"] == {"kept": 1}
    picked = [everything[3]["id"], everything[1]["id"]]
    lines = client.get(f"/runs/{run_id}/exchanges/export", params={"id": picked}).text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == sorted(picked)


def test_an_idempotency_key_works_for_runs_and_clones_too(client: TestClient, tmp_path: Path) -> None:
    made: dict[str, Any] = client.post("/experiments", json={"preset": "tiny"}).json()
    for path, body in ((f"/experiments/{made['id']}/runs", {"name": "one"}), ("/runs/{run}:clone", {"config": {"seed": 7}})):
        path = path.format(run=client.get("/runs").json()["items"][0]["id"])
        answers = [client.post(path, json=body, headers={"Idempotency-Key": f"key of {path}"}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 200]
        assert answers[0].json()["id"] == answers[1].json()["id"]
        refused = client.post(path, json={"name": "another"}, headers={"Idempotency-Key": f"key of {path}"})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "Idempotency-Key"


def test_a_report_has_table_1_with_intervals_and_other_runs_beside(client: TestClient, engine: Engine, run_id: int) -> None:
    other = told(engine)
    report = client.get(f"/runs/{run_id}/report", params={"compare": [other, run_id]}).json()
    assert [run["run_id"] for run in report["table"]["runs"]] == [run_id, other]
    assert report["table"]["split"] == "test"
    first = report["table"]["scores"][0]
    assert (first["student"], first["domain"]) == ("s1", "facts")
    assert (first["initial"]["score"], first["initial"]["low"], first["latest"][0]["score"], first["latest"][1]["score"]) == (
        0.5,
        0.4,
        0.75,
        0.75,
    )
    assert report["table"]["scores"][1]["latest"] == [None, None]
    assert report["config"]["schedule"]["rounds"] == 2
    assert client.get(f"/runs/{run_id}/report?compare=999999").status_code == 404


@pytest.mark.parametrize(
    ("query", "accept", "media_type", "has"),
    [
        ("", "*/*", "application/json", '"table"'),
        ("", "text/markdown", "text/markdown; charset=utf-8", "| s1 | facts | 50.0 (40.0-60.0) | 75.0 +25.0 (65.0-85.0) |"),
        ("", "text/html, text/csv;q=0.9", "text/csv; charset=utf-8", "s1,facts,false,test"),
        ("?format=latex", "application/json", "application/x-latex; charset=utf-8", r"s1 & facts & 50.0 (40.0-60.0) & 75.0 +25.0"),
    ],
)
def test_a_report_comes_in_the_format_that_was_asked_for(
    client: TestClient, run_id: int, query: str, accept: str, media_type: str, has: str
) -> None:
    answer = client.get(f"/runs/{run_id}/report{query}", headers={"Accept": accept})
    assert answer.headers["content-type"] == media_type
    assert has in answer.text


def test_a_name_takes_no_effect_in_a_report(client: TestClient, run_id: int) -> None:
    hostile = r'=HYPERLINK("x") \input{/etc/passwd} | <script>x</script> *b* ${'
    assert client.patch(f"/runs/{run_id}", json={"name": hostile}).status_code == 200
    texts = {format: client.get(f"/runs/{run_id}/report?format={format}").text for format in ("markdown", "csv", "latex")}
    assert "<script>" not in texts["markdown"].replace("\\<", "")
    assert r"\input" not in texts["latex"].replace(r"\textbackslash{}input", "")
    assert "\"'=HYPERLINK" in texts["csv"]
    head = texts["markdown"].splitlines()[4]
    assert texts["markdown"].count("\n| s1") == 1, head


def test_a_rollout_is_told_token_by_token_where_it_was_recorded(client: TestClient, run_id: int) -> None:
    first, second = client.get(f"/runs/{run_id}/exchanges?limit=2").json()["items"]
    assert [client.get(f"/exchanges/{one['id']}").json()["tokens_recorded"] for one in (first, second)] == [True, False]
    assert client.get(f"/exchanges/{first['id']}/tokens").json() == {
        "texts": [" ", "3"],
        "in_loss": [True, True],
        "student": [-0.5, -2.0],
        "teacher": [-0.1, -0.2],
        "divergence": [0.01, 0.2],
        "weight": [1.0, 1.1],
        "alternatives": [[], [{"text": "3", "student": 0.1, "teacher": 0.8}, {"text": "4", "student": 0.9, "teacher": 0.1}]],
    }
    missing = client.get(f"/exchanges/{second['id']}/tokens")
    assert (missing.status_code, "single tokens" in missing.json()["detail"]) == (404, True)
