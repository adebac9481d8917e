"""Runs side by side, over REST and as a page, and the page of a run's report."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db import writing
from app.experiments import experiments
from app.lifecycle import runs
from app.tables import ExperimentRow, RunRow
from app.web.compare_page import Asked
from opcod.config import ExperimentConfig, merge, parse_config
from opcod.evaluation.pareto import dominates
from tests.browser.seeding import HOSTILE, Story, end_run, events, feed, queue_run, seed_run, start_run


@dataclass(frozen=True)
class Varied(Story):
    """A story with other settings."""

    settings: dict[str, Any] = field(default_factory=dict)

    def config(self) -> ExperimentConfig:
        return parse_config(merge(super().config().model_dump(mode="json"), self.settings))


@pytest.fixture(scope="module")
def ids(engine: Engine) -> list[int]:
    """Two seeds of one configuration, a baseline, another threshold, and a run under way."""
    stories = [
        Varied(name="opcod 0", seed=1, settings={"seed": 0}),
        Varied(name="opcod 1", seed=2, settings={"seed": 1}),
        Varied(name=f"sdpo {HOSTILE}"[:180].replace("\u0007", "").replace("\u202e", "").replace("\u202c", ""), algorithm="sdpo", seed=3),
        Varied(name="tau", seed=4, settings={"method": {"gate": {"threshold": 0.4}}}),
    ]
    found = [seed_run(engine, story) for story in stories]
    under_way = Story(name="under way", seed=5)
    claim = start_run(engine, under_way)
    feed(engine, claim, list(events(under_way))[:150])
    return [*found, claim.run_id]


def compared(client: TestClient, ids: Sequence[int], **more: Any) -> dict[str, Any]:
    answer = client.get("/api/v1/compare", params={"runs": ",".join(map(str, ids)), **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_runs_that_differ_in_seed_and_name_are_one_configuration(client: TestClient, ids: list[int]) -> None:
    found = compared(client, ids[:4])
    assert [group["run_ids"] for group in found["groups"]] == [ids[:2], [ids[2]], [ids[3]]]
    assert [group["label"] for group in found["groups"]] == ["OPCoD, threshold 0.2", "SDPO, threshold 0.2", "OPCoD, threshold 0.4"]
    assert {one["setting"]: one["sets_apart"] for one in found["settings"]} == {
        "method.algorithm": True,
        "method.gate.threshold": True,
        "seed": False,
    }
    by_setting = {one["setting"]: one["values"] for one in found["settings"]}
    assert by_setting["method.gate.threshold"] == [0.2, 0.2, 0.2, 0.4]


def test_scores_are_those_of_the_runs_and_a_configuration_s_their_mean_and_range(client: TestClient, ids: list[int]) -> None:
    found = compared(client, ids[:4])
    assert found["split"] == "test"
    for line in found["scores"]:
        for run_id, score in zip(ids, line["latest"], strict=False):
            run = client.get(f"/api/v1/runs/{run_id}").json()
            student = next(one for one in run["students"] if one["name"] == line["student"])
            assert score["score"] == student["scores"]["final"][line["domain"]]
        pair = [one["score"] for one in line["latest"][:2]]
        assert line["groups"][0] == {"runs": 2, "mean": pytest.approx(sum(pair) / 2), "low": min(pair), "high": max(pair)}
        assert line["groups"][1]["low"] == line["latest"][2]["low"]


def test_the_pareto_mark_is_the_paper_s_order(client: TestClient, ids: list[int]) -> None:
    found = compared(client, ids[:4])
    for student in ("student1", "student2"):
        lines = [line for line in found["scores"] if line["student"] == student]
        vectors = [{line["domain"]: line["latest"][place]["score"] for line in lines} for place in range(4)]
        for place, run in enumerate(found["runs"]):
            assert run["fronts"][student] == (not any(dominates(other, vectors[place]) for other in vectors))
    assert any(run["front"] for run in found["runs"])


def test_a_run_without_a_final_test_makes_all_be_compared_on_validation(client: TestClient, ids: list[int]) -> None:
    found = compared(client, ids)
    assert found["split"] == "validation"
    assert compared(client, ids, split="test")["scores"][0]["latest"][4] is None
    assert compared(client, ids, split="test")["runs"][4]["front"] is None


def test_what_makes_scores_incomparable_is_said(client: TestClient, engine: Engine, ids: list[int]) -> None:
    assert compared(client, ids[:4])["cautions"] == []
    other = Story(name="other questions").config().model_dump(mode="json")
    other["domains"][0]["test"] = "demo:densities:train"
    odd = seed_run(engine, Varied(name="other questions", settings={"domains": other["domains"], "evaluation": {"samples": 2}}))
    cautions = compared(client, [ids[0], odd])["cautions"]
    assert "The test questions of densities are not the same in all runs." in cautions
    assert any("not sampled in the same way" in caution for caution in cautions)


@pytest.mark.parametrize("runs", ["", "a", "1,b", "-1", ",", "1" * 400, ",".join(map(str, range(1, 60))), "99999", "1,99999"])
def test_what_is_no_list_of_runs_is_refused_in_words(client: TestClient, ids: list[int], runs: str) -> None:
    answer = client.get("/api/v1/compare", params={"runs": runs})
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_a_curve_comes_on_a_common_grid_and_loses_no_extreme(client: TestClient, ids: list[int]) -> None:
    name, query = "student1/train/loss", ",".join(map(str, ids[:4]))
    fine = client.get("/api/v1/compare/curves", params={"runs": query, "name": name}).json()
    coarse = client.get("/api/v1/compare/curves", params={"runs": query, "name": name, "points": 10}).json()
    assert (fine["axis"], fine["width"], fine["x"]) == ("step", 1, list(range(1, 19)))
    assert (coarse["width"], len(coarse["x"])) == (2, 10)
    for run, summed in zip(fine["runs"], coarse["runs"], strict=True):
        points = client.get(f"/api/v1/runs/{run['run_id']}/metrics", params={"name": name}).json()["items"]
        values = [point["value"] for point in points]
        assert run["mean"] == values
        assert (min(summed["low"]), max(summed["high"])) == (min(values), max(values))
    pair = [run["mean"] for run in fine["runs"][:2]]
    assert fine["groups"][0]["mean"] == pytest.approx([(a + b) / 2 for a, b in zip(*pair, strict=True)])
    assert fine["groups"][0]["low"] == [min(a, b) for a, b in zip(*pair, strict=True)]
    assert fine["groups"][0]["runs"] == [2] * 18


def test_validation_scores_and_gaps_are_curves_by_round(client: TestClient, ids: list[int]) -> None:
    def curve(name: str) -> dict[str, Any]:
        found: dict[str, Any] = client.get("/api/v1/compare/curves", params={"runs": f"{ids[0]}", "name": name}).json()
        return found

    score, gap, unknown = curve("student1/eval/densities"), curve("student2/gate/gap"), curve("nobody/knows")
    assert (score["axis"], score["x"], gap["x"]) == ("round", [0, 1, 2, 3], [1, 2, 3])
    assert score["runs"][0]["low"][0] < score["runs"][0]["mean"][0] < score["runs"][0]["high"][0]
    assert (unknown["x"], unknown["runs"]) == ([], [])


def test_the_address_holds_all_that_was_chosen_and_is_as_short_as_it_can_be(client: TestClient) -> None:
    asked = Asked(runs=(3, 1), by="run", split="test", measures=("gap",), x="a/b", y="c", sort="-d", smooth=0.5)
    query = asked.query
    assert Asked.read([tuple(part.split("=")) for part in query.split("&")]) == asked  # type: ignore[misc]
    assert Asked(runs=(1, 2)).query == "runs=1,2"
    answer = client.get("/compare?runs=1&runs=2&split=", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/compare?runs=1,2")
    odd = Asked.read([("runs", "1,x,²,-3,1"), ("by", "z"), ("split", "z"), ("smooth", "1e9"), ("measures", "")])
    assert (odd.runs, odd.by, odd.split, odd.smooth, odd.measures) == ((1,), "configuration", "", 0.0, ())


def test_the_page_says_what_rest_says(client: TestClient, ids: list[int]) -> None:
    page = client.get(f"/compare?runs={','.join(map(str, ids[:4]))}").text
    found = compared(client, ids[:4])
    rows = re.findall(r'<tr id="line-group-\d+">.*?</tr>', page, re.DOTALL)
    assert len(rows) == 3
    for place, row in enumerate(rows):
        for line in found["scores"]:
            assert f"{100 * line['groups'][place]['mean']:.1f}" in row
        assert html.escape(found["groups"][place]["label"]) in row
    assert "<script>window" not in page
    assert page.count('class="plot"') == 3  # a plane for each student, and the scatter
    assert page.count("data-curve=") == 8


def test_fifty_runs_are_overlaid_and_their_page_stays_whole(client: TestClient, engine: Engine) -> None:
    small: dict[str, Any] = {"rounds": 1, "steps": 1, "questions": 1, "rollouts": 1, "shut_in_round": None}
    settings: list[dict[str, Any]] = [{"seed": number, "method": {"gate": {"threshold": 0.1 + number % 5 / 10}}} for number in range(50)]
    fifty = [seed_run(engine, Varied(name=f"many {number}", seed=number, settings=one, **small)) for number, one in enumerate(settings)]
    query = ",".join(map(str, fifty))
    curve = client.get("/api/v1/compare/curves", params={"runs": query, "name": "student1/train/loss"}).json()
    assert [run["run_id"] for run in curve["runs"]] == fifty
    assert all(run["mean"] != [None] for run in curve["runs"])
    assert [group["runs"] for group in curve["groups"]] == [[10]] * 5
    page = client.get(f"/compare?runs={query}&by=run")
    assert (page.status_code, len(page.content) < 1_000_000) == (200, True)
    assert [int(number) for number in re.findall(r'<tr id="line-run-(\d+)">', page.text)] == fifty
    assert page.text.count('<button type="button" aria-pressed="true" data-key="run-') == 50
    assert page.text.rstrip().endswith("</html>")
    grouped = client.get(f"/compare?runs={query}").text
    assert len(re.findall(r'<tr id="line-group-\d+">', grouped)) == 5


def test_rows_are_sorted_by_what_a_column_shows(client: TestClient, ids: list[int]) -> None:
    query = f"runs={','.join(map(str, ids[:4]))}&by=run"
    scores = next(line for line in compared(client, ids[:4])["scores"] if (line["student"], line["domain"]) == ("student1", "protons"))
    expected = [run for _, run in sorted(zip([one["score"] for one in scores["latest"]], ids[:4], strict=True), reverse=True)]
    page = client.get(f"/compare?{query}&sort=-score/student1/protons").text
    assert [int(number) for number in re.findall(r'id="line-run-(\d+)"', page)] == expected
    assert page.count('aria-sort="descending"') == 1


@pytest.mark.parametrize("query", ["", "runs=", "runs=99999", "runs=x", "runs=1,99999&by=run&measures=none&x=no&y=such&sort=thing"])
def test_a_page_of_odd_runs_is_a_page(client: TestClient, ids: list[int], query: str) -> None:
    answer = client.get(f"/compare?{query}")
    assert answer.status_code == 200
    assert ("Nothing to compare yet" in answer.text) == ("runs=1," not in query)
    assert ("there no more" in answer.text) == ("99999" in query)


def test_one_run_and_runs_that_wait_can_be_looked_at(client: TestClient, engine: Engine, ids: list[int]) -> None:
    waits = queue_run(engine, Story(name="waits"))
    for query in (f"runs={ids[0]}", f"runs={waits}", f"runs={ids[0]},{waits}", f"runs={waits}&by=run"):
        assert client.get(f"/compare?{query}").status_code == 200
        for part in ("scores", "more"):
            assert client.get(f"/compare/{part}?{query}").text.lstrip().startswith("<section")


def test_a_report_s_page_has_what_its_files_have(client: TestClient, ids: list[int]) -> None:
    page = client.get(f"/runs/{ids[0]}/report?compare={ids[2]},{ids[3]}").text
    files = [html.unescape(address) for address in re.findall(r'href="(/api/v1/runs/\d+/report[^"]*)"', page)]
    assert len(files) == 4
    report = client.get(next(address for address in files if "json" in address)).json()
    markdown = client.get(next(address for address in files if "markdown" in address)).text
    assert [run["run_id"] for run in report["table"]["runs"]] == [ids[0], ids[2], ids[3]]
    for line in report["table"]["scores"]:
        for score in (line["initial"], *line["latest"]):
            assert f"{100 * score['score']:.1f}" in page
            assert f"{100 * score['score']:.1f}" in markdown
    for one in report["difficulty"]:
        assert f"{one['broken']} of {one['correct_before']}" in page
        assert f"{one['broken']} of {one['correct_before']}" in markdown
    for outcome, count in report["outcomes"].items():
        share = 100 * count / sum(report["outcomes"].values())
        assert f"{share:.1f}" in page
        assert f"`{outcome}` | {count} | {share:.1f} %" in markdown
    assert f"{report['step_time']['with_feedback']['seconds']:.3g} s" in page
    assert f"{report['step_time']['with_feedback']['seconds']:.3g} s" in markdown
    assert "threshold 0.4" in page
    assert "threshold 0.4" in markdown
    assert "<script>window" not in page


def test_steps_with_feedback_are_those_of_phases_with_a_tutor(client: TestClient, ids: list[int]) -> None:
    took = client.get(f"/api/v1/runs/{ids[0]}/report").json()["step_time"]
    assert (took["all_steps"]["steps"], took["with_feedback"]["steps"], took["without_feedback"]["steps"]) == (36, 30, 6)
    alone = client.get(f"/api/v1/runs/{ids[2]}/report").json()["step_time"]
    assert (alone["with_feedback"], alone["without_feedback"]["steps"]) == (None, 36)


@pytest.mark.parametrize("preset", ["paper", "tiny"])
def test_the_paper_s_figures_stand_beside_runs_of_its_preset_only_and_are_marked(client: TestClient, engine: Engine, preset: str) -> None:
    story = Story(name="as in the paper", students=("physicist", "chemist"), domains=("physics", "chemistry"))
    with writing(engine) as session:
        run_id = runs.create_run(session, experiments.create(session, story.config(), preset=preset)).id
        assert run_id is not None
    with writing(engine) as session:
        claim = runs.claim(session, worker="test:1", device="cpu", lease_seconds=3600, run_id=run_id)
        assert claim is not None
        runs.mark_running(session, claim)
    feed(engine, claim, list(events(story)))
    end_run(engine, claim, "completed")
    report = client.get(f"/api/v1/runs/{run_id}/report").json()
    page = client.get(f"/runs/{run_id}/report").text
    texts = {kind: client.get(f"/api/v1/runs/{run_id}/report?format={kind}").text for kind in ("markdown", "csv", "latex")}
    if preset == "tiny":
        assert report["reference"] is None
        assert "arXiv" not in page
        assert not any("arXiv" in text for text in texts.values())
        return
    scores = {(one["student"], one["domain"]): one for one in report["reference"]["scores"]}
    assert scores["chemist", "physics"] == {
        "student": "chemist", "domain": "physics", "initial": 0.486, "grpo": 0.543, "sdpo": 0.564, "opcod": 0.588,
    }  # fmt: skip
    assert "they were not measured here" in page
    assert page.count('class="paper-mark"') == 16
    assert all("arXiv 2606.14368" in text for text in texts.values())
    assert "| chemist | physics | 48.6 | 54.3 | 56.4 | 58.8 |" in texts["markdown"]
    own = [line for line in texts["csv"].splitlines() if f",{run_id}," in line]
    assert not any("paper" in line.rpartition(",")[2] for line in own)


def test_a_sweep_s_run_is_reported_beside_the_sweep_s_other_points(client: TestClient) -> None:
    made = client.post("/api/v1/sweeps", json={"name": "gates", "preset": "tiny", "ablation": "gates"})
    assert made.status_code == 201, made.text
    points = [point["run"]["id"] for point in client.get(f"/api/v1/sweeps/{made.json()['id']}").json()["points"]]
    page = client.get(f"/runs/{points[0]}/report").text
    assert all(f'href="/runs/{other}"' in page for other in points)
    assert "strategy always" in page
    assert f"/compare?runs={','.join(map(str, points))}" in client.get(f"/sweeps/{made.json()['id']}").text
    assert client.get(f"/runs/{points[0]}/report?compare=").text.count("Beside other runs") == 0


def test_settings_that_this_version_would_refuse_are_compared_as_they_stand(client: TestClient, engine: Engine, ids: list[int]) -> None:
    old = Story(name="old").config().model_dump(mode="json") | {"name": "x" * 300, "method": {"algorithm": "opcod", "retired": True}}
    with writing(engine) as session:
        experiment = ExperimentRow(name="old", preset="tiny", config=old)
        session.add(experiment)
        session.flush()
        run = RunRow(experiment_id=experiment.id or 0, name="old", folder="old", status="stopped")
        session.add(run)
        session.flush()
        run_id = run.id
    found = compared(client, [ids[0], run_id or 0])
    assert {"setting": "method.retired", "values": [None, True], "sets_apart": True} in found["settings"]
    assert client.get(f"/compare?runs={ids[0]},{run_id}").status_code == 200
    assert client.get(f"/runs/{run_id}/report?compare={ids[0]}").status_code == 200
