"""What an inspection finds in a domain's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opcod.config import DomainConfig
from opcod.errors import DataError
from opcod.tasks.inspection import inspect_domain
from opcod.tasks.questions import load_domain

Rows = list[dict[str, Any]]


def rows(split: str, count: int = 40) -> Rows:
    return [{"id": f"{split}-{index}", "prompt": f"{split} question {index}?", "answer": "ABCD"[index % 4]} for index in range(count)]


def domain(folder: Path, *, splits: dict[str, Rows] | None = None) -> DomainConfig:
    for split in ("train", "validation", "test"):
        lines = (splits or {}).get(split, rows(split))
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    sources = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
    return DomainConfig.model_validate({"name": "facts", **sources})


def kinds(config: DomainConfig) -> dict[str, int]:
    return {finding.kind: finding.count for finding in inspect_domain(config).findings}


def test_good_data_have_no_findings_and_are_counted(tmp_path: Path) -> None:
    found = inspect_domain(domain(tmp_path))
    assert (found.findings, found.usable) == ((), True)
    assert [(split.split, split.rows, split.usable, split.majority) for split in found.splits] == [
        ("train", 40, 40, 0.25), ("validation", 40, 40, 0.25), ("test", 40, 40, 0.25),
    ]  # fmt: skip
    assert len(found.sample) == 5


def test_every_unusable_row_is_counted_and_the_others_are_read(tmp_path: Path) -> None:
    bad: Rows = [
        {"prompt": " ", "answer": "A"},
        {"prompt": "x?", "answer": "maybe"},
        {"question": "y?", "answer": "B"},
        {"prompt": 3, "answer": ["A"]},
    ]
    found = inspect_domain(domain(tmp_path, splits={"train": rows("train") + bad}))
    (finding,) = found.findings
    assert (finding.kind, finding.severity, finding.count) == ("unanswerable", "stops", 4)
    assert f"{tmp_path}/train.jsonl:41" in finding.examples[0]
    assert (found.splits[0].rows, found.splits[0].usable) == (44, 40)


@pytest.mark.parametrize(("held", "other"), [("test", "train"), ("validation", "train"), ("test", "validation")])
def test_a_question_in_two_splits_is_found_whatever_its_options_case_and_spaces(tmp_path: Path, held: str, other: str) -> None:
    leaked = {"id": "leak", "prompt": f"  {held.upper()}  question 3?\n\nA: one\nB: two", "answer": "A"}
    config = domain(tmp_path, splits={other: [*rows(other), leaked]})
    (finding,) = inspect_domain(config).findings
    assert (finding.kind, finding.severity, finding.examples) == (f"{held}_in_{other}", "stops", (f"{held}-3 in {held}, leak in {other}",))
    with pytest.raises(DataError):
        load_domain(config)
    dropping = inspect_domain(config.model_copy(update={"overlap": "drop_from_train"}))
    assert (dropping.findings[0].severity, dropping.usable) == ("notes", True)


def test_duplicates_imbalance_length_ids_and_few_questions_are_said(tmp_path: Path) -> None:
    train = [line | {"answer": "A" if index < 30 else "B"} for index, line in enumerate(rows("train"))]
    train += [{"id": "train-0", "prompt": "train question 1?", "answer": "D"}, {"id": "long", "prompt": "x" * 9_000, "answer": "C"}]
    found = kinds(domain(tmp_path, splits={"train": train, "test": rows("test", 10)}))
    assert found == {"repeated_ids": 1, "duplicates": 1, "imbalance": 30, "long_prompts": 1, "few_questions": 10}
    messages = [finding.message for finding in inspect_domain(domain(tmp_path, splits={"train": train})).findings]
    assert any("1 question of these has different answers" in message for message in messages)


def test_what_cannot_be_read_is_a_finding_and_the_rest_is_read(tmp_path: Path) -> None:
    config = domain(tmp_path)
    (tmp_path / "test.jsonl").write_text('{"prompt": ', encoding="utf-8")
    found = inspect_domain(config.model_copy(update={"validation": str(tmp_path / "nowhere.csv")}))
    assert {finding.kind for finding in found.findings} == {"test_unreadable", "validation_unreadable"}
    assert (found.usable, found.splits[0].usable) == (False, 40)


@pytest.mark.parametrize("name", ["densities", "protons"])
def test_what_an_inspection_passes_loads(name: str) -> None:
    config = DomainConfig.model_validate(
        {"name": name, "verifier": {"kind": "number"}} | {split: f"demo:{name}:{split}" for split in ("train", "validation", "test")}
    )
    assert inspect_domain(config).usable
    assert load_domain(config).train
