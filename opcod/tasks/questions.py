"""A domain's questions, checked: every answer usable, every id unique, no question in two splits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

from opcod.config import ColumnsConfig, DomainConfig
from opcod.errors import DataError
from opcod.plain_text import storable
from opcod.tasks.sources import Row, read_rows, split_slice
from opcod.tasks.verifiers import check_answer
from opcod.types import Question, Split

SPLITS: tuple[Split, ...] = ("test", "validation", "train")
"""By claim: a question that stands in two splits belongs to the earlier one."""

LONGEST_ID = 500
"""Characters of a question's id; it is a key of indices."""

_OPTION = re.compile(r"\s{0,8}\(?([A-Z])\s?[).:]\s*\S")


@dataclass(frozen=True, slots=True)
class DomainData:
    """A domain's three disjoint splits. `notes` says what was dropped or is worth knowing, for people."""

    name: str
    train: tuple[Question, ...]
    validation: tuple[Question, ...]
    test: tuple[Question, ...]
    notes: tuple[str, ...] = ()


def load_domains(configs: Sequence[DomainConfig]) -> tuple[DomainData, ...]:
    """`load_domain` of each, with ``domains.INDEX.`` before the error's field, and checked against each other.

    Students train on the union of all training sets, so no domain's training question may stand in
    another's validation or test set either; the training domain's `overlap` says what happens then.

    Raises:
        DataError: as `load_domain`.
    """
    loaded = []
    for index, config in enumerate(configs):
        try:
            loaded.append(load_domain(config))
        except DataError as error:
            raise _within(error, index) from None
    for index, config in enumerate(configs):
        for other in loaded:
            if other.name == config.name:
                continue
            for split, held in (("test", other.test), ("validation", other.validation)):
                train, note = _separate(config, "train", loaded[index].train, f"{other.name} {split}", held, f"domains.{index}.train")
                loaded[index] = replace(loaded[index], train=train, notes=loaded[index].notes + note)
    return tuple(loaded)


def load_domain(config: DomainConfig) -> DomainData:
    """Read and check the three splits of a domain.

    A question is known by its stem (see `stem`). One that stands in two splits is refused, or, with
    ``overlap: drop_from_train``, kept only in test before validation before train, and noted.

    Raises:
        DataError: with `field` ``train``, ``validation``, ``test``, or None where no one entry is at
            fault: a source that is missing, broken or empty, a column that is missing, a blank prompt, an
            answer that the verifier cannot use, an id that stands twice, a question in two splits.
    """
    splits: dict[Split, tuple[Question, ...]] = {}
    notes: tuple[str, ...] = ()
    for split in SPLITS:
        try:
            questions = _load_split(config, split)
            for earlier, held in splits.items():
                questions, note = _separate(config, split, questions, earlier, held, split)
                notes += note
            _check_ids(config, split, questions, splits)
        except DataError as error:
            error.field = error.field or split
            raise
        splits[split] = questions
    repeated = len(splits["train"]) - len({stem(question.prompt) for question in splits["train"]})
    if repeated:
        notes += (f"{config.name}: {repeated} of {len(splits['train'])} training questions repeat another's stem.",)
    return DomainData(config.name, splits["train"], splits["validation"], splits["test"], notes)


def stem(prompt: str) -> str:
    """What identifies a question: its text before the first option line, case and white space folded.

    Options begin at a line such as ``A: ...``, ``A) ...`` or ``(A) ...`` that a ``B`` line follows later.
    Where nothing precedes them the whole prompt counts.
    """
    return _short_stem(prompt) if len(prompt) < 2000 else _stem(prompt)


def _stem(prompt: str) -> str:
    lines = prompt.splitlines()
    letters = [match.group(1) if (match := _OPTION.match(line)) else None for line in lines]
    first = letters.index("A") if "A" in letters and "B" in letters[letters.index("A") :] else len(lines)
    return " ".join("\n".join(lines[:first]).split()).casefold() or " ".join(prompt.split()).casefold()


_short_stem = lru_cache(maxsize=8192)(_stem)
"""Remembered: a question is held against those of every other split, at every look at a form."""


def majority_baseline(questions: Sequence[Question]) -> float:
    """The score of always giving the most frequent answer, in [0, 1]; 0 without questions."""
    if not questions:
        return 0.0
    return Counter(question.answer for question in questions).most_common(1)[0][1] / len(questions)


def _load_split(config: DomainConfig, split: Split) -> tuple[Question, ...]:
    name: str = getattr(config, split)
    source, part = split_slice(name)
    if source.startswith("demo:"):
        questions = tuple(_demo_question(config, question) for question in demo_rows(source)[part])
    else:
        rows = read_rows(source)[part]
        _check_columns(config.columns, rows)
        questions = tuple(question_of(config, split, row) for row in rows)
    if not questions:
        raise DataError(f"{name} gives no rows for {config.name}'s {split} split.", advice="Widen the slice.")
    return questions


def demo_rows(source: str) -> tuple[Question, ...]:
    """The built-in questions of a source such as ``demo:densities:train``."""
    from opcod.tasks.demo import demo_questions

    _, _, rest = source.partition(":")
    domain, _, split = rest.partition(":")
    return demo_questions(domain, cast(Split, split))


def _demo_question(config: DomainConfig, question: Question) -> Question:
    _check_answer(config, question.answer, f"{question.domain} question {question.id}")
    return question if question.domain == config.name else replace(question, domain=config.name)


def _check_columns(columns: ColumnsConfig, rows: list[Row]) -> None:
    """Every row needs prompt and answer; the other columns may be missing."""
    for row in rows:
        for role in ("prompt", "answer"):
            column: str = getattr(columns, role)
            if column not in row.values:
                existing = ", ".join(sorted(map(str, row.values))[:20]) or "none"
                raise DataError(
                    f"{row.where} has no column {column!r} for the {role}; its columns are {existing}.",
                    advice=f"Name the right one under columns.{role}.",
                )


def question_of(config: DomainConfig, split: Split, row: Row) -> Question:
    """A row as a question of the domain.

    Raises:
        DataError: the prompt is blank, the verifier cannot use the answer, or a cell is no text.
    """
    columns = config.columns
    prompt, answer = _text(row, columns.prompt), (_text(row, columns.answer) or "").strip()
    if prompt is None or not prompt.strip():
        raise DataError(f"{row.where} has a blank prompt.", advice="Fill it in or remove the row.")
    _check_answer(config, answer, row.where)
    identity = _text(row, columns.id) or f"{split}-{row.number}"
    if len(identity) > LONGEST_ID:
        raise DataError(
            f"{row.where} has an id of {len(identity):,} characters; {LONGEST_ID} are allowed.",
            advice="Shorten it, name another column under columns.id, or set columns.id to empty to number the rows.",
        )
    return Question(
        id=identity,
        domain=config.name,
        prompt=prompt,
        answer=answer,
        system=_text(row, columns.system) or config.system_prompt,
        solution=_text(row, columns.solution),
    )


def _check_answer(config: DomainConfig, answer: str, where: str) -> None:
    complaint = check_answer(config.verifier, answer)
    if complaint:
        raise DataError(f"{where}: {complaint}.", advice=f"Mend it, or choose another verifier than {config.verifier.kind}.")


def _text(row: Row, column: str | None) -> str | None:
    """A cell as text; None where the column or the cell is missing or empty."""
    value: Any = row.values.get(column) if column is not None else None
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{row.where}: column {column!r} holds a {type(value).__name__}, not text.", advice="Write text or a number in it.")
    text = str(value)
    if storable(text) != text:
        raise DataError(
            f"{row.where}: column {column!r} holds a NUL or half a surrogate pair, which is no text.", advice="Remove the character."
        )
    return text


def _separate(
    config: DomainConfig, split: str, questions: tuple[Question, ...], earlier: str, held: tuple[Question, ...], field: str
) -> tuple[tuple[Question, ...], tuple[str, ...]]:
    """`questions` without those whose stem stands in `held`, and a note of it; or the refusal."""
    held_by_stem = {stem(question.prompt): question for question in held}
    kept = tuple(question for question in questions if stem(question.prompt) not in held_by_stem)
    dropped = [question for question in questions if stem(question.prompt) in held_by_stem]
    if not dropped:
        return questions, ()
    stems = {stem(question.prompt) for question in dropped}
    leaked = sum(stem(question.prompt) in stems for question in held)
    stand = "question stands" if leaked == 1 else "questions stand"
    if config.overlap == "refuse":
        example = dropped[0]
        raise DataError(
            f"{config.name}: {leaked} {earlier} {stand} in {split} too ({len(dropped)} of its rows), "
            f"for one {held_by_stem[stem(example.prompt)].id} as {example.id}.",
            advice=f"Remove them from {split}, or set overlap to drop_from_train.",
            field=field,
        )
    if not kept:
        raise DataError(f"{config.name}: every {split} question stands in {earlier} too.", advice="Give other questions.", field=field)
    note = f"{config.name}: dropped {len(dropped)} of {len(questions)} {split} questions, for {leaked} {earlier} {stand} there too."
    return kept, (note,)


def _check_ids(config: DomainConfig, split: Split, questions: tuple[Question, ...], others: dict[Split, tuple[Question, ...]]) -> None:
    seen = {question.id: earlier for earlier, held in others.items() for question in held}
    for question in questions:
        if question.id in seen:
            where = f"twice in {split}" if seen[question.id] == split else f"in {seen[question.id]} and in {split}"
            raise DataError(
                f"{config.name}: the id {question.id!r} stands {where}.",
                advice="Give each question its own id, or set columns.id to empty.",
            )
        seen[question.id] = split


def _within(error: DataError, index: int) -> DataError:
    field = f"domains.{index}.{error.field}" if error.field else f"domains.{index}"
    return DataError(error.message, advice=error.advice, field=field)
