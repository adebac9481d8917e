"""The report says what the events say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opcod.errors import DataError
from opcod.events import (
    BreakRescueMeasured,
    EvaluationFinished,
    Event,
    ExchangeRecorded,
    GateDecided,
    RoundStarted,
    RunFinished,
    RunStarted,
    StepFinished,
)
from opcod.reporting import report, report_folder
from opcod.sinks import JsonLinesSink
from opcod.types import BreakRescue, Evaluation, Exchange, Feedback, FeedbackOutcome, GateDecision, Question, Rollout, Verdict

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return BEGIN + timedelta(minutes=minutes)


def evaluation(round: int, score: float) -> Evaluation:
    return Evaluation(round, "ann", "physics", "test", score, score - 0.1, score + 0.1, 48, 4, 0.4125)


def exchange(group: int, outcome: FeedbackOutcome | None, *, correct: bool, in_loss: bool) -> Exchange:
    rollout = Rollout(index=0, text="r", tokens=40, correct=correct, extracted="B" if correct else None, truncated=False)
    feedback = Feedback("raw", "text", outcome, removed=("Answer: B",) if outcome == "kept" else ()) if outcome else None
    question = Question(str(group), "physics", "Why?", "B")
    divergence = 0.5 if in_loss else None
    return Exchange(1, 1, group, "ann", "bob", question, rollout, None, feedback, None, in_loss, divergence, divergence)


def events() -> list[Event]:
    questions = {"physics": {"train": 179, "validation": 30, "test": 48}}
    exchanges = [
        exchange(0, "kept", correct=True, in_loss=True),
        exchange(1, "no_match", correct=False, in_loss=False),
        exchange(2, "kept", correct=False, in_loss=True),
        exchange(3, None, correct=False, in_loss=False),
    ]
    told: list[Event] = [
        RunStarted(
            at=at(0),
            students=["ann", "bob"],
            domains=["physics"],
            rounds=1,
            steps_per_round=1,
            questions=questions,
            parameters={"ann": 4_884_480},
            notes=["physics: dropped 7 of 720 train questions."],
        ),
        EvaluationFinished(at=at(4), evaluation=evaluation(0, 0.25)),
        RoundStarted(at=at(5), round=1),
        GateDecided(at=at(6), decision=GateDecision(1, "bob", "cognizance", 0.31, 0.2, False, ())),
        *(ExchangeRecorded(at=at(14), exchange=one) for one in exchanges),
        BreakRescueMeasured(at=at(14), result=BreakRescue(1, "ann", "bob", None, correct_before=8, broken=2, wrong_before=0, rescued=0)),
        StepFinished(at=at(15), round=1, tutee="ann", step=1, metrics={"ann/timing_s/step": 90.0, "ann/train/skipped_updates": 0.0}),
        EvaluationFinished(at=at(20), evaluation=evaluation(1, 0.375)),
        RunFinished(at=at(21), verdict=Verdict(False, {"ann": True, "bob": False}), exports={}),
    ]
    return [event.model_copy(update={"seq": seq}) for seq, event in enumerate(told, start=1)]


def row(text: str, *starts: str) -> list[str]:
    """Cells of the one table row that begins with these cells."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    (found,) = [cells for cells in rows if cells[: len(starts)] == list(starts)]
    return found


def test_scores_stand_beside_their_intervals_and_the_baseline() -> None:
    assert row(report(events()), "ann", "physics") == ["ann", "physics", "48", "25.0 % (15.0-35.0)", "37.5 % (27.5-47.5)", "41.2 %"]


def test_verdict_notes_and_parameters_are_told() -> None:
    text = report(events())
    assert "mutual Pareto improvement on test: **no**" in text
    assert "ann Pareto-dominates its initial self: yes" in text
    assert "physics: dropped 7 of 720 train questions." in text
    assert "ann 4,884,480" in text


def test_a_shut_gate_is_told() -> None:
    assert row(report(events()), "1", "bob") == ["1", "bob", "0.310", "0.2", "no", "none: shut"]


def test_outcomes_are_shares_of_the_feedbacks_that_were_asked_for() -> None:
    feedback = report(events()).partition("### Feedback")[2].partition("###")[0]
    assert row(feedback, "1", "ann") == ["1", "ann", "3", "66.7 %", "0.0 %", "0.0 %", "0.0 %", "33.3 %", "0.0 %", "66.7 %"]


def test_training_counts_rollouts_right_answers_and_the_loss() -> None:
    training = report(events()).partition("### Training")[2].partition("###")[0]
    assert row(training, "1", "ann") == ["1", "ann", "1", "4", "25.0 %", "25.0 %", "40", "50.0 %", "0.0 %", "0.5000", "0"]


def test_a_rate_without_cases_is_none_and_not_zero() -> None:
    assert row(report(events()), "ann", "bob") == ["ann", "bob", "all", "25.0 % (2 of 8)", "none"]


def test_wall_time_adds_up() -> None:
    text = report(events())
    parts = ("test before training", "round 1", "final validation and test", "**all**")
    assert [row(text, part)[1] for part in parts] == ["5 min 00 s", "10 min 00 s", "6 min 00 s", "21 min 00 s"]


def test_a_run_under_way_is_told_as_far_as_it_got() -> None:
    text = report(events()[:5])
    assert "**not known yet**" in text
    assert "after round 1" not in text


def test_hostile_names_cannot_break_a_table() -> None:
    start, *rest = events()
    found = EvaluationFinished(seq=99, at=at(20), evaluation=Evaluation(1, "a|b", "x", "test", 0.5, 0.4, 0.6, 1, 1, 0.5))
    line = next(line for line in report([start, *rest[:4], found]).splitlines() if "a\\|b" in line)
    assert line.replace("\\|", "").count("|") == 8 - 1


def test_from_a_folder(tmp_path: Path) -> None:
    with JsonLinesSink(tmp_path / "events.jsonl") as sink:
        for event in events():
            sink.emit(event)
    assert report_folder(tmp_path) == report(events())


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no .*events\.jsonl"):
        report_folder(tmp_path)


def test_a_broken_line(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("{\n")
    with pytest.raises(DataError, match="no event"):
        report_folder(tmp_path)


def test_a_run_that_has_not_started() -> None:
    with pytest.raises(DataError, match="not started"):
        report([])
