"""What is in a domain's files and what is wrong with them: everything at once, where loading stops at the first fault."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, get_args

from opcod.config import DomainConfig
from opcod.errors import DataError, UserError
from opcod.tasks.questions import demo_rows, question_of, stem
from opcod.tasks.sources import Row, read_rows, split_slice
from opcod.types import Question, Split

SPLITS: tuple[Split, ...] = get_args(Split)
PAIRS: tuple[tuple[Split, Split], ...] = (("test", "train"), ("validation", "train"), ("test", "validation"))
EXAMPLES = 5
"""Places that a finding names."""
MOST_CLASSES = 12
"""With more different answers than this no balance is expected of them."""
FEW_QUESTIONS = 30
LONG_PROMPT = 8_000
"""Characters; about the 2,048 tokens that an experiment's prompts may have by default."""
Severity = Literal["stops", "warns", "notes"]
"""Stops: no run can use the data as they are. Warns: a run would, and its figures would suffer. Notes: worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a domain's data: what, how often, where, and what to do about it."""

    kind: str
    severity: Severity
    message: str
    advice: str
    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """What a split holds. Lengths are in characters of the prompt."""

    split: Split
    source: str
    rows: int
    usable: int
    answers: tuple[tuple[str, int], ...]
    """The most frequent ones, with their counts."""
    distinct_answers: int
    majority: float | None
    """Score of always giving the most frequent answer."""
    length_median: float | None
    length_max: int | None
    with_solution: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """All three splits, and everything found; what stops a run comes first."""

    splits: tuple[SplitSummary, ...]
    findings: tuple[Finding, ...]
    sample: tuple[Question, ...]
    """The first usable training questions."""

    @property
    def usable(self) -> bool:
        """Whether a run can use the data as they are."""
        return all(finding.severity != "stops" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class SplitRead:
    """What could be read of a split, and what is wrong with its rows."""

    source: str
    rows: int
    questions: tuple[Question, ...]
    findings: tuple[Finding, ...] = ()


def inspect_domain(config: DomainConfig) -> Inspection:
    """Read every row of a domain's three sources. What cannot be read is a finding."""
    return inspect_splits(config, {split: _read(config, split) for split in SPLITS})


def inspect_splits(config: DomainConfig, read: Mapping[Split, SplitRead]) -> Inspection:
    """The same of splits that were read already; there may be fewer than three."""
    findings = [finding for one in read.values() for finding in one.findings]
    findings += _leaks(config, {split: one.questions for split, one in read.items()})
    findings += _repeated_ids({split: one.questions for split, one in read.items()})
    for split, one in read.items():
        findings += _about(config, split, one.questions)
    order = get_args(Severity)
    return Inspection(
        splits=tuple(_summary(split, one) for split, one in read.items()),
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.severity))),
        sample=read["train"].questions[:EXAMPLES],
    )


def _read(config: DomainConfig, split: Split) -> SplitRead:
    name: str = getattr(config, split)
    source, part = split_slice(name)
    try:
        if source.startswith("demo:"):
            questions = tuple(demo_rows(source)[part])
            return SplitRead(name, len(questions), questions)
        return read_split(config, split, read_rows(source)[part], name)
    except UserError as error:
        return SplitRead(name, 0, (), (Finding(f"{split}_unreadable", "stops", error.message, error.advice, 1),))


def read_split(config: DomainConfig, split: Split, rows: Sequence[Row], source: str) -> SplitRead:
    """Rows as questions, as training reads them; those that are none are a finding."""
    found: list[Question] = []
    faults: list[str] = []
    for row in rows:
        missing = [role for role in ("prompt", "answer") if getattr(config.columns, role) not in row.values]
        if missing:
            faults.append(f"{row.where} has no {' and no '.join(missing)}")
            continue
        try:
            found.append(question_of(config, split, row))
        except DataError as error:
            faults.append(error.message.rstrip("."))
    if not faults:
        return SplitRead(source, len(rows), tuple(found), () if rows else (_empty(split),))
    words = f"{_rows(len(faults))} of {split} cannot be used: no prompt, or no answer that the verifier can check."
    advice = f"Mend or remove them; or choose another verifier than {config.verifier.kind}, or other columns."
    return SplitRead(
        source, len(rows), tuple(found), (Finding("unanswerable", "stops", words, advice, len(faults), tuple(faults[:EXAMPLES])),)
    )


def _empty(split: Split) -> Finding:
    return Finding(f"{split}_empty", "stops", f"There is no row in {split}.", "Widen the slice, or give another source.", 0)


def _leaks(config: DomainConfig, splits: dict[Split, tuple[Question, ...]]) -> Iterator[Finding]:
    """Questions that stand in two splits, known by their text before the options."""
    stems = {split: defaultdict[str, list[Question]](list) for split in SPLITS}
    for split, questions in splits.items():
        for question in questions:
            stems[split][stem(question.prompt)].append(question)
    for held, other in PAIRS:
        shared = [key for key in stems[held] if key in stems[other]]
        if not shared:
            continue
        dropped = config.overlap == "drop_from_train"
        rows = sum(len(stems[other][key]) for key in shared)
        examples = tuple(f"{stems[held][key][0].id} in {held}, {stems[other][key][0].id} in {other}" for key in shared[:EXAMPLES])
        advice = "A run drops them from the later split." if dropped else f"Remove them from {other}, or set overlap to drop_from_train."
        words = f"{_questions(len(shared))} of {held} {'stands' if len(shared) == 1 else 'stand'} in {other} too ({_rows(rows)})."
        yield Finding(f"{held}_in_{other}", "notes" if dropped else "stops", words, advice, len(shared), examples)


def _repeated_ids(splits: dict[Split, tuple[Question, ...]]) -> Iterator[Finding]:
    counts = Counter(question.id for questions in splits.values() for question in questions)
    repeated = [identity for identity, count in counts.items() if count > 1]
    if repeated:
        words = f"{len(repeated)} {'id stands' if len(repeated) == 1 else 'ids stand'} more than once."
        advice = "Give each question its own id, or set columns.id to empty: rows are numbered then."
        yield Finding("repeated_ids", "stops", words, advice, len(repeated), tuple(repeated[:EXAMPLES]))


def _about(config: DomainConfig, split: Split, questions: Sequence[Question]) -> Iterator[Finding]:
    """What is worth a warning within one split."""
    if not questions:
        return
    yield from _repetitions(split, questions)
    answers = Counter(question.answer for question in questions)
    top, count = answers.most_common(1)[0]
    if 1 < len(answers) <= MOST_CLASSES and count / len(questions) > 1.5 / len(answers):
        words = f"{100 * count / len(questions):.0f} % of {split}'s answers are {top!r}; even would be {100 / len(answers):.0f} %."
        advice = "Always giving that answer scores as much: compare scores with the majority baseline, or balance the split."
        yield Finding("imbalance", "warns", words, advice, count)
    if len(answers) == 1 and len(questions) > 1:
        yield Finding("imbalance", "warns", f"All answers of {split} are {top!r}.", "Is this the right answer column?", count)
    long = [question for question in questions if len(question.prompt) > LONG_PROMPT]
    if long:
        words = f"{_questions(len(long))} of {split} {'is' if len(long) == 1 else 'are'} longer than {LONG_PROMPT:,} characters."
        advice = "A run refuses prompts longer than generation.max_prompt_tokens (2,048 by default): raise it, or leave these out."
        yield Finding("long_prompts", "warns", words, advice, len(long), tuple(question.id for question in long[:EXAMPLES]))
    if split != "train" and len(questions) < FEW_QUESTIONS:
        words = f"{split.capitalize()} has {_questions(len(questions))} only."
        yield Finding("few_questions", "notes", words, "Intervals of its scores will be wide.", len(questions))


def folded(prompt: str) -> str:
    """A whole question, options included, whatever its case and white space."""
    return " ".join(prompt.split()).casefold()


def _repetitions(split: Split, questions: Sequence[Question]) -> Iterator[Finding]:
    """Questions that stand twice, word for word; and those that only share what precedes their options."""
    by_text, by_stem = defaultdict[str, list[Question]](list), defaultdict[str, dict[str, Question]](dict)
    for question in questions:
        text = folded(question.prompt)
        by_text[text].append(question)
        by_stem[stem(question.prompt)].setdefault(text, question)
    repeated = [found for found in by_text.values() if len(found) > 1]
    if repeated:
        extra = sum(len(found) - 1 for found in repeated)
        words = f"{_rows(extra)} of {split} {'repeats' if extra == 1 else 'repeat'} another's question."
        apart = sum(len({question.answer for question in found}) > 1 for found in repeated)
        words += f" {_questions(apart)} of these {'has' if apart == 1 else 'have'} different answers." if apart else ""
        advice = "Keep one of each, the right one where their answers differ."
        examples = tuple(" and ".join(question.id for question in found[:3]) for found in repeated[:EXAMPLES])
        yield Finding("duplicates", "warns", words, advice, extra, examples)
    alike = [list(found.values()) for found in by_stem.values() if len(found) > 1]
    if alike:
        extra = sum(len(found) for found in alike)
        words = f"{_questions(extra)} of {split} begin as others do and differ in their options."
        advice = "Harmless within a split; between splits the beginning counts, so that none is trained on with other options."
        examples = tuple(" and ".join(question.id for question in found[:3]) for found in alike[:EXAMPLES])
        yield Finding("same_beginning", "notes", words, advice, extra, examples)


def _summary(split: Split, read: SplitRead) -> SplitSummary:
    answers = Counter(question.answer for question in read.questions)
    lengths = [len(question.prompt) for question in read.questions]
    return SplitSummary(
        split=split,
        source=read.source,
        rows=read.rows,
        usable=len(read.questions),
        answers=tuple(answers.most_common(MOST_CLASSES)),
        distinct_answers=len(answers),
        majority=answers.most_common(1)[0][1] / len(lengths) if lengths else None,
        length_median=median(lengths) if lengths else None,
        length_max=max(lengths, default=None),
        with_solution=sum(question.solution is not None for question in read.questions),
    )


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def _questions(count: int) -> str:
    return f"{count:,} {'question' if count == 1 else 'questions'}"
