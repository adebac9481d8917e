"""What a folder says of a student before it is loaded, and what is found wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from opcod.students.facts import student_facts
from opcod.students.references import DEMO_FOLDER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO_FOLDER / "novice", tmp_path / "novice"))


def test_size_and_kind_come_from_configuration_and_headers(folder: Path) -> None:
    facts = student_facts(folder)
    assert (facts.architecture, facts.precision, facts.vocabulary, facts.context_tokens) == ("Qwen3ForCausalLM", "F32", 248, 512)
    assert 4 * facts.parameters == pytest.approx(facts.size_bytes, rel=0.02)
    assert (facts.loadable, facts.has_chat_template, facts.findings) == (True, True, ())


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])


def nonsense(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def without_a_part(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize(
    ("harm", "kind"), [(cut, "damaged"), (nonsense, "damaged"), (without_tokenizer, "tokenizer"), (without_a_part, "missing_parts")]
)
def test_what_stops_it_is_found(folder: Path, harm: Callable[[Path], None], kind: str) -> None:
    assert student_facts(folder).loadable  # and remembered, until the files change
    harm(folder)
    facts = student_facts(folder)
    assert not facts.loadable
    assert (facts.findings[0].kind, facts.findings[0].severity) == (kind, "stops")


def test_what_is_only_worth_knowing_does_not_stop_it(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    (folder / "training_args.bin").write_bytes(b"\x80")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {}, "architectures": ["BertModel"]}), encoding="utf-8")
    facts = student_facts(folder)
    assert facts.loadable
    assert [finding.kind for finding in facts.findings] == ["remote_code", "architecture", "chat_template", "pickle"]
