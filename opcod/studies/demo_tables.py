"""The demo study's tables as Markdown, from its results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from opcod.studies.demo import NOVICE, PAIR, ArmResult, StudyResults
from opcod.types import BreakRescue, Split

BEGIN, END = "<!-- tables: made by `python -m opcod demo study` -->", "<!-- end of tables -->"

LABELS = {
    "opcod": "OPCoD",
    "sdpo": "SDPO, equal steps",
    "grpo": "GRPO, equal steps",
    "sdpo_equal_time": "SDPO, equal time",
    "novice_cognizance": "gate `cognizance`",
    "novice_always": "gate `always`",
    "novice_never": "gate `never`",
    "novice_domain_selective": "gate `domain_selective`",
}
DOMAINS = ("densities", "protons")
STUDENTS = ("student1", "student2")


def tables(results: StudyResults) -> str:
    """Every table; arms and seeds that were not run are left out, and counted where they are averaged."""
    parts = [
        "### Two specialists, every seed\n\n" + _seeds(results, PAIR),
        "### Two specialists, means\n\n" + _means(results, PAIR),
        "### Kept against true\n\n" + _feedback(results, ("opcod", *NOVICE)),
        "### Break and rescue, two specialists\n\n" + _breaks(results, ("opcod",)),
        "### A specialist and a novice, every seed\n\n" + _seeds(results, NOVICE),
        "### A specialist and a novice, means\n\n" + _means(results, NOVICE),
        "### Break and rescue, by tutor, with the novice\n\n" + _breaks(results, NOVICE),
    ]
    return "\n\n".join(parts) + "\n"


def insert_tables(document: str, results: StudyResults) -> str:
    """The document with its tables replaced.

    Raises:
        ValueError: the document has no place for them.
    """
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document needs the lines {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n\n{tables(results)}\n{END}{tail}"


def _seeds(results: StudyResults, arms: Iterable[str]) -> str:
    rows = []
    for arm in arms:
        for one in _of(results, arm):
            cells = [f"{_score(one, s, d, first=True):.1f} → {_score(one, s, d):.1f}" for s in STUDENTS for d in DOMAINS]
            rows.append([LABELS[arm], str(one.seed), *cells, _word(one.mutual_improvement), _gates(one), f"{one.wall_seconds:.0f} s"])
    head = ["method", "seed", *(f"{s} {d}" for s in STUDENTS for d in DOMAINS), "mutual improvement", "gate open (of rounds)", "time"]
    return _table(head, rows)


def _means(results: StudyResults, arms: Iterable[str]) -> str:
    rows = []
    for arm in arms:
        found = _of(results, arm)
        if not found:
            continue
        cells = [f"{fmean(_score(one, s, d) for one in found):.1f}" for s in STUDENTS for d in DOMAINS]
        gain = fmean(_score(one, s, d) - _score(one, s, d, first=True) for one in found for s in STUDENTS for d in DOMAINS)
        mutual = sum(one.mutual_improvement is True for one in found)
        steps = fmean(one.steps_per_student for one in found)
        seconds = fmean(one.step_seconds for one in found)
        rows.append([LABELS[arm], *cells, f"{gain:+.1f}", f"{mutual} of {len(found)}", f"{steps:.0f}", f"{seconds:.0f} s"])
    head = [
        "method",
        *(f"{s} {d}" for s in STUDENTS for d in DOMAINS),
        "mean gain",
        "mutual improvement",
        "steps a student",
        "step time, both",
    ]
    return _table(head, rows)


def _feedback(results: StudyResults, arms: Iterable[str]) -> str:
    rows = []
    for arm in arms:
        found = _of(results, arm)
        keys = sorted({key for one in found for key in one.feedback})
        for key in keys:
            asked, kept, true = (sum(one.feedback.get(key, {}).get(name, 0) for one in found) for name in ("asked", "kept", "true"))
            tutor, domain = key.split("/")
            rows.append([LABELS[arm], tutor, domain, f"{asked:,}", _percent(kept, asked), _percent(true, kept)])
    return _table(["setting", "tutor", "domain", "feedbacks", "kept", "kept ones that state the true fact"], rows)


def _breaks(results: StudyResults, arms: Iterable[str]) -> str:
    rows = []
    for arm in arms:
        counts = [found for one in _of(results, arm) for found in one.breaks]
        for tutor in sorted({one.tutor for one in counts}):
            for difficulty in dict.fromkeys(one.difficulty for one in counts if one.tutor == tutor):
                chosen = [one for one in counts if one.tutor == tutor and one.difficulty == difficulty]
                rows.append([LABELS[arm], tutor, _range(difficulty), *_rates(chosen)])
    return _table(
        ["setting", "tutor", "wrong rollouts of 8 before", "break rate", "of right answers", "rescue rate", "of wrong answers"], rows
    )


def _rates(counts: Sequence[BreakRescue]) -> list[str]:
    def total(value: Callable[[BreakRescue], int]) -> int:
        return sum(value(one) for one in counts)

    right, wrong = total(lambda one: one.correct_before), total(lambda one: one.wrong_before)
    return [_percent(total(lambda one: one.broken), right), str(right), _percent(total(lambda one: one.rescued), wrong), str(wrong)]


def _of(results: StudyResults, arm: str) -> list[ArmResult]:
    return [one for one in results.results if one.arm == arm]


def _score(one: ArmResult, student: str, domain: str, *, first: bool = False, split: Split = "test") -> float:
    found = [e for e in one.evaluations if (e.student, e.domain, e.split) == (student, domain, split)]
    return 100 * (min if first else max)(found, key=lambda evaluation: evaluation.round).score


def _gates(one: ArmResult) -> str:
    parts = []
    for student in STUDENTS:
        decisions = [decision for decision in one.decisions if decision.tutor == student]
        parts.append(f"{sum(bool(decision.domains) for decision in decisions)} of {len(decisions)}")
    return ", ".join(parts)


def _range(difficulty: tuple[int, int] | None) -> str:
    return "all" if difficulty is None else f"{difficulty[0]}-{difficulty[1]}" if difficulty[0] != difficulty[1] else str(difficulty[0])


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _word(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "-"}[value]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "Not run yet."
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
