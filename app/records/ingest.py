"""A run's events become rows: once each, in one transaction, and only for the attempt that holds the run.

An event that is sent again (a retry after a lost answer, a step run again after a resume) finds its
(run, seq) taken and changes nothing. After the transaction has committed the caller rings the live
bell (`app.live.ring`); nothing is published here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import insert, update
from sqlmodel import Session, SQLModel, col, select

from app.db import insert_into
from app.lifecycle.runs import hold
from app.records import tallies
from app.records.token_lens import pack
from app.rows import add_rows
from app.tables import (
    AttemptRow,
    BreakRescueRow,
    CheckpointRow,
    EvaluationRow,
    EventRow,
    ExchangeRow,
    FeedbackRow,
    GateDecisionRow,
    MetricRow,
    PhaseRow,
    RoundRow,
    RunRow,
    StepRow,
    StudentRow,
    TokenLensRow,
)
from app.webhooks import outbox
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
from opcod.plain_text import bounded
from opcod.tasks.questions import LONGEST_ID

Row = dict[str, Any]
NUMEROUS = {EventRow, ExchangeRow, FeedbackRow, MetricRow, TokenLensRow}
"""Tables whose rows come by the hundred."""


def ingest(session: Session, run_id: int, token: int, events: Sequence[Event]) -> int:
    """Store `events` of attempt `token`; returns how many were new.

    Raises:
        LeaseLost: the attempt no longer holds the run; nothing was stored.
    """
    run = hold(session, run_id, token)
    fresh = _fresh(session, run_id, events)
    if not fresh:
        return 0
    rows: dict[type[SQLModel], list[Row]] = defaultdict(list)
    for event in fresh:
        rows[EventRow].append({"run_id": run_id, "seq": event.seq, "kind": event.kind, "data": _summary(event), "at": event.at})
        _collect(run, token, event, rows)
    for table, batch in rows.items():
        if table in NUMEROUS:
            add_rows(session, table, batch)
        else:
            session.exec(insert_into(session, table).on_conflict_do_nothing() if table is StudentRow else insert(table), params=batch)
    tallies.add(session, run_id, [event for event in fresh if isinstance(event, ExchangeRecorded)])
    for event in fresh:
        if isinstance(event, GateDecided):
            _tell_gate(session, run, event)
        if isinstance(event, PhaseFinished):
            key = (col(PhaseRow.run_id) == run_id, col(PhaseRow.round) == event.round, col(PhaseRow.tutee) == event.tutee)
            session.exec(update(PhaseRow).where(*key).values(finished_at=event.at))
    session.exec(update(AttemptRow).where(col(AttemptRow.id) == token).values(new_events=AttemptRow.new_events + len(fresh)))
    session.flush()
    return len(fresh)


def _fresh(session: Session, run_id: int, events: Sequence[Event]) -> list[Event]:
    """Those that are not stored yet, each once. Whoever holds the run stores its events alone."""
    if not events:
        return []
    numbers = [event.seq for event in events]
    seq = col(EventRow.seq)
    known = set(session.exec(select(seq).where(col(EventRow.run_id) == run_id, seq.between(min(numbers), max(numbers)))))
    fresh: dict[int, Event] = {}
    for event in events:
        if event.seq not in known:
            fresh.setdefault(event.seq, event)
    return [*fresh.values()]


def _tell_gate(session: Session, run: RunRow, event: GateDecided) -> None:
    """A tutor's gate opened or shut since the round before."""
    gate = event.decision
    before = session.exec(
        select(GateDecisionRow.domains).where(
            col(GateDecisionRow.run_id) == run.id, col(GateDecisionRow.tutor) == gate.tutor, col(GateDecisionRow.round) == gate.round - 1
        )
    ).first()
    if before is not None and bool(before) != bool(gate.domains):
        data = {"round": gate.round, "tutor": gate.tutor, "open": bool(gate.domains), "gap": gate.gap, "threshold": gate.threshold}
        outbox.tell(session, "gate.changed", run, {"gate": data})


def _summary(event: Event) -> Row:
    """What the live stream says of an event: names and numbers, never text of a model."""
    match event:
        case StepFinished():
            return {"round": event.round, "tutee": event.tutee, "step": event.step}
        case ExchangeRecorded(exchange=exchange):
            return {"round": exchange.round, "tutee": exchange.tutee, "step": exchange.step}
        case EvaluationFinished(evaluation=evaluation):
            return {"round": evaluation.round, "student": evaluation.student, "domain": evaluation.domain, "split": evaluation.split}
        case GateDecided(decision=decision):
            return {"round": decision.round, "tutor": decision.tutor}
        case BreakRescueMeasured(result=result):
            return {"round": result.round, "tutee": result.tutee, "tutor": result.tutor}
        case PhaseStarted() | PhaseFinished():
            return {"round": event.round, "tutee": event.tutee}
        case RoundStarted() | CheckpointSaved():
            return {"round": event.round}
        case RunStarted() | RunFinished():
            return {}


def _collect(run: RunRow, token: int, event: Event, rows: dict[type[SQLModel], list[Row]]) -> None:
    """Add the event's rows to `rows` and bring the run's own columns up to date. Progress never goes back."""
    key: Row = {"run_id": run.id, "seq": event.seq}
    timed = key | {"at": event.at}
    match event:
        case RunStarted():
            run.rounds, run.steps_per_round = event.rounds, event.steps_per_round
            run.steps_total = event.rounds * event.steps_per_round * len(event.students)
            run.steps_done = {name: 0 for name in event.students} | run.steps_done
        case RoundStarted():
            run.round = max(run.round, event.round)
            rows[RoundRow].append({**key, "round": event.round, "started_at": event.at})
        case PhaseStarted():
            run.round, run.phase = max(run.round, event.round), event.tutee
            rows[PhaseRow].append({**key, "round": event.round, "tutee": event.tutee, "tutors": event.tutors, "started_at": event.at})
        case StepFinished():
            run.round, run.phase = max(run.round, event.round), event.tutee
            run.steps_done = run.steps_done | {event.tutee: max(event.step, run.steps_done.get(event.tutee, 0))}
            rows[StepRow].append({**timed, "student": event.tutee, "step": event.step, "round": event.round, "attempt_id": token})
            rows[MetricRow].extend(
                {**timed, "name": name, "step": event.step, "round": event.round, "value": value} for name, value in event.metrics.items()
            )
        case ExchangeRecorded():
            _collect_exchange(key, event, rows)
        case EvaluationFinished(evaluation=evaluation):
            rows[EvaluationRow].append(timed | asdict(evaluation))
            part = "test" if evaluation.split == "test" else "eval"
            name = f"{evaluation.student}/{part}/{evaluation.domain}/avg@{evaluation.samples}"
            step = evaluation.round * run.steps_per_round
            rows[MetricRow].append({**timed, "name": name, "step": step, "round": evaluation.round, "value": evaluation.score})
        case GateDecided(decision=gate):
            rows[GateDecisionRow].append(timed | asdict(gate) | {"domains": list(gate.domains)})
            point = {**timed, "step": (gate.round - 1) * run.steps_per_round, "round": gate.round}
            rows[MetricRow].append({**point, "name": f"{gate.tutor}/gate/gap", "value": gate.gap})
            rows[MetricRow].append({**point, "name": f"{gate.tutor}/gate/open", "value": float(bool(gate.domains))})
        case BreakRescueMeasured(result=result):
            found = asdict(result)
            low, high = found.pop("difficulty") or (None, None)
            rows[BreakRescueRow].append(timed | found | {"difficulty_low": low, "difficulty_high": high})
        case PhaseFinished():
            pass
        case CheckpointSaved():
            saved = {"round": event.round, "steps": event.steps, "path": event.path, "size_bytes": event.size_bytes}
            rows[CheckpointRow].append(timed | saved)
        case RunFinished():
            run.phase = None
            run.verdict = {"mutual_improvement": event.verdict.mutual_improvement, "students": dict(event.verdict.students)}
            rows[StudentRow].extend(
                {"name": f"{name} of run {run.id}", "model": f"{run.folder}/{path}", "run_id": run.id, "created_at": event.at}
                for name, path in event.exports.items()
            )


def _collect_exchange(key: Row, event: ExchangeRecorded, rows: dict[type[SQLModel], list[Row]]) -> None:
    exchange, question, rollout, feedback = event.exchange, event.exchange.question, event.exchange.rollout, event.exchange.feedback
    fields = ("round", "step", "group", "tutee", "tutor", "in_loss", "divergence_mean", "divergence_max")
    rows[ExchangeRow].append(
        key
        | {name: getattr(exchange, name) for name in fields}
        | {
            "domain": question.domain,
            "question_id": bounded(question.id, LONGEST_ID),
            "question_prompt": question.prompt,
            "question_answer": question.answer,
            "rollout_index": rollout.index,
            "rollout_text": rollout.text,
            "rollout_tokens": rollout.tokens,
            "correct": rollout.correct,
            "extracted": rollout.extracted,
            "truncated": rollout.truncated,
            "own_solution": exchange.own_solution,
            "teacher_prompt": exchange.teacher_prompt,
            "outcome": feedback.outcome if feedback else None,
            "again_text": exchange.again.text if exchange.again else None,
            "again_correct": exchange.again.correct if exchange.again else None,
            "again_extracted": exchange.again.extracted if exchange.again else None,
            "effect": exchange.effect,
        }
    )
    if exchange.lens is not None:
        rows[TokenLensRow].append(key | {"data": pack(exchange.lens)})
    if feedback:
        rows[FeedbackRow].append(
            key
            | {
                "raw": feedback.raw,
                "text": feedback.text,
                "outcome": feedback.outcome,
                "concept": feedback.concept,
                "matched_word": feedback.matched_word,
                "removed": list(feedback.removed),
            }
        )
