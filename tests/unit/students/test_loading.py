"""What loads, and what the person at the keyboard is told when it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

from opcod.config import AdaptersConfig
from opcod.errors import ConfigError, ModelError, ResourceError
from opcod.students.loading import Student, load_student, resolve_device
from opcod.students.lora import is_adapted
from tests.unit.students.tiny_models import FAMILIES, make_tokenizer, save_model

CPU = torch.device("cpu")


def load(ref: str | Path, **options: Any) -> Student:
    return load_student(str(ref), device=CPU, dtype=torch.float32, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_ready_to_use(family: str, make_student: Callable[..., Student]) -> None:
    student = make_student(family)
    assert not student.model.training
    assert all(weight.requires_grad for weight in student.model.parameters())
    assert student.tokenizer.pad_token_id == student.tokenizer.eos_token_id == student.model.config.pad_token_id
    assert student.model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 288)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_mode_says_the_same_as_evaluation_mode(family: str, make_student: Callable[..., Student]) -> None:
    """Dropout (GPT-2 has it) would make the policy that is trained another than the one that sampled."""
    model = make_student(family).model
    ids = torch.tensor([[1, 2, 3, 4]])
    still = model(ids).logits
    torch.testing.assert_close(model.train()(ids).logits, still)


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_are_the_only_trainable_weights_and_change_nothing_at_first(family: str, make_student: Callable[..., Student]) -> None:
    ids = torch.tensor([[1, 2, 3, 4]])
    bare = make_student(family).model(ids).logits
    adapted = make_student(family, adapters=AdaptersConfig(rank=2))
    trainable = [name for name, weight in adapted.model.named_parameters() if weight.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    assert is_adapted(adapted.model)
    torch.testing.assert_close(adapted.model(ids).logits, bare, atol=0, rtol=0)


def test_adapters_stay_in_float32_on_a_bfloat16_base(make_student: Callable[..., Student]) -> None:
    model = make_student(dtype=torch.bfloat16, adapters=AdaptersConfig(rank=2)).model
    kinds = {weight.requires_grad: weight.dtype for weight in model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}


def test_adapters_on_modules_that_are_not_there(make_student: Callable[..., Student]) -> None:
    with pytest.raises(ConfigError, match="all-linear") as caught:
        make_student(adapters=AdaptersConfig(targets=["no_such_layer"]))
    assert caught.value.field == "compute.adapters.targets"


def test_gradient_checkpointing_gives_the_same_gradients(make_student: Callable[..., Student]) -> None:
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    gradients = []
    for switched_on in (False, True):
        model = make_student("llama", gradient_checkpointing=switched_on, adapters=AdaptersConfig(rank=2)).model
        torch.manual_seed(1)
        for weight in model.parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.1)
        model.train()
        model(ids).logits.square().mean().backward()
        gradients.append([weight.grad for weight in model.parameters() if weight.requires_grad])
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients[0])
    for without, with_checkpoints in zip(*gradients, strict=True):
        torch.testing.assert_close(without, with_checkpoints)


def test_loading_prints_no_progress_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = save_model(tmp_path / "model")
    capfd.readouterr()
    load(folder)
    assert capfd.readouterr() == ("", "")


def test_a_folder_without_configuration(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(tmp_path)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        load(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_pickled_weights_are_never_read(tmp_path: Path, name: str) -> None:
    folder = save_model(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch /nonexistent/pwned'\ntR.")
    with pytest.raises(ModelError, match=r"pickle .*save_pretrained") as caught:
        load(folder)
    assert name in caught.value.message


def test_a_pickle_beside_safetensors_does_not_matter(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert load(folder).model.num_parameters() > 0


def test_a_model_with_its_own_code(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mystery", "auto_map": {"AutoConfig": "configuration_mystery.MysteryConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_mystery.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(ModelError, match="code of its own"):
        load(folder)


def test_an_unknown_architecture(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mystery"}))
    with pytest.raises(ModelError, match="unknown to this version"):
        load(folder)


def test_a_translation_model_is_not_causal(tmp_path: Path) -> None:
    T5ForConditionalGeneration(T5Config(vocab_size=288, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="not a causal language model"):
        load(tmp_path)


def test_absent_weights_are_not_made_up(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights .*layers\.1\.mlp\.up_proj"):
        load(folder)


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=288, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertForMaskedLM(config).bert.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="lacks weights"):
        load(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_without_a_tokenizer(tmp_path: Path, family: str) -> None:
    folder = save_model(tmp_path / "model", family)
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load(folder)


def test_damaged_weights(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:200])
    with pytest.raises(ModelError, match="damaged"):
        load(folder)


def test_a_broken_configuration(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError):
        load(folder)


def test_a_name_that_is_not_on_this_machine() -> None:
    with pytest.raises(ModelError, match="hub cannot be reached"):
        load("nobody/no-such-model")


def test_out_of_memory_is_a_matter_of_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", burst)
    with pytest.raises(ResourceError, match="Memory ran out"):
        load(save_model(tmp_path / "model"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_this_machine_lacks() -> None:
    with pytest.raises(ResourceError, match="no device 'cuda:1'"):
        resolve_device("cuda:1")
    assert resolve_device("auto") == CPU
