"""Exports are ordinary folders that say the same as the student did; weights go there and back bit for bit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from opcod.config import AdaptersConfig
from opcod.errors import CheckpointError, ModelError, ResourceError
from opcod.students import export
from opcod.students.export import export_student
from opcod.students.loading import Student, load_student
from opcod.students.lora import bare_weights, load_trainable_state, merged, trainable_state
from tests.unit.students.tiny_models import FAMILIES

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def shake(student: Student) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in student.model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapters", [None, AdaptersConfig(rank=2)], ids=["full", "lora"])
def test_an_export_says_the_same(
    family: str, adapters: AdaptersConfig | None, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    student = make_student(family, adapters=adapters)
    shake(student)
    before = student.model(IDS).logits
    folder = export_student(student, tmp_path / "exports" / "student1")
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    torch.testing.assert_close(plain(IDS).logits, before, atol=1e-5, rtol=1e-4)
    assert AutoTokenizer.from_pretrained(folder).chat_template == student.tokenizer.chat_template
    assert sorted(path.name for path in folder.parent.iterdir()) == ["student1"]
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    torch.testing.assert_close(student.model(IDS).logits, before, atol=0, rtol=0)  # the student itself is as it was
    apart, whole = dict(bare_weights(student.model)), dict(merged(student.model).named_parameters())
    assert apart.keys() == whole.keys()
    assert all(torch.equal(weight, apart[name]) for name, weight in whole.items())
    again = load_student(str(folder), device=torch.device("cpu"), dtype=torch.float32)
    torch.testing.assert_close(again.model(IDS).logits, before, atol=1e-5, rtol=1e-4)


def test_a_second_export_replaces_the_first(make_student: Callable[..., Student], tmp_path: Path) -> None:
    student = make_student()
    export_student(student, tmp_path / "out")
    shake(student)
    export_student(student, tmp_path / "out")
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()(IDS).logits, student.model(IDS).logits)


def test_what_is_no_model_is_not_overwritten(make_student: Callable[..., Student], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(ModelError, match="holds no model"):
        export_student(make_student(), tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"


def test_a_full_disk_leaves_nothing_half_made(
    make_student: Callable[..., Student], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = make_student()

    def full(self: object, folder: Path) -> None:
        assert (folder / "model.safetensors").is_file()
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(type(student.tokenizer), "save_pretrained", full)
    with pytest.raises(ResourceError, match="No space left"):
        export.export_student(student, tmp_path / "exports" / "student1")
    assert list((tmp_path / "exports").iterdir()) == []


@pytest.mark.parametrize("adapters", [None, AdaptersConfig(rank=2)], ids=["full", "lora"])
def test_trainable_weights_go_there_and_back(adapters: AdaptersConfig | None, make_student: Callable[..., Student]) -> None:
    student, other = make_student(adapters=adapters), make_student(adapters=adapters)
    shake(student)
    state = trainable_state(student.model)
    load_trainable_state(other.model, state)
    assert torch.equal(other.model(IDS).logits, student.model(IDS).logits)
    assert all(("lora_" in name) is (adapters is not None) for name in state)


def test_saved_weights_do_not_move_with_the_student(make_student: Callable[..., Student]) -> None:
    student = make_student()
    state = trainable_state(student.model)
    before = {name: weight.clone() for name, weight in state.items()}
    shake(student)
    assert all(torch.equal(weight, before[name]) for name, weight in state.items())


def test_another_ranks_weights_are_refused(make_student: Callable[..., Student]) -> None:
    narrow, wide = make_student(adapters=AdaptersConfig(rank=2)), make_student(adapters=AdaptersConfig(rank=4))
    with pytest.raises(CheckpointError):
        load_trainable_state(narrow.model, trainable_state(wide.model))
