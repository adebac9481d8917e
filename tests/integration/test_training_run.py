"""Whole runs of the tiny demo: repeatable, resumable to the bit, and the same side by side as in turn."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from opcod.errors import CheckpointError, ConfigError, DataError
from opcod.evaluation.accuracy import evaluate
from opcod.events import CheckpointSaved, EvaluationFinished, ExchangeRecorded, GateDecided, PhaseStarted, RunFinished, StepFinished
from opcod.sinks import read_events
from opcod.students.loading import load_student, resolve_device
from opcod.training import student_host
from opcod.training.micro_batch_size import MicroBatchSize
from opcod.training.student_host import StudentHost
from tests.integration.training_runs import facts, record, run, tiny, weights
from tests.unit.training.test_micro_batch_size import FIRST, Foretold

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(tiny(), folder).outcome == "completed"
    return folder


def test_a_run_tells_its_whole_story(undisturbed: Path) -> None:
    events = read_events(undisturbed / "events.jsonl")
    assert [event.seq for event in events] == sorted({event.seq for event in events})
    kinds = Counter(event.kind for event in events)
    assert kinds["run_started"] == kinds["run_finished"] == 1
    assert kinds["round_started"] == 2
    assert kinds["gate_decided"] == 4
    assert kinds["phase_started"] == kinds["phase_finished"] == 4
    assert kinds["step_finished"] == 8
    assert kinds["exchange_recorded"] == 8 * 4 * 4
    assert kinds["break_rescue_measured"] > 0
    evaluations = Counter((e.evaluation.split, e.evaluation.round) for e in events if isinstance(e, EvaluationFinished))
    assert evaluations == {("test", 0): 4, ("validation", 0): 4, ("validation", 1): 4, ("validation", 2): 4, ("test", 2): 4}
    assert all(
        event.tutors == ["student2" if event.tutee == "student1" else "student1"] for event in events if isinstance(event, PhaseStarted)
    )


def test_exports_are_ordinary_model_folders(undisturbed: Path) -> None:
    finished = read_events(undisturbed / "events.jsonl")[-1]
    assert isinstance(finished, RunFinished)
    for relative in finished.exports.values():
        student = load_student(str(undisturbed / relative), device=resolve_device("cpu"), dtype=torch.float32)
        assert student.tokenizer.eos_token


def test_a_run_repeats_itself(undisturbed: Path, tmp_path: Path) -> None:
    run(tiny(), tmp_path)
    assert facts(tmp_path) == facts(undisturbed)
    assert weights(tmp_path) == weights(undisturbed)


@pytest.mark.parametrize("beats", [0, 3])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(undisturbed: Path, tmp_path: Path, beats: int) -> None:
    config = tiny(recording={"checkpoint_every_steps": 7})  # so that the stop's own checkpoint is the newest
    reference = facts(undisturbed)
    assert run(config, tmp_path, stop_after=beats).outcome == "stopped"
    assert run(config, tmp_path, stop_after=1).outcome == "stopped"
    assert run(config, tmp_path).outcome == "completed"
    assert facts(tmp_path) == reference
    assert weights(tmp_path) == weights(undisturbed)


def test_kill_nine_in_the_middle_changes_nothing(undisturbed: Path, tmp_path: Path) -> None:
    """With a process for each student, held against students that trained in turn: side by side it is the same run, too.

    The process of one for all is killed in tests/faults.
    """
    config = tiny(compute={"side_by_side": True})
    file = tmp_path / "run.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "opcod", "train", str(file), "--folder", str(folder), "--json"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    steps = 0
    for line in process.stdout:
        steps += '"kind":"step_finished"' in line
        if steps == 3:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(facts(folder)) < len(facts(undisturbed))
    assert run(config, folder).outcome == "completed"
    assert record(folder) == record(undisturbed)
    assert weights(folder) == weights(undisturbed)


def test_a_half_written_line_and_a_truncated_checkpoint_are_survived(undisturbed: Path, tmp_path: Path) -> None:
    config = tiny()
    run(config, tmp_path, stop_after=3)
    with (tmp_path / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"seq": 99')
    newest = max((tmp_path / "checkpoints").glob("student2-*"))  # the one that moved last
    state = newest / "optimizer.safetensors"
    state.write_bytes(state.read_bytes()[:-10])
    assert run(config, tmp_path).outcome == "completed"
    assert facts(tmp_path) == facts(undisturbed)
    assert weights(tmp_path) == weights(undisturbed)


def test_micro_batches_that_grow_are_told_and_go_on_growing_where_a_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def measured(*_: object) -> MicroBatchSize:
        device = Foretold(capacity=2_000_000, stood=1_000, fixed=10_000, rate=1_000)
        return device.of(MicroBatchSize(FIRST, device))

    monkeypatch.setattr(student_host, "_micro_batch_size", measured)
    config = tiny()
    caplog.set_level("INFO", logger="opcod.training.trainer")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(config, whole)
    told = [int(found[1]) for line in caplog.messages if (found := re.match(r"student1: micro-batches of at most (\d+) tokens", line))]
    assert told[0] == FIRST
    assert told == sorted(set(told))
    assert len(told) > 2
    assert run(config, cut, stop_after=3).outcome == "stopped"
    assert run(config, cut).outcome == "completed"
    assert facts(cut) == facts(whole)
    assert weights(cut) == weights(whole)


def test_another_configuration_does_not_resume(tmp_path: Path) -> None:
    run(tiny(), tmp_path, stop_after=0)
    with pytest.raises(CheckpointError, match="another configuration"):
        run(tiny(optimizer={"learning_rate": 1e-3}), tmp_path)


@pytest.mark.parametrize(
    ("snapshot", "frozen_after"),
    [
        ("round_start", [("student1", 0), ("student2", 0), ("student1", 2), ("student2", 2)]),
        ("latest", [("student1", 0), ("student2", 2), ("student1", 2), ("student2", 4)]),
    ],
)
def test_a_phase_is_tutored_by_the_peer_as_the_round_began_or_as_its_own_phase_left_it(
    snapshot: str, frozen_after: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(tutee, the updates that its tutor had made when it was frozen) of every phase: 2 rounds of 2 steps."""
    phases: list[tuple[str, int]] = []
    begin = StudentHost.begin_phase

    def spy(host: StudentHost, decisions: Any, scores: Any, tutor_steps: Mapping[str, int]) -> None:
        phases.extend((host.name, steps) for steps in tutor_steps.values())
        begin(host, decisions, scores, tutor_steps)

    monkeypatch.setattr(StudentHost, "begin_phase", spy)
    run(tiny(schedule={"tutor_snapshot": snapshot}), tmp_path)
    assert phases == frozen_after


def test_three_students_and_one_domain(tmp_path: Path) -> None:
    """N = 3, D = 1: every rollout is tutored by the peer that scores best on its domain."""
    preset = tiny()
    names = {"student1": "densities", "student2": "protons", "student3": "novice"}
    students = [{"name": name, "model": f"demo:{model}"} for name, model in names.items()]
    domains = [preset.domains[0].model_dump(mode="json")]
    result = run(tiny(students=students, domains=domains, schedule={"rounds": 1, "steps_per_round": 1}), tmp_path)
    assert result.verdict is not None
    assert set(result.verdict.students) == set(names)
    events = read_events(tmp_path / "events.jsonl")
    scores = {
        e.evaluation.student: e.evaluation.score
        for e in events
        if isinstance(e, EvaluationFinished) and e.evaluation.split == "validation" and e.evaluation.round == 0
    }
    tutored = [event.exchange for event in events if isinstance(event, ExchangeRecorded)]
    assert {exchange.tutee for exchange in tutored} == set(names)
    for exchange in tutored:
        peers = [score for name, score in scores.items() if name != exchange.tutee]
        assert exchange.tutor is not None
        assert scores[exchange.tutor] == max(peers)


def test_adapters_in_bfloat16_go_on_bit_for_bit(tmp_path: Path) -> None:
    config = tiny(compute={"dtype": "bfloat16", "adapters": {"rank": 4, "dropout": 0.1}}, schedule={"rounds": 1})
    run(config, tmp_path / "whole")
    assert run(config, tmp_path / "parts", stop_after=1).outcome == "stopped"
    run(config, tmp_path / "parts")
    assert facts(tmp_path / "parts") == facts(tmp_path / "whole")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


@pytest.mark.parametrize("algorithm", ["sdpo", "grpo"])
def test_baselines_ask_no_tutor(tmp_path: Path, algorithm: str) -> None:
    run(tiny(method={"algorithm": algorithm}, schedule={"rounds": 1, "steps_per_round": 1}), tmp_path)
    events = read_events(tmp_path / "events.jsonl")
    assert all(event.exchange.feedback is None for event in events if isinstance(event, ExchangeRecorded))
    assert all(not event.decision.domains for event in events if isinstance(event, GateDecided))
    steps = [event for event in events if isinstance(event, StepFinished)]
    assert len(steps) == 2


def test_the_gate_reads_validation_scores_with_the_evaluation_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watch(policy, questions, verifier, params, **named):
        seen.append((named["split"], {question.id for question in questions}, params))
        return evaluate(policy, questions, verifier, params, **named)

    monkeypatch.setattr("opcod.training.student_host.evaluate", watch)
    config = tiny(schedule={"rounds": 1, "steps_per_round": 1}, method={"gate": {"strategy": "cognizance"}})
    run(config, tmp_path)
    validation = set().union(*(ids for split, ids, _ in seen if split == "validation"))
    test = set().union(*(ids for split, ids, _ in seen if split == "test"))
    assert validation
    assert not validation & test
    for _, _, params in seen:
        assert (params.temperature, params.top_p, params.n) == (0.6, 0.95, 2)
    events = read_events(tmp_path / "events.jsonl")
    scores = {
        (e.evaluation.student, e.evaluation.domain): e.evaluation.score
        for e in events
        if isinstance(e, EvaluationFinished) and e.evaluation.split == "validation" and e.evaluation.round == 0
    }
    domains = {domain for _, domain in scores}
    best = {domain: max(score for (_, d), score in scores.items() if d == domain) for domain in domains}
    for event in events:
        if isinstance(event, GateDecided):
            gap = sum((best[d] - scores[event.decision.tutor, d]) / best[d] for d in domains if best[d])
            assert event.decision.gap == pytest.approx(gap)


def test_old_checkpoints_and_tutors_are_swept(undisturbed: Path) -> None:
    manifests = list((undisturbed / "checkpoints").glob("checkpoint-*.json"))
    assert len(manifests) == 2
    saved = [event for event in read_events(undisturbed / "events.jsonl") if isinstance(event, CheckpointSaved)]
    assert len(saved) > 4
    assert (undisturbed / saved[-1].path).is_file()
    assert len(list((undisturbed / "checkpoints").glob("student*"))) <= 4


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"method": {"loss": {"top_k": 5000}}}, ConfigError, "vocabulary"),
        ({"generation": {"max_prompt_tokens": 3}}, DataError, "longer than 3 tokens"),
    ],
)
def test_what_only_a_loaded_student_shows_is_refused_before_training(tmp_path: Path, overrides, error, message) -> None:
    with pytest.raises(error, match=message):
        run(tiny(**overrides), tmp_path)
    assert not (tmp_path / "checkpoints").exists()
    assert read_events(tmp_path / "events.jsonl") == []
