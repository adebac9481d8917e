"""Runs for page tests: generated events, stored by the real ingest. The figures are invented; they test pages, not the method."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine

from app.db import now, writing
from app.experiments import experiments
from app.lifecycle import runs
from app.lifecycle.runs import Claim, Ending, RunError
from app.records.ingest import ingest
from opcod.config import ExperimentConfig, load_preset, merge, parse_config
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
from opcod.types import (
    BreakRescue,
    Evaluation,
    Exchange,
    Feedback,
    FeedbackOutcome,
    GateDecision,
    Question,
    Rollout,
    Split,
    TokenLens,
    Verdict,
)

HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked=1'>\"' onmouseover=\"window.hacked=1\" "
    "{{ 7 * 7 }} {% raw %} </textarea></script>--> \u202egnirts desrever\u202c \u0007 javascript:window.hacked=1 &lt;b&gt; ]]>"
)
OUTCOMES: tuple[FeedbackOutcome, ...] = ("kept", "kept", "kept", "kept", "no_concept_tag", "no_match", "empty", "all_generic", "fb_none")


@dataclass(frozen=True)
class Story:
    """What a seeded run looks like."""

    name: str = "Seeded run"
    students: tuple[str, ...] = ("student1", "student2")
    domains: tuple[str, ...] = ("densities", "protons")
    algorithm: str = "opcod"
    rounds: int = 3
    steps: int = 6
    questions: int = 2
    rollouts: int = 4
    shut_in_round: int | None = 2
    improves: bool = True
    text: str = ""
    """Put into every text of models and data."""
    seed: int = 7

    def config(self) -> ExperimentConfig:
        base = load_preset("tiny")
        overrides = {
            "name": self.name,
            "students": [
                {
                    "name": name,
                    "model": f"demo:{self.domains[index % len(self.domains)]}",
                    "native_domain": self.domains[index % len(self.domains)],
                }
                for index, name in enumerate(self.students)
            ],
            "domains": [base["domains"][index % 2] | {"name": name} for index, name in enumerate(self.domains)],
            "schedule": {"rounds": self.rounds, "steps_per_round": self.steps},
            "method": {"algorithm": self.algorithm},
        }
        return parse_config(merge(base, overrides))


def queue_run(engine: Engine, story: Story) -> int:
    """A run that waits."""
    with writing(engine) as session:
        run = runs.create_run(session, experiments.create(session, story.config(), preset="tiny"))
        assert run.id is not None
        return run.id


def start_run(engine: Engine, story: Story) -> Claim:
    """A run that a worker holds and trains."""
    run_id = queue_run(engine, story)
    with writing(engine) as session:
        claim = runs.claim(session, worker="test:1", device="cpu", lease_seconds=3600, run_id=run_id)
        assert claim is not None
        runs.mark_running(session, claim)
    return claim


def feed(engine: Engine, claim: Claim, batch: Sequence[Event]) -> None:
    with writing(engine) as session:
        ingest(session, claim.run_id, claim.token, batch)


def end_run(engine: Engine, claim: Claim, ending: Ending, error: RunError | None = None) -> None:
    with writing(engine) as session:
        runs.finish(session, claim, ending, error=error)


def seed_run(
    engine: Engine, story: Story, ending: Ending | None = "completed", *, upto: int | None = None, error: RunError | None = None
) -> int:
    """A run with its events up to a number of them, ended or still running."""
    claim = start_run(engine, story)
    batch = list(events(story))
    feed(engine, claim, batch[:upto])
    if ending:
        end_run(engine, claim, ending, error)
    return claim.run_id


def events(story: Story) -> Iterator[Event]:
    """The run's events in order, numbered from 1, ending about now."""
    made = list(_events(story))
    start = now() - timedelta(seconds=0.4 * len(made))
    for place, event in enumerate(made, start=1):
        yield event.model_copy(update={"seq": place, "at": start + timedelta(seconds=0.4 * place)})


def _events(story: Story) -> Iterator[Event]:
    chance = random.Random(story.seed)
    config = story.config()
    natives = {student.name: student.native_domain for student in config.students}
    level = {(student, domain): 0.78 if natives[student] == domain else 0.55 for student in story.students for domain in story.domains}
    step_counts = dict.fromkeys(story.students, 0)
    sizes = {domain: {"train": 220, "validation": 46, "test": 69} for domain in story.domains}
    parameters = dict.fromkeys(story.students, 363_552)
    yield RunStarted(
        students=list(story.students),
        domains=list(story.domains),
        rounds=story.rounds,
        steps_per_round=story.steps,
        questions=sizes,
        parameters=parameters,
    )
    yield from _scores(story, level, 0, "test", chance)
    yield from _scores(story, level, 0, "validation", chance)
    for number in range(1, story.rounds + 1):
        yield RoundStarted(round=number)
        opened = {
            name: story.algorithm == "opcod" and not (story.shut_in_round == number and place == 1)
            for place, name in enumerate(story.students)
        }
        for name in story.students:
            gap = round(chance.uniform(0.02, 0.18) if opened[name] else chance.uniform(0.22, 0.4), 3)
            allowed = story.domains if opened[name] else ()
            yield GateDecided(decision=GateDecision(number, name, "cognizance", gap, 0.2, gap <= 0.2, allowed))
        for tutee in story.students:
            tutors = [name for name in story.students if name != tutee and opened[name]]
            yield PhaseStarted(round=number, tutee=tutee, tutors=tutors)
            for _ in range(story.steps):
                step_counts[tutee] += 1
                yield from _step(story, number, step_counts[tutee], tutee, tutors, chance)
            yield PhaseFinished(round=number, tutee=tutee)
            for tutor in tutors:
                for difficulty in (None, (0, 1)):
                    yield BreakRescueMeasured(
                        result=BreakRescue(number, tutee, tutor, difficulty, 40, chance.randint(0, 4), 20, chance.randint(3, 14))
                    )
            for domain in story.domains:
                gain = chance.uniform(0.02, 0.07) if story.improves or domain == natives[tutee] else -0.03
                level[tutee, domain] = min(0.99, level[tutee, domain] + gain)
        yield CheckpointSaved(round=number, steps=dict(step_counts), path=f"checkpoints/{number}/manifest.json", size_bytes=3_000_000)
        yield from _scores(story, level, number, "validation", chance)
    yield from _scores(story, level, story.rounds, "test", chance)
    verdict = Verdict(story.improves, dict.fromkeys(story.students, story.improves))
    yield RunFinished(verdict=verdict, exports={name: f"exports/{name}" for name in story.students})


def _scores(story: Story, level: dict[tuple[str, str], float], number: int, split: Split, chance: random.Random) -> Iterator[Event]:
    for (student, domain), value in level.items():
        score = min(1.0, max(0.0, value + chance.uniform(-0.01, 0.01)))
        low, high = max(0.0, score - 0.06), min(1.0, score + 0.05)
        yield EvaluationFinished(evaluation=Evaluation(number, student, domain, split, score, low, high, 69, 8, 0.09))


def _step(story: Story, number: int, step: int, tutee: str, tutors: Sequence[str], chance: random.Random) -> Iterator[Event]:
    correct = 0
    for group in range(story.questions):
        domain = story.domains[(step + group) % len(story.domains)]
        marks = [chance.random() < 0.65 for _ in range(story.rollouts)]
        correct += sum(marks)
        for index, right in enumerate(marks):
            yield ExchangeRecorded(exchange=_exchange(story, number, step, group, index, domain, right, any(marks), tutee, tutors, chance))
    wave = 1 / (1 + 0.15 * step) + chance.uniform(-0.03, 0.03)
    figures = {
        "train/loss": 0.2 * wave,
        "train/gradient_norm": wave,
        "train/accuracy": correct / (story.questions * story.rollouts),
        "feedback/kept_fraction": chance.uniform(0.6, 0.9),
        "self_distillation/success_sample_fraction": correct / (story.questions * story.rollouts),
        "timing_s/step": 1.2 + chance.uniform(0, 0.3),
    }
    yield StepFinished(round=number, tutee=tutee, step=step, metrics={f"{tutee}/{name}": value for name, value in figures.items()})


def _exchange(
    story: Story,
    number: int,
    step: int,
    group: int,
    index: int,
    domain: str,
    right: bool,
    any_right: bool,
    tutee: str,
    tutors: Sequence[str],
    chance: random.Random,
) -> Exchange:
    prompt = (
        f"What is the density of a bronze alloy, in g/cm3, if an alloy is 3 denser than iron?\n\nAnswer with the number alone.{story.text}"
    )
    text = f"<reasoning>\n  iron is 8;\n  8 + 3 = {11 if right else 5}\n</reasoning>\n<answer> {11 if right else 5} </answer>{story.text}"
    rollout = Rollout(index, text, 24, right, "11" if right else "5", truncated=not right and index == 3)
    feedback = None
    outcome = chance.choice(OUTCOMES)
    if tutors:
        concept = {"kept": "density", "no_match": "molar mass", "all_generic": "problem"}.get(outcome)
        tag = {"no_concept_tag": "", "fb_none": ""}.get(outcome, f"<concept>{concept or ''}</concept> ")
        said = f"The density of iron is right, but the sign of the step is not: an alloy is denser. The correct option is 11.{story.text}"
        raw = "" if outcome == "fb_none" else f"{tag}{said}"
        cut = ("The correct option is 11.",) if raw else ()
        feedback = Feedback(
            raw, raw.replace(tag, "").replace(cut[0], "") if cut else raw, outcome, concept, "density" if outcome == "kept" else None, cut
        )
    solution = "<reasoning>\n  iron is 8;\n  8 + 3 = 11\n</reasoning>\n<answer> 11 </answer>" if any_right else None
    kept = feedback.text if feedback and feedback.outcome == "kept" else None
    shown = [
        prompt,
        *([f"A correct solution:\n{solution}"] if solution else []),
        *([f"Feedback:\n{kept}"] if kept else []),
        "Solve the question.",
    ]
    in_loss = solution is not None or kept is not None
    question = Question(f"{domain}-{step}-{group}{story.text}", domain, prompt, f"11{story.text}")
    return Exchange(
        number, step, group, tutee, tutors[0] if tutors else None, question, rollout, solution, feedback,
        "\n\n".join(shown) if in_loss else None, in_loss, 0.0123 if in_loss else None, 0.31 if in_loss else None,
        _again(rollout, step, story.text) if kept and group == 0 else None,
        token_lens(text, in_loss, random.Random(1000 * step + 10 * group + index)),
    )  # fmt: skip


def _again(before: Rollout, step: int, text: str) -> Rollout:
    """The answer with the feedback in the prompt: every fifth step's right ones break, every other step's wrong ones are rescued."""
    right = step % 5 != 0 if before.correct else step % 2 == 0
    answer = 11 if right else 7
    said = f"<reasoning>\n  iron is 8, and an alloy is denser;\n  8 + 3 = {answer}\n</reasoning>\n<answer> {answer} </answer>{text}"
    return Rollout(before.index, said, 28, right, str(answer), truncated=False)


def token_lens(text: str, in_loss: bool, chance: random.Random) -> TokenLens:
    """The text's words as tokens; where it counted, the self-teacher prefers another number."""
    words = [*re.findall(r"\s*\S+", text), "<|im_end|>"]
    pieces = list(dict.fromkeys([*words, " 11", " 5", " the", "\n\n", "\u202e"]))
    tokens = tuple(pieces.index(word) for word in words)
    student = tuple(-round(chance.expovariate(6), 3) for _ in words)
    if not in_loss:
        return TokenLens(tuple(pieces), tokens, (False,) * len(words), student)
    shifts = [chance.gauss(0, 1.5) if any(letter.isdigit() for letter in word) else chance.gauss(0, 0.05) for word in words]
    teacher = tuple(round(min(-0.001, here + shift), 3) for here, shift in zip(student, shifts, strict=True))
    divergence = tuple(round(min(0.69, 0.08 * abs(shift) ** 2), 5) for shift in shifts)
    seen = tuple(
        ((token, round(math.exp(here), 4), round(math.exp(there), 4)), *((pieces.index(other), 0.02, 0.011) for other in (" the", "\n\n")))
        for token, here, there in zip(tokens, student, teacher, strict=True)
    )
    weights = tuple(round(chance.uniform(0.97, 1.03), 3) for _ in words)
    return TokenLens(tuple(pieces), tokens, (True,) * len(words), student, teacher, divergence, weights, seen)
