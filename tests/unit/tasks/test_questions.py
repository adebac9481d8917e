from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from opcod.config import DomainConfig
from opcod.errors import DataError
from opcod.tasks import sources
from opcod.tasks.questions import DomainData, load_domain, load_domains, majority_baseline, stem
from opcod.types import Question

Rows = Sequence[dict[str, Any]]


def rows(first: int, last: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"q{i}", "prompt": f"What is {i}?\n\nA: 1\nB: 2", "answer": "AB"[i % 2], **more} for i in range(first, last)]


def write(path: Path, content: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return str(path)


@pytest.fixture
def config(tmp_path: Path) -> DomainConfig:
    return DomainConfig(
        name="physics",
        train=write(tmp_path / "train.jsonl", rows(0, 6)),
        validation=write(tmp_path / "validation.jsonl", rows(6, 8)),
        test=write(tmp_path / "test.jsonl", rows(8, 11)),
    )


def change(config: DomainConfig, **values: Any) -> DomainConfig:
    return DomainConfig.model_validate({**config.model_dump(), **values})


def refusal(config: DomainConfig) -> DataError:
    with pytest.raises(DataError) as caught:
        load_domain(config)
    return caught.value


def ids(questions: Sequence[Question]) -> list[str]:
    return [question.id for question in questions]


def test_three_splits_are_read(config: DomainConfig):
    data = load_domain(change(config, system_prompt="Answer."))
    assert ids(data.train) == ["q0", "q1", "q2", "q3", "q4", "q5"]
    assert (len(data.validation), len(data.test), data.notes) == (2, 3, ())
    assert data.test[0] == Question("q8", "physics", "What is 8?\n\nA: 1\nB: 2", "A", system="Answer.")


def test_columns_are_mapped_and_the_rows_own_system_prompt_wins(config: DomainConfig, tmp_path: Path):
    content: Rows = [{"q": "Why?", "key": " B ", "sys": "Row's.", "why": "Because."}, {"q": "How?", "key": "A", "sys": None}]
    columns = {"id": None, "prompt": "q", "answer": "key", "system": "sys", "solution": "why"}
    others = {split: write(tmp_path / f"{split}2.jsonl", [{"q": split, "key": "A"}]) for split in ("validation", "test")}
    data = load_domain(change(config, train=write(tmp_path / "t.jsonl", content), columns=columns, system_prompt="Domain's.", **others))
    assert data.train == (
        Question("train-1", "physics", "Why?", "B", "Row's.", "Because."),
        Question("train-2", "physics", "How?", "A", "Domain's.", None),
    )


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_csv_and_parquet_read_as_jsonl_does(config: DomainConfig, tmp_path: Path, ending: str):
    path = tmp_path / f"train.{ending}"
    content = rows(0, 6)
    if ending == "csv":
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, ["id", "prompt", "answer"])
            writer.writeheader()
            writer.writerows(content)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(content), path)
    assert load_domain(change(config, train=str(path))) == load_domain(config)


@pytest.mark.parametrize(("part", "expected"), [("[:2]", "01"), ("[4:]", "45"), ("[-1:]", "5"), ("[1:3]", "12"), ("[:]", "012345")])
def test_a_slice_takes_rows(config: DomainConfig, part: str, expected: str):
    assert ids(load_domain(change(config, train=config.train + part)).train) == [f"q{digit}" for digit in expected]


def test_slices_of_one_file_can_be_all_splits_and_number_rows_by_the_file(config: DomainConfig, tmp_path: Path):
    path = write(tmp_path / "all.jsonl", [{"prompt": f"Q{i}", "answer": "A"} for i in range(6)])
    data = load_domain(change(config, train=f"{path}[4:]", validation=f"{path}[2:4]", test=f"{path}[:2]"))
    assert ids((*data.test, *data.validation, *data.train)) == ["test-1", "test-2", "validation-3", "validation-4", "train-5", "train-6"]


def test_relative_and_home_paths(config: DomainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_domain(change(config, train="train.jsonl", test="~/test.jsonl[:]")) == load_domain(config)


def test_the_demo_is_a_source(config: DomainConfig):
    demo = {split: f"demo:densities:{split}" for split in ("train", "validation", "test")}
    data = load_domain(change(config, verifier={"kind": "number"}, **{**demo, "train": "demo:densities:train[:10]"}))
    assert len(data.train) == 10
    assert {question.domain for question in data.test} == {"physics"}
    error = refusal(change(config, **demo))
    assert "is no letter A-Z" in error.message
    assert refusal(change(config, verifier={"kind": "number"}, **{**demo, "train": "demo:nowhere:train"})).field == "train"


BROKEN = [
    ("there is no file", None, "There is no file", "train"),
    ("empty", "", "is empty", "train"),
    ("blank lines only", "\n\n", "is empty", "train"),
    ("broken line", '{"prompt": "x", "answer": "A"}\n{"prompt": \n', "train.jsonl:2 is no valid JSON", "train"),
    ("deep line", "[" * 100_000, "train.jsonl:1 is no valid JSON", "train"),
    ("no object", "[1]\n", "train.jsonl:1 is no JSON object", "train"),
    (
        "missing column",
        '{"question": "x", "answer": "A"}\n',
        "train.jsonl:1 has no column 'prompt' for the prompt; its columns are answer, question",
        "train",
    ),
    ("blank prompt", '{"prompt": " ", "answer": "A"}\n', "train.jsonl:1 has a blank prompt", "train"),
    ("blank answer", '{"prompt": "x", "answer": ""}\n', "train.jsonl:1: the answer is blank", "train"),
    (
        "no letter",
        '{"prompt": "x", "answer": "A"}\n\n{"prompt": "y", "answer": "E5"}\n',
        "train.jsonl:3: answer 'E5' is no letter A-Z",
        "train",
    ),
    ("a list", '{"prompt": ["x"], "answer": "A"}\n', "column 'prompt' holds a list, not text", "train"),
    ("a boolean", '{"prompt": "x", "answer": true}\n', "column 'answer' holds a bool, not text", "train"),
    ("NUL", '{"prompt": "x\\u0000", "answer": "A"}\n', "column 'prompt' holds a NUL", "train"),
    ("half a pair", '{"prompt": "x\\ud800", "answer": "A"}\n', "half a surrogate pair", "train"),
    (
        "same id",
        '{"id": "i", "prompt": "x", "answer": "A"}\n{"id": "i", "prompt": "y", "answer": "A"}\n',
        "the id 'i' stands twice in train",
        "train",
    ),
    ("test's id", '{"id": "q8", "prompt": "x", "answer": "A"}\n', "the id 'q8' stands in test and in train", "train"),
]


@pytest.mark.parametrize(("content", "message", "field"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_source_is_refused_where_it_is_broken(config: DomainConfig, content: str | None, message: str, field: str):
    path = Path(config.train)
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    error = refusal(config)
    assert message in error.message
    assert error.advice
    assert error.field == field


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{folder}", "is a folder"),
        ("{folder}/notes.txt", "no ending that is understood"),
        ("{folder}/latin.jsonl", "latin.jsonl:1 is not UTF-8"),
        ("{folder}/cells.csv", "cells.csv:3 has 3 cells, the header 2"),
        ("{folder}/twice.csv", "names a column twice"),
        ("{folder}/open.csv", "is no valid CSV"),
        ("{folder}/broken.parquet", "is no valid Parquet"),
        ("x" * 400 + ".jsonl", "cannot be opened"),
        ("a\x00b.jsonl", "There is no file"),
        ("hub:nonsense", "is no hub source"),
        ("hub:a/b", "is no hub source"),
        ("hub:../data:test", "is no hub source"),
        ("hub:~/data:test", "is no hub source"),
        ("hub:./data:test", "is no hub source"),
        ("{folder}/train.jsonl[6:]", "gives no rows"),
        ("{folder}/train.jsonl[3:2]", "gives no rows"),
        ("{folder}/train.jsonl[x]", "There is no file"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(config: DomainConfig, tmp_path: Path, source: str, message: str):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}')
    (tmp_path / "cells.csv").write_text("prompt,answer\nx,A\ny,A,B\n")
    (tmp_path / "twice.csv").write_text("prompt,prompt\nx,A\n")
    (tmp_path / "open.csv").write_text('prompt,answer\n"x,A\n')
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    error = refusal(change(config, validation=source.replace("{folder}", str(tmp_path))))
    assert message in error.message
    assert error.field == "validation"


def test_a_line_without_end_is_refused(config: DomainConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 20)
    assert "train.jsonl:1 is longer than" in refusal(change(config, test=config.train)).message


def test_reading_without_the_library_says_what_to_install(config: DomainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "needs datasets" in refusal(change(config, test="hub:owner/name@config:test")).message


@pytest.mark.parametrize(("source", "called"), [("hub:o/n@c:test[1:]", ("o/n", "c")), ("hub:o/n:test[1:]", ("o/n", None))])
def test_a_hub_source_is_loaded_by_name_configuration_and_split(
    config: DomainConfig, monkeypatch: pytest.MonkeyPatch, source: str, called: tuple[str, str | None]
):
    datasets = pytest.importorskip("datasets")

    def load_dataset(name: str, configuration: str | None, *, split: str) -> list[dict[str, Any]]:
        assert (name, configuration, split) == (*called, "test")
        return rows(20, 23)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert ids(load_domain(change(config, test=source)).test) == ["q21", "q22"]


def test_a_hub_source_is_never_a_folder_of_this_machine(config: DomainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The hub's library looks for a folder of that name first."""
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "also the name of a folder" in refusal(change(config, test="hub:owner/name:test")).message


def test_a_hub_that_fails_is_a_users_error(config: DomainConfig, monkeypatch: pytest.MonkeyPatch):
    datasets = pytest.importorskip("datasets")

    def load_dataset(*_: Any, **__: Any) -> None:
        raise datasets.exceptions.DatasetNotFoundError("no such dataset")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    error = refusal(change(config, test="hub:owner/name:test"))
    assert "no such dataset" in error.message
    assert error.field == "test"


def test_the_stem_ends_at_the_first_option():
    assert stem("  What\n is  THIS?\n\nA: 1\nB: 2\nPlease reason.") == "what is this?"
    assert stem("What?\n(A) 1\n(B) 2") == stem("what?\nA. 3\nB. 4") == stem("What?\nA) 1\n\nB) 2")
    assert stem("A. Einstein wrote what?") == "a. einstein wrote what?"
    assert stem("A: 1\nB: 2") == "a: 1 b: 2"
    assert stem("Given:\na = 7 Å\nWhat is b?\nA: 1\nB: 2") == "given: a = 7 å what is b?"


def overlapping(config: DomainConfig, tmp_path: Path, **values: Any) -> DomainConfig:
    train = [
        *rows(0, 4),
        {"id": "new", "prompt": "WHAT is  8?\n\nA: 7\nB: 8", "answer": "B"},
        {"id": "q6", "prompt": "What is 6?", "answer": "A"},
    ]
    validation = [*rows(6, 8), {"id": "v", "prompt": "What is 9?", "answer": "A"}]
    return change(config, train=write(tmp_path / "t.jsonl", train), validation=write(tmp_path / "v.jsonl", validation), **values)


def test_a_question_in_two_splits_is_refused(config: DomainConfig, tmp_path: Path):
    mixed = overlapping(config, tmp_path)
    error = refusal(mixed)
    assert "1 test question stands in validation too" in error.message
    assert error.field == "validation"
    error = refusal(change(mixed, validation=config.validation))
    assert "1 test question stands in train too" in error.message
    assert "q8 as new" in error.message
    assert error.field == "train"


def test_or_it_is_dropped_from_the_lesser_split_and_noted(config: DomainConfig, tmp_path: Path):
    data = load_domain(overlapping(config, tmp_path, overlap="drop_from_train"))
    assert ids(data.test) == ["q8", "q9", "q10"]
    assert ids(data.validation) == ["q6", "q7"]
    assert ids(data.train) == ["q0", "q1", "q2", "q3"]
    assert len(data.notes) == 3
    assert all("dropped 1 of" in note for note in data.notes)


def test_a_split_that_would_be_dropped_whole_is_refused(config: DomainConfig):
    error = refusal(change(config, train=config.test, overlap="drop_from_train"))
    assert "every train question stands in test too" in error.message
    assert error.field == "train"


def test_domains_are_checked_against_each_other_and_errors_carry_the_index(config: DomainConfig, tmp_path: Path):
    chemistry = change(
        config,
        name="chemistry",
        train=write(tmp_path / "c_train.jsonl", [*rows(20, 23), {"prompt": "What is 8?", "answer": "A"}]),
        validation=write(tmp_path / "c_validation.jsonl", rows(30, 32)),
        test=write(tmp_path / "c_test.jsonl", rows(40, 42)),
    )
    with pytest.raises(DataError) as caught:
        load_domains([config, chemistry])
    assert caught.value.field == "domains.1.train"
    assert "physics test question" in caught.value.message
    physics, cleaned = load_domains([config, change(chemistry, overlap="drop_from_train")])
    assert ids(cleaned.train) == ["q20", "q21", "q22"]
    assert len(cleaned.notes) == 1
    assert physics == load_domain(config)
    with pytest.raises(DataError) as caught:
        load_domains([config, change(chemistry, test="nowhere.jsonl")])
    assert caught.value.field == "domains.1.test"


def test_the_majority_baseline():
    questions = [Question(str(i), "d", "p", answer) for i, answer in enumerate("ABBC")]
    assert majority_baseline(questions) == 0.5
    assert majority_baseline([]) == 0.0


SCIKNOWEVAL = Path(os.environ.get("OPCOD_SCIKNOWEVAL", Path(__file__).parents[4] / "shared" / "data" / "sciknoweval"))


def sciknoweval(name: str, overlap: str) -> DomainData:
    folder = SCIKNOWEVAL / name
    source = {"train": f"{folder}/train.jsonl[60:]", "validation": f"{folder}/train.jsonl[:60]", "test": f"{folder}/test.jsonl"}
    return load_domain(DomainConfig.model_validate({"name": name, "overlap": overlap, **source}))


@pytest.mark.skipif(not SCIKNOWEVAL.is_dir(), reason="no SciKnowEval data; set OPCOD_SCIKNOWEVAL to its folder")
@pytest.mark.parametrize(("name", "leaked", "majority"), [("physics", 7, 33), ("material", 3, 30), ("chemistry", 0, 64)])
def test_sciknowevals_leaks_are_found_and_dropped(name: str, leaked: int, majority: int):
    stems = {}
    for split in ("train", "test"):
        lines = (SCIKNOWEVAL / name / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
        stems[split] = [stem(json.loads(line)["prompt"]) for line in lines if line]
    assert sum(text in set(stems["train"]) for text in stems["test"]) == leaked
    if leaked:
        with pytest.raises(DataError, match="too"):
            sciknoweval(name, "refuse")
    data = sciknoweval(name, "drop_from_train")
    splits = [{stem(question.prompt) for question in questions} for questions in (data.train, data.validation, data.test)]
    assert len(set.union(*splits)) == sum(map(len, splits))
    assert len(data.test) == len(stems["test"])
    assert majority_baseline(data.test) * len(data.test) == pytest.approx(majority)
