"""The command line's verbs over a real server: each as a table and as JSON, its text harmless, its faults in words."""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from app.cli.main import cli
from app.client import Client, ServiceError
from app.db import migrate, writing
from app.lifecycle import runs
from app.main import create_app
from app.records.ingest import ingest
from app.settings import Settings
from app.shapes import SweepDetail
from opcod.errors import UserError
from tests.browser.seeding import Story, events
from tests.integration.service import make_data, served
from tests.integration.studio import await_value
from tests.people import add_person, make_token
from tests.unit.app.factories import claimed, exchange, story

Call = Callable[..., str]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Engine, Path]]:
    home = tmp_path_factory.mktemp("home")
    app = create_app(Settings(home=home))
    with served(app) as url:
        yield url, app.state.engine, home


@pytest.fixture
def call(studio: tuple[str, Engine, Path]) -> Call:
    def call(*arguments: object, status: int = 0) -> str:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], env={"OPCOD_URL": studio[0], "COLUMNS": "200"})
        if isinstance(result.exception, UserError):
            raise result.exception
        assert result.exit_code == status, result.output
        return result.output

    return call


@pytest.fixture(scope="module")
def file(studio: tuple[str, Engine, Path]) -> Path:
    data = studio[2] / "data"
    data.mkdir()
    path = data / "experiment.yaml"
    path.write_text(json.dumps(make_data(data)))  # JSON is YAML
    return path


@pytest.fixture
def told(call: Call, studio: tuple[str, Engine, Path], file: Path) -> int:
    run_id = int(json.loads(call("launch", file, "--name", "told", "--json"))["id"])
    claim = claimed(studio[1], run_id, worker=f"w{run_id}")
    hostile = exchange(35, index=5, text="\x1b[2J\x1b]0;title\x07 <answer>3</answer>\u202e")
    with writing(studio[1]) as session:
        runs.mark_running(session, claim)
        ingest(session, run_id, claim.token, [*story(), hostile])
        runs.finish(session, claim, "completed")
    return run_id


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_from_launch_to_its_end(call: Call, file: Path) -> None:
    assert call("launch", file, "--check").startswith("valid")
    made = objects(call("launch", file, "--name", "mine", "--json"))[0]
    number = made["id"]
    assert "number 1" in call("move", number, 1)
    assert objects(call("queue", "--json"))[0]["id"] == number
    assert call("change", number, "--name", "renamed", "--tag", "a", "--tag", "b", "--priority", 3).startswith(f"run {number} is queued")
    assert [run["id"] for run in objects(call("runs", "--tag", "a", "--tag", "b", "--json"))] == [number]
    assert "renamed" in call("show", number)
    assert objects(call("pause", number, "--json"))[0]["status"] == "paused"
    assert "is queued" in call("resume", number)
    assert "is stopped" in call("stop", number)
    assert call("wait", number, "--timeout", 5, status=1).startswith(f"run {number} is stopped")
    again = objects(call("retry", number, "--afresh", "--json"))[0]
    assert again["copied_from"] == number
    clone = objects(call("clone", number, "--set", "seed=7", "--set", "method.gate.threshold=0.4", "--name", "clone", "--json"))[0]
    assert (clone["name"], clone["copied_from"]) == ("clone", number)
    call("change", number, "--archive")
    assert number not in [run["id"] for run in objects(call("runs", "--json"))]
    assert number in [run["id"] for run in objects(call("runs", "--archived", "--json"))]


def test_records_as_tables_and_as_json(call: Call, told: int, tmp_path: Path) -> None:
    assert len(objects(call("metrics", told, "--name", "s1/train/*", "--json"))) == 3
    assert "s1/train/loss" in call("metrics", told)
    assert [item["feedback"]["outcome"] for item in objects(call("exchanges", told, "--outcome", "no_match", "--json"))] == ["no_match"] * 3
    assert "How dense is lead?" in call("exchanges", told, "--limit", 2)
    assert "75.0 %" in call("evaluations", told)
    assert len(objects(call("evaluations", told, "--json"))) == 4
    assert "| s1 | facts |" in call("report", told)
    assert r"\toprule" in call("report", told, "--format", "latex")
    assert objects(call("report", told, "--json"))[0]["table"]["split"] == "test"
    assert "Pareto-best" in call("compare", told)
    assert objects(call("compare", told, "--json"))[0]["runs"][0]["run_id"] == told
    for name, what in (("e.jsonl", "exchanges"), ("e.parquet", "exchanges"), ("m.csv", "metrics")):
        assert "bytes" in call("export", told, tmp_path / name, "--what", what)
        assert (tmp_path / name).stat().st_size > 0
    assert [event["kind"] for event in objects(call("events", told, "--kind", "round_started", "--json"))] == ["round_started"]
    assert call("logs", told) == ""
    assert call("wait", told).startswith(f"run {told} is completed")


def test_what_a_model_wrote_does_nothing_to_the_terminal(call: Call, told: int) -> None:
    for output in (call("exchanges", told), call("exchanges", told, "--json"), call("report", told)):
        assert not [character for character in output if not character.isprintable() and character != "\n"]


def test_sweeps(call: Call, file: Path) -> None:
    assert call("sweep", "launch", "t", "--file", file, "--vary", "seed=[0, 1]", "--check").splitlines() == ["t: seed=0", "t: seed=1"]
    made = objects(call("sweep", "launch", "t", "--file", file, "--vary", "seed=[0, 1]", "--json"))[0]
    assert [sweep["id"] for sweep in objects(call("sweep", "list", "--limit", 1, "--json"))] == [made["id"]]
    assert "not yet" in call("sweep", "show", made["id"])
    assert "stopped" in call("sweep", "stop", made["id"])
    assert call("sweep", "table", made["id"]).startswith("point,seed,run_id,status,student")
    assert objects(call("sweep", "wait", made["id"], "--json", status=1))[0]["progress"]["over"] is True
    assert {"gates", "schedule"} <= {one["name"] for one in objects(call("sweep", "ablations", "--json"))}
    with pytest.raises(ServiceError, match="varies nothing"):
        call("sweep", "launch", "t", "--preset", "tiny", "--vary", "seed=3")


def test_what_else_the_service_knows(call: Call, told: int) -> None:
    assert {student["name"] for student in objects(call("students", "--json"))} >= {"s1", "s2"}
    assert "facts" in call("domains")
    assert call("workers", "--json") == ""


def test_faults_are_told_in_the_servers_words(call: Call, told: int, tmp_path: Path, studio: tuple[str, Engine, Path]) -> None:
    with pytest.raises(ServiceError, match="There is no run 999999"):
        call("show", 999_999)
    with pytest.raises(ServiceError, match=f"Run {told} is completed; it cannot be stopped"):
        call("stop", told)
    with pytest.raises(ServiceError, match="name: String should have at most"):
        call("launch", "--preset", "tiny", "--name", "x" * 201)
    with pytest.raises(ServiceError, match="format"):
        call("export", told, tmp_path / "x.csv")
    with pytest.raises(ServiceError, match="No server answers"):
        call("runs", "--url", "http://127.0.0.1:1")


def test_waiting_gives_up(call: Call, file: Path) -> None:
    number = objects(call("launch", file, "--json"))[0]["id"]
    with pytest.raises(ServiceError, match="did not come so far"):
        call("wait", number, "--timeout", 0.2)


def test_the_typed_client_over_the_wire(studio: tuple[str, Engine, Path], told: int) -> None:
    with Client(studio[0]) as client:
        assert client.run(told).verdict.mutual_improvement is True
        first = next(iter(client.exchanges(told, outcome="kept")))
        assert [label.label for label in client.label(first.id, "odd / one?".replace("/", "-"))] == ["odd - one?"]
        assert [item.id for item in client.exchanges(told, label="odd - one?")] == [first.id]
        client.unlabel(first.id, "odd - one?")
        assert client.labels(first.id) == []
        assert [event.kind for event in client.follow(told)][-1] == "status_changed"
        assert client.report(told).table.runs[0].run_id == told
        assert client.compare([told]).scores[0].latest[0] == client.report(told).table.scores[0].latest[0]
        assert client.compare_curves([told], "s1/train/loss").x
        assert client.check({"preset": "tiny"}).valid


def test_tokens_and_webhooks_where_people_sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(Settings(home=tmp_path / "home", auth="password", outbound_allow=("127.0.0.0/8",), reap_seconds=0.1))
    migrate(app.state.engine)
    first = make_token(app.state.engine, add_person(app.state.engine, "ada", "admin"), "admin")

    def call(*arguments: object, token: str = first) -> list[dict[str, Any]]:
        monkeypatch.setenv("OPCOD_TOKEN", token)
        result = CliRunner().invoke(cli, [str(argument) for argument in (*arguments, "--json")], env={"OPCOD_URL": url})
        if isinstance(result.exception, UserError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return objects(result.output)

    with served(app) as url:
        assert call("me")[0]["name"] == "ada"
        made = call("tokens", "create", "nightly", "--scope", "read", "--days", 1)[0]
        assert call("me", token=made["token"])[0]["scope"] == "read"
        with pytest.raises(ServiceError, match="cannot"):
            call("sweep", "launch", "s", "--preset", "tiny", "--ablation", "gates", token=made["token"])
        call("tokens", "revoke", made["id"])
        with pytest.raises(ServiceError, match="Sign in"):
            call("runs", token=made["token"])
        assert {one["name"]: bool(one["revoked_at"]) for one in call("tokens")} == {"nightly": True, "admin for tests": False}

        hook = call("webhooks", "create", "http://127.0.0.1:1/nobody", "--event", "run.failed")[0]
        sent = call("webhooks", "ping", hook["id"])[0]
        await_value(lambda: call("webhooks", "tries", hook["id"], sent["id"]), seconds=60, what="the first try")
        assert call("webhooks", "tries", hook["id"], sent["id"])[0]["status"] is None
        assert call("webhooks", "deliveries", hook["id"])[0]["event"] == "ping"
        assert call("webhooks", "redeliver", hook["id"], sent["id"])[0]["id"] == sent["id"]
        assert call("webhooks", "change", hook["id"], "--event", "run.completed", "--off")[0]["events"] == ["run.completed"]
        assert [one["disabled_why"] for one in call("webhooks")] == ["Somebody turned it off."]
        call("webhooks", "delete", hook["id"])
        assert call("webhooks") == []


def test_the_example_sweeps_and_prints_a_table(
    studio: tuple[str, Engine, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(__file__).parents[2] / "examples" / "sweep_tau.py"
    example = runpy.run_path(str(path))

    def finish(client: Client, sweep_id: int, *, timeout: float | None = None) -> SweepDetail:
        for point in client.sweep(sweep_id).points[:1]:
            assert point.run is not None
            claim = claimed(studio[1], point.run.id, worker=f"w{point.run.id}")
            with writing(studio[1]) as session:
                ingest(session, claim.run_id, claim.token, list(events(Story(domains=("densities", "protons")))))
                runs.finish(session, claim, "completed")
        return client.stop_sweep(sweep_id)

    monkeypatch.setattr(Client, "wait_for_sweep", finish)
    monkeypatch.setenv("OPCOD_URL", studio[0])
    monkeypatch.setattr(sys, "argv", [str(path), "--tau", "0.1", "--tau", "0.4"])
    example["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 runs: ")
    assert re.fullmatch(r" +0.1 +0  completed +5 of 6 +\d\d.\d +\d\d.\d +\+\d+.\d  yes", lines[3])
    assert lines[4].split()[:3] == ["0.4", "0", "stopped"]
