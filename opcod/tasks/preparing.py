"""From rows as somebody brings them to the three splits of a domain: columns read, questions held out, and what can be mended, mended."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from opcod.config import DomainConfig
from opcod.tasks.inspection import LONG_PROMPT, SPLITS, Finding, Inspection, SplitRead, folded, inspect_splits, read_split
from opcod.tasks.questions import SPLITS as BY_CLAIM
from opcod.tasks.questions import stem
from opcod.tasks.sources import Row
from opcod.types import Question, Split

Mend = Literal["unanswerable", "long_prompts", "duplicates", "leaks", "ids"]
MENDS: Mapping[str, Mend] = {
    "unanswerable": "unanswerable",
    "long_prompts": "long_prompts",
    "duplicates": "duplicates",
    "test_in_train": "leaks",
    "validation_in_train": "leaks",
    "test_in_validation": "leaks",
    "repeated_ids": "ids",
}
"""Kind of finding -> what mends it without asking."""

Splits = dict[Split, tuple[Question, ...]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with the rows. `hold_out` says how many training questions become those of a split that was not brought."""

    mends: frozenset[Mend] = frozenset()
    hold_out: Mapping[Split, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The splits as they would be kept. `before` is what was found without any mending, `after` what is still found."""

    splits: Mapping[Split, tuple[Question, ...]]
    concerned: Mapping[Mend, int]
    """Rows, for every mend that there is cause for, whether it is in the plan or not. All but `ids` drop them."""
    before: Inspection
    after: Inspection

    @property
    def mended(self) -> tuple[Finding, ...]:
        """What was found and is no more."""
        left = {finding.kind for finding in self.after.findings}
        return tuple(finding for finding in self.before.findings if finding.kind in MENDS and finding.kind not in left)


def prepare(config: DomainConfig, rows: Mapping[Split, Sequence[Row]], plan: Plan) -> Prepared:
    """Read `rows` by the columns, verifier and system prompt of `config` (its sources name them in summaries), and follow the plan.

    Mended: train and validation give up what stands in test, train what stands in validation, known by their stems; of
    questions that stand twice in a split the first is kept. Questions are held out by a hash of their stem: the same data give
    the same split, and no stem stands on both sides.
    Where train has too few to hold so many out, the split is empty, which is a finding.
    """
    read = {split: read_split(config, split, rows[split], getattr(config, split)) for split in SPLITS if split in rows}
    raw: Splits = {split: one.questions for split, one in read.items()}
    unusable = {split: one.rows - len(one.questions) for split, one in read.items()}
    before = inspect_splits(config, _reads(config, plan, _held_out(raw, plan), read, read_faults=True))
    splits, concerned = raw, Counter[Mend]({"unanswerable": sum(unusable.values())})
    for mend, change in _CHANGES:
        changed = change(splits)
        concerned[mend] = _count(splits) - _count(changed)
        splits = changed if mend in plan.mends else splits
    splits = _held_out(splits, plan)
    repeated = [count for count in Counter(question.id for part in splits.values() for question in part).values() if count > 1]
    concerned["ids"] = sum(repeated)
    if "ids" in plan.mends and repeated:
        splits = {split: tuple(replace(one, id=f"{split}-{place}") for place, one in enumerate(part, 1)) for split, part in splits.items()}
    after = inspect_splits(config, _reads(config, plan, splits, read, read_faults="unanswerable" not in plan.mends))
    return Prepared(splits, {mend: count for mend, count in concerned.items() if count}, before, after)


def lines(questions: Iterable[Question], system_prompt: str | None) -> Iterable[str]:
    """Questions as JSON lines with the columns that `ColumnsConfig` has by default; `system_prompt` is the domain's own, left out."""
    for question in questions:
        system = question.system if question.system != system_prompt else None
        told = {"id": question.id, "prompt": question.prompt, "answer": question.answer, "system": system, "solution": question.solution}
        yield json.dumps({name: text for name, text in told.items() if text is not None}, ensure_ascii=False) + "\n"


def _reads(
    config: DomainConfig, plan: Plan, splits: Splits, read: Mapping[Split, SplitRead], *, read_faults: bool
) -> dict[Split, SplitRead]:
    """For inspection; what was wrong with rows goes along while they have not been dropped."""
    found: dict[Split, SplitRead] = {}
    for split in SPLITS:
        questions = splits.get(split, ())
        faults = read[split].findings if split in read and read_faults else ()
        unread = read[split].rows - len(read[split].questions) if split in read and read_faults else 0
        if not questions and not faults:
            words, advice = f"There is no question in {split}.", "Bring a file with some, or hold some of train's questions out."
            if plan.hold_out.get(split, 0) and split not in read:
                left = len(splits.get("train", ()))
                words, advice = (
                    f"Train has {left:,} usable {'question' if left == 1 else 'questions'}: ",
                    "Hold fewer out, or bring a file of their own.",
                )
                words += f"{plan.hold_out[split]:,} cannot be held out for {split}."
            faults = (Finding(f"{split}_empty", "stops", words, advice, 0),)
        found[split] = SplitRead(getattr(config, split), len(questions) + unread, questions, faults)
    return found


def _count(splits: Splits) -> int:
    return sum(len(questions) for questions in splits.values())


def _without_long(splits: Splits) -> Splits:
    return {split: tuple(one for one in part if len(one.prompt) <= LONG_PROMPT) for split, part in splits.items()}


def _without_duplicates(splits: Splits) -> Splits:
    """The first of each in its split."""
    kept: Splits = {}
    for split, part in splits.items():
        first: dict[str, Question] = {}
        for question in part:
            first.setdefault(folded(question.prompt), question)
        kept[split] = tuple(first.values())
    return kept


def _without_leaks(splits: Splits) -> Splits:
    """A question belongs to test before validation before train, as `load_domain` has it."""
    kept: Splits = {}
    taken: set[str] = set()
    for split in BY_CLAIM:
        if split in splits:
            kept[split] = tuple(one for one in splits[split] if stem(one.prompt) not in taken)
            taken |= {stem(one.prompt) for one in kept[split]}
    return kept


_CHANGES: tuple[tuple[Mend, Callable[[Splits], Splits]], ...] = (
    ("long_prompts", _without_long),
    ("duplicates", _without_duplicates),
    ("leaks", _without_leaks),
)
"""In the order in which they are made."""


def _held_out(splits: Splits, plan: Plan) -> Splits:
    """Splits that were not brought, taken from train whole stems at a time, at least as many questions as were asked for."""
    found = dict(splits)
    for split in BY_CLAIM:
        wanted = plan.hold_out.get(split, 0)
        if split in splits or not wanted:
            continue
        train = found.get("train", ())
        stems = Counter(stem(one.prompt) for one in train)
        taken: set[str] = set()
        missing = wanted
        for key in sorted(stems, key=lambda key: hashlib.sha256(key.encode()).digest()):
            if missing <= 0:
                break
            taken.add(key)
            missing -= stems[key]
        if missing > 0 or len(taken) == len(stems):
            continue
        found[split] = tuple(one for one in train if stem(one.prompt) in taken)
        found["train"] = tuple(one for one in train if stem(one.prompt) not in taken)
    return found
