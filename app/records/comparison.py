"""Runs side by side: what differs between them, how they scored, and which of them no other is better than."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from statistics import fmean
from typing import Any, Literal

from sqlmodel import Session, col, select

from app import shapes
from app.errors import Fault, Invalid
from app.experiments.remembered import experiments
from app.records import configurations
from app.records.comparison_numbers import numbers
from app.records.comparison_shapes import ComparedGroup, ComparedRun, ComparedScore, ComparedSetting, Comparison, GroupScore
from app.records.run_numbers import tell
from app.records.run_summaries import Measured, recorded, summarise
from app.tables import RunRow
from opcod.evaluation.pareto import undominated

MOST_RUNS = 50
Split = Literal["test", "validation"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Runs in the order that was asked for, their settings, and which of them share a configuration."""

    rows: tuple[RunRow, ...]
    configs: tuple[Mapping[str, Any], ...]
    """Of each run, dotted path -> value."""
    groups: tuple[tuple[int, ...], ...]
    """Places of runs."""
    differing: tuple[str, ...]
    labels: tuple[str, ...]
    """One for each group."""

    @property
    def ids(self) -> list[int]:
        return [row.id or 0 for row in self.rows]

    def group_of(self, place: int) -> int:
        """The place of a run's group."""
        return next(index for index, members in enumerate(self.groups) if place in members)


def parse_ids(text: str) -> list[int]:
    """``1,2,3`` as numbers, each once.

    Raises:
        Invalid: it is no such list, or longer than `MOST_RUNS`.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if any(not (part.isascii() and part.isdigit() and len(part) < 10) for part in parts):
        raise Invalid([Fault("runs", f"{text!r} is no list of runs.", "Write their numbers: 1,2,3.")])
    ids = list(dict.fromkeys(int(part) for part in parts))
    if not 1 <= len(ids) <= MOST_RUNS:
        raise Invalid([Fault("runs", f"{len(ids)} runs cannot be compared.", f"Give 1 to {MOST_RUNS}.")])
    return ids


def known(session: Session, ids: Sequence[int]) -> set[int]:
    """Those of them that there are."""
    rows = select(col(RunRow.id)).where(col(RunRow.id).in_(ids), col(RunRow.deleted_at).is_(None))
    return {identity for identity in session.exec(rows).all() if identity is not None}


def choose(session: Session, ids: Sequence[int]) -> Chosen:
    """The runs, grouped by configuration.

    Raises:
        Invalid: one of them is not there.
    """
    rows = {row.id: row for row in session.exec(select(RunRow).where(col(RunRow.id).in_(ids), col(RunRow.deleted_at).is_(None))).all()}
    missing = [number for number in ids if number not in rows]
    if missing:
        raise Invalid([Fault("runs", f"There is no run {missing[0]}.", "It may have been deleted; leave it out.")])
    ordered = tuple(rows[number] for number in ids)
    made_from = experiments(session, (row.experiment_id for row in ordered))
    configs = tuple(made_from[row.experiment_id].flat for row in ordered)
    groups = configurations.grouped([made_from[row.experiment_id].key for row in ordered])
    differing = configurations.differing(configs)
    apart = [path for path in differing if configurations.sets_apart(path)]
    labels = [configurations.label(configs[members[0]], apart) for members in groups]
    labels = [text if labels.count(text) == 1 else f"{text} (run {ids[groups[place][0]]})" for place, text in enumerate(labels)]
    return Chosen(ordered, configs, tuple(tuple(members) for members in groups), tuple(differing), tuple(labels))


def comparison(session: Session, ids: Sequence[int], split: Split | None = None) -> Comparison:
    """Everything about the runs but their curves.

    Raises:
        Invalid: one of them is not there.
    """
    chosen = choose(session, ids)
    summaries = {run.id: run for run in summarise(session, chosen.rows)}
    runs = [summaries[number] for number in ids]
    measured = {run_id: found.evaluations for run_id, found in recorded(session, chosen.rows).items()}
    split = split or _split(runs, measured)
    scores = _scores(chosen, runs, measured, split)
    students = list(dict.fromkeys(score.student for score in scores))
    fronts = {student: _front(chosen.ids, [score for score in scores if score.student == student]) for student in students}
    front = _front(chosen.ids, scores)
    told = tell(session, chosen.rows)
    compared = [
        ComparedRun(
            run_id=run.id,
            name=run.name,
            owner=run.owner,
            algorithm=run.algorithm,
            status=run.status,
            group=chosen.group_of(place),
            seed=chosen.configs[place]["seed"],
            fraction=run.progress.fraction,
            mutual_improvement=run.verdict.mutual_improvement,
            wall_seconds=told[run.id].wall_seconds,
            front=front[run.id],
            fronts={student: fronts[student][run.id] for student in students},
        )
        for place, run in enumerate(runs)
    ]
    return Comparison(
        split=split,
        runs=compared,
        groups=[
            ComparedGroup(label=text, run_ids=[ids[place] for place in members])
            for text, members in zip(chosen.labels, chosen.groups, strict=True)
        ],
        settings=[
            ComparedSetting(
                setting=path, values=[config.get(path) for config in chosen.configs], sets_apart=configurations.sets_apart(path)
            )
            for path in chosen.differing
        ],
        scores=scores,
        numbers=numbers(runs, told, scores, {path: [one.get(path) for one in chosen.configs] for path in chosen.differing}),
        cautions=_cautions(chosen, scores),
    )


def _split(runs: Sequence[shapes.Run], measured: Mapping[int, Sequence[Measured]]) -> Split:
    """Test questions where every run that has any score was tested after training; else what all of them have."""
    scored = [run for run in runs if measured.get(run.id)]
    return "test" if scored and all(any(student.scores.final for student in run.students) for run in scored) else "validation"


def _scores(chosen: Chosen, runs: Sequence[shapes.Run], measured: Mapping[int, Sequence[Measured]], split: Split) -> list[ComparedScore]:
    pairs = dict.fromkeys((student.name, domain) for run in runs for student in run.students for domain in run.domains)
    first: dict[tuple[int, str, str], Measured] = {}
    newest: dict[tuple[int, str, str], Measured] = {}
    for run in runs:
        for row in measured.get(run.id, ()):
            if row.split == split:
                (newest if row.round else first)[run.id, row.student, row.domain] = row
    found = []
    for student, domain in pairs:
        keys = [(run.id, student, domain) for run in runs]
        rows = [row for key in keys for row in (first.get(key), newest.get(key)) if row is not None]
        latest = [one.interval if (one := newest.get(key)) else None for key in keys]
        found.append(
            ComparedScore(
                student=student,
                domain=domain,
                majority_baseline=rows[0].majority_baseline if rows else None,
                initial=[one.interval if (one := first.get(key)) else None for key in keys],
                latest=latest,
                groups=[_group_score([score for place in members if (score := latest[place])]) for members in chosen.groups],
            )
        )
    return found


def _group_score(scores: Sequence[shapes.Interval]) -> GroupScore | None:
    if not scores:
        return None
    if len(scores) == 1:
        return GroupScore(runs=1, mean=scores[0].score, low=scores[0].low, high=scores[0].high)
    values = [one.score for one in scores]
    return GroupScore(runs=len(values), mean=fmean(values), low=min(values), high=max(values))


def _front(run_ids: Sequence[int], scores: Sequence[ComparedScore]) -> dict[int, bool | None]:
    """Run -> whether no other dominates it in these scores; None where one of them is missing."""
    vectors: dict[int, list[float]] = {}
    for place, run_id in enumerate(run_ids):
        mine = [one.score for score in scores if (one := score.latest[place])]
        if scores and len(mine) == len(scores):
            vectors[run_id] = mine
    best = dict(zip(vectors, undominated(list(vectors.values())), strict=True))
    return {run_id: best.get(run_id) for run_id in run_ids}


def _cautions(chosen: Chosen, scores: Sequence[ComparedScore]) -> list[str]:
    """Why the runs' scores may not be comparable."""
    found = []
    distinct = list({id(config): config for config in chosen.configs}.values())
    for what, key in (("test", "test"), ("validation", "validation")):
        sources: defaultdict[str, set[Any]] = defaultdict(set)
        for config in distinct:
            for domain, prefix in _named(config, "domains").items():
                sources[domain].add(config.get(f"{prefix}.{key}"))
        found += [f"The {what} questions of {domain} are not the same in all runs." for domain, known in sources.items() if len(known) > 1]
    models: defaultdict[str, set[Any]] = defaultdict(set)
    for config in distinct:
        for student, prefix in _named(config, "students").items():
            models[student].add(config.get(f"{prefix}.model"))
    found += [f"{student} does not start from the same model in all runs." for student, known in models.items() if len(known) > 1]
    samplers = {
        tuple(config.get(f"evaluation.{key}") for key in ("samples", "temperature", "top_p", "test_questions")) for config in distinct
    }
    if len(samplers) > 1:
        found.append("Answers were not sampled in the same way for all scores (evaluation settings).")
    counts = {(score.domain, one.questions) for score in scores for one in score.latest if one}
    if len(counts) > len({domain for domain, _ in counts}):
        found.append("Scores of a domain are over different numbers of questions.")
    return found


def _named(config: Mapping[str, Any], what: str) -> dict[str, str]:
    """Name -> prefix of the settings of each student or domain."""
    prefixes = takewhile(lambda prefix: f"{prefix}.name" in config, (f"{what}.{place}" for place in count()))
    return {str(config[f"{prefix}.name"]): prefix for prefix in prefixes}
