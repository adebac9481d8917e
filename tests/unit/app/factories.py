"""Experiments, runs and events for tests of the service."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from app.db import writing
from app.lifecycle import runs
from app.lifecycle.runs import Claim
from app.tables import ExperimentRow
from opcod.config import ExperimentConfig
from opcod.events import (
    BreakRescueMeasured,
    CheckpointSaved,
    EvaluationFinished,
    Event,
    ExchangeRecorded,
    GateDecided,
    PhaseFinished,
    PhaseStarted,
    RoundStarted,
    RunFinished,
    RunStarted,
    StepFinished,
)
from opcod.types import BreakRescue, Evaluation, Exchange, Feedback, GateDecision, Question, Rollout, Split, TokenLens, Verdict


def config(**overrides: Any) -> dict[str, Any]:
    data = {
        "name": "test",
        "students": [{"name": "s1", "model": "org/one"}, {"name": "s2", "model": "org/two"}],
        "domains": [{"name": "facts", "train": "a.jsonl", "validation": "b.jsonl", "test": "c.jsonl"}],
        "schedule": {"rounds": 2, "steps_per_round": 3},
    }
    return ExperimentConfig.model_validate(data | overrides).model_dump(mode="json")


def queued_run(engine: Engine) -> int:
    with writing(engine) as session:
        experiment = ExperimentRow(name="test", config=config())
        session.add(experiment)
        session.flush()
        assert experiment.id is not None
        run_id = runs.create_run(session, experiment.id).id
    assert run_id is not None
    return run_id


def claimed(engine: Engine, run_id: int | None = None, *, worker: str = "w1", lease_seconds: float = 60.0) -> Claim:
    with writing(engine) as session:
        claim = runs.claim(session, worker=worker, device="cpu", lease_seconds=lease_seconds, run_id=run_id)
    assert claim is not None
    return claim


def exchange(
    seq: int, *, step: int = 1, group: int = 0, index: int = 0, tutee: str = "s1", text: str = "<answer>3</answer>", feedback: bool = True
) -> ExchangeRecorded:
    question = Question(f"q{group}", "facts", "How dense is lead?", "3")
    lens = TokenLens(
        ("3", " ", "4"), (1, 0), (True, True), (-0.5, -2.0), (-0.1, -0.2), (0.01, 0.2), (1.0, 1.1), ((), ((0, 0.1, 0.8), (2, 0.9, 0.1)))
    )
    said = Feedback("<concept>dense</concept> wrong", "wrong", "kept" if index % 2 == 0 else "no_match", "dense", "dense", ("(B)",))
    return ExchangeRecorded(
        seq=seq,
        exchange=Exchange(
            round=1,
            step=step,
            group=group,
            tutee=tutee,
            tutor="s2" if tutee == "s1" else "s1",
            question=question,
            rollout=Rollout(index, text, 7, index == 0, "3", False),
            own_solution=None,
            feedback=said if feedback else None,
            teacher_prompt="the prompt",
            in_loss=True,
            divergence_mean=0.25,
            divergence_max=0.5,
            lens=lens if index % 2 == 0 else None,
        ),
    )


def evaluated(seq: int, split: Split, round: int, score: float, student: str = "s1") -> EvaluationFinished:
    return EvaluationFinished(seq=seq, evaluation=Evaluation(round, student, "facts", split, score, score - 0.1, score + 0.1, 10, 16, 0.3))


def story() -> list[Event]:
    """A small run, whole."""
    return [
        RunStarted(
            seq=1,
            students=["s1", "s2"],
            domains=["facts"],
            rounds=2,
            steps_per_round=3,
            questions={"facts": {"train": 9}},
            parameters={"s1": 5, "s2": 5},
        ),
        evaluated(2, "test", 0, 0.5),
        RoundStarted(seq=10, round=1),
        evaluated(11, "validation", 0, 0.4),
        GateDecided(seq=12, decision=GateDecision(1, "s2", "cognizance", 0.1, 0.2, True, ("facts",))),
        PhaseStarted(seq=20, round=1, tutee="s1", tutors=["s2"]),
        *[exchange(30 + index, index=index) for index in range(4)],
        StepFinished(seq=40, round=1, tutee="s1", step=1, metrics={"s1/train/loss": 0.5, "s1/train/entropy": 1.5}),
        StepFinished(seq=50, round=1, tutee="s1", step=2, metrics={"s1/train/loss": 0.4}),
        BreakRescueMeasured(seq=55, result=BreakRescue(1, "s1", "s2", (0, 1), 4, 1, 0, 0)),
        PhaseFinished(seq=60, round=1, tutee="s1"),
        CheckpointSaved(seq=61, round=1, steps={"s1": 2, "s2": 0}, path="checkpoints/1.json", size_bytes=10),
        evaluated(70, "validation", 1, 0.6),
        evaluated(80, "test", 2, 0.75),
        RunFinished(seq=90, verdict=Verdict(True, {"s1": True, "s2": True}), exports={"s1": "export/s1"}),
    ]
