"""From rows to splits: what a plan drops, holds out and keeps, whatever the rows are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opcod.config import DomainConfig
from opcod.tasks.columns import guess_columns, guess_verifier, survey
from opcod.tasks.inspection import LONG_PROMPT, folded
from opcod.tasks.preparing import Mend, Plan, Prepared, lines, prepare
from opcod.tasks.questions import load_domain, stem
from opcod.tasks.sources import Row
from opcod.types import Split

CONFIG = DomainConfig(name="facts", train="t.csv", validation="v.csv", test="e.csv", system_prompt="Answer in <answer> tags.")
ALL: tuple[Mend, ...] = ("unanswerable", "long_prompts", "duplicates", "leaks", "ids")


def rows(values: Sequence[dict[str, Any]]) -> list[Row]:
    return [Row(number, f"t.csv:{number}", value) for number, value in enumerate(values, 1)]


def facts(start: int, count: int) -> list[dict[str, Any]]:
    return [{"id": f"q{n}", "prompt": f"Question {n}?", "answer": "ABCD"[n % 4]} for n in range(start, start + count)]


ROW = st.fixed_dictionaries(
    {
        "prompt": st.one_of(
            st.builds(
                lambda number, case, options: (str.upper if case else str)(f"Question {number}?") + options,
                st.integers(0, 6),
                st.booleans(),
                st.sampled_from(["", "  ", "\n\nA: one\nB: two", "\nA) x\nB) y"]),
            ),
            st.sampled_from(["", " ", None, 3, ["a"], "x" * (LONG_PROMPT + 1)]),
            st.text(max_size=20),
        ),
        "answer": st.sampled_from(["A", "B", " C ", "", "maybe", None, 1]),
        "id": st.sampled_from(["a", "b", "", None, 7]),
        "system": st.sampled_from([None, "Answer in <answer> tags.", "Be brief."]),
    }
)
SPLITS = st.fixed_dictionaries(
    {"train": st.lists(ROW, max_size=14)}, optional={"validation": st.lists(ROW, max_size=5), "test": st.lists(ROW, max_size=5)}
)


@settings(max_examples=60, deadline=None)
@given(given=SPLITS, mends=st.sets(st.sampled_from(ALL)), hold=st.integers(0, 3))
def test_what_a_plan_mends_is_mended_and_what_is_ready_loads_as_it_was_shown(
    tmp_path_factory: pytest.TempPathFactory, given: dict[Split, list[dict[str, Any]]], mends: set[Mend], hold: int
) -> None:
    brought = {split: rows(values) for split, values in given.items()}
    found = prepare(CONFIG, brought, Plan(frozenset(mends), {"validation": hold, "test": hold}))
    stems = {split: {stem(question.prompt) for question in part} for split, part in found.splits.items()}
    if "leaks" in mends:
        assert sum(map(len, stems.values())) == len(set().union(*stems.values()))  # disjoint
    for part in found.splits.values():
        if "duplicates" in mends:
            assert len({folded(question.prompt) for question in part}) == len(part)
        if "long_prompts" in mends:
            assert all(len(question.prompt) <= LONG_PROMPT for question in part)
    ids = [question.id for part in found.splits.values() for question in part]
    if "ids" in mends:
        assert len(set(ids)) == len(ids)
    if hold and "test" not in given and "test" in found.splits:
        assert len(found.splits["test"]) >= hold
        assert not stems["test"] & stems["train"]
    if found.after.usable:
        assert loaded(found, tmp_path_factory.mktemp("kept")) == {split: tuple(part) for split, part in found.splits.items()}


def loaded(found: Prepared, folder: Path) -> dict[str, Any]:
    for split, part in found.splits.items():
        (folder / f"{split}.jsonl").write_text("".join(lines(part, CONFIG.system_prompt)), encoding="utf-8", newline="\n")
    sources = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
    data = load_domain(CONFIG.model_copy(update=sources))
    return {"train": data.train, "validation": data.validation, "test": data.test}


def test_each_mend_is_offered_with_its_rows_and_made_only_when_asked_for() -> None:
    bad = [{"prompt": "Q?", "answer": "maybe"}, {"id": "q1", "prompt": "x" * (LONG_PROMPT + 1), "answer": "A"}]
    train = [
        *facts(0, 30),
        *bad,
        {"id": "again", "prompt": "question  3?", "answer": "D"},
        {"id": "leak", "prompt": "Question 41?", "answer": "B"},
    ]
    brought: dict[Split, list[Row]] = {"train": rows(train), "validation": rows(facts(30, 10)), "test": rows(facts(40, 10))}
    kept = prepare(CONFIG, brought, Plan())
    assert kept.concerned == {"unanswerable": 1, "long_prompts": 1, "duplicates": 1, "leaks": 1, "ids": 2}
    assert (len(kept.splits["train"]), kept.after.usable, kept.mended) == (33, False, ())
    mended = prepare(CONFIG, brought, Plan(frozenset(ALL)))
    assert (len(mended.splits["train"]), mended.after.usable) == (30, True)
    assert {finding.kind for finding in mended.mended} == {"unanswerable", "long_prompts", "duplicates", "test_in_train", "repeated_ids"}


def test_the_same_questions_are_held_out_whatever_the_order_of_the_rows() -> None:
    plan = Plan(hold_out={"validation": 5, "test": 7})
    one, other = (prepare(CONFIG, {"train": rows(values)}, plan) for values in (facts(0, 40), facts(0, 40)[::-1]))
    counts: dict[Split, int] = {"train": 28, "validation": 5, "test": 7}
    for split, count in counts.items():
        assert len(one.splits[split]) == count
        assert {question.id for question in one.splits[split]} == {question.id for question in other.splits[split]}


def test_more_cannot_be_held_out_than_there_are_and_what_else_is_wrong_is_still_said() -> None:
    bad = {"prompt": "Q?", "answer": "maybe"}
    found = prepare(CONFIG, {"train": rows([*facts(0, 3), bad]), "validation": rows(facts(5, 2))}, Plan(hold_out={"test": 3}))
    stops = {finding.kind: finding.message for finding in found.after.findings if finding.severity == "stops"}
    assert stops.keys() == {"unanswerable", "test_empty"}
    assert "Train has 3 usable questions: 3 cannot be held out for test." in stops["test_empty"]


@pytest.mark.parametrize(
    ("row", "found", "verifier"),
    [
        ({"id": "1", "prompt": "P?", "answer": "A"}, {"id": "id", "prompt": "prompt", "answer": "answer"}, "multiple_choice"),
        ({"Question": "P?", "Answer Key": "C", "uid": 3}, {"id": "uid", "prompt": "Question", "answer": "Answer Key"}, "multiple_choice"),
        ({"problem": "P?", "final_answer": 1.5, "CoT": "so"}, {"prompt": "problem", "answer": "final_answer", "solution": "CoT"}, "number"),
        ({"problem": "P?", "answer": r"\frac{1}{2}"}, {"prompt": "problem", "answer": "answer"}, "math"),
        ({"a": "Paris", "b": "What is the capital of France?"}, {"prompt": "b", "answer": "a"}, "exact"),
        ({"options": ["x"], "question": "P?"}, {"prompt": "question", "answer": "answer"}, "multiple_choice"),
    ],
)
def test_columns_and_verifier_are_guessed(row: dict[str, Any], found: dict[str, str], verifier: str) -> None:
    assert {role: column for role, column in guess_columns(rows([row])).model_dump().items() if column is not None} == found
    assert guess_verifier(rows([row]), found["answer"]) == verifier


def test_a_survey_says_what_stands_in_columns_and_is_bounded() -> None:
    values: list[dict[str, Any]] = [{"a": "", "b": 1, "c": ["x"]}, {"a": "text", "b": None, "c": 2, "d": "y" * 900}]
    found = {column.name: (column.kind, column.filled) for column in survey(rows(values))}
    assert found == {"a": ("text", 1), "b": ("number", 1), "c": ("other", 2), "d": ("text", 1)}
    wide = survey(rows([{f"c{n}": json.dumps(n) for n in range(900)}]))
    assert len(wide) == 200
