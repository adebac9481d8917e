"""What a student's `model` names: a local folder, a built-in specialist or a hub id. Free of torch, so that a form can check it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from opcod.config import ExperimentConfig
from opcod.errors import ConfigError, ModelError

SAVED_ADVICE = "Give a folder that transformers' save_pretrained() wrote."
CONVERT_ADVICE = "If you trust it, load it with transformers once, elsewhere: its save_pretrained() writes safetensors."
GGUF_ADVICE = "Turn it into a folder once: `python -m opcod students import-gguf FILE OUT`, and name that folder."
HUB_ADVICE = "Give a folder with config.json and *.safetensors, or a hub id such as Qwen/Qwen3-0.6B."

DEMO_FOLDER = Path(__file__).parents[1] / "demo_assets"
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,95})?")


def locate(ref: str) -> str:
    """The folder of a local student, or the hub id as it is.

    Raises:
        ModelError: a local folder that holds no loadable model, or a name that no hub id can have.
    """
    if ref.startswith("demo:"):
        folder = demo_folder(ref)
        if not folder.is_dir():
            known = sorted(path.name for path in DEMO_FOLDER.iterdir() if path.is_dir()) if DEMO_FOLDER.is_dir() else []
            names = ", ".join(f"demo:{name}" for name in known)
            raise ModelError(
                f"There is no built-in specialist {ref!r}.",
                advice=f"Choose one of {names}." if names else "Make them with `python -m opcod demo build`.",
            )
    else:
        folder = _path(ref)
    if ref.lower().endswith(".gguf"):
        raise ModelError(f"{ref!r} is a GGUF file.", advice=GGUF_ADVICE)
    if folder.is_dir():
        check_folder(folder, ref)
        return str(folder)
    if ref.startswith(("/", "./", "../", "~")) or folder.exists() or not _HUB_ID.fullmatch(ref):
        raise ModelError(f"There is no model folder {ref!r}.", advice=HUB_ADVICE)
    return ref


def _path(ref: str) -> Path:
    """`ref` as a path that can be looked at, whatever it holds."""
    try:
        path = Path(ref).expanduser()
        path.exists()  # a name that is too long, or a folder that may not be entered
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"{ref[:200]!r} cannot be opened: {error}.", advice=HUB_ADVICE) from None
    return path


def vocabulary(ref: str) -> int | None:
    """Number of tokens that a local student's configuration states; None for a hub id or where it states none."""
    file = Path(locate(ref)) / "config.json"
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    size = stated.get("vocab_size", (stated.get("text_config") or {}).get("vocab_size")) if isinstance(stated, dict) else None
    return size if isinstance(size, int) else None


def check_top_k(config: ExperimentConfig, student: str, tokens: int | None) -> None:
    """See that the loss compares no more tokens than a student has.

    Raises:
        ConfigError: K exceeds the vocabulary.
    """
    top_k = config.method.loss.top_k
    if config.method.algorithm != "grpo" and top_k is not None and tokens is not None and top_k > tokens:
        raise ConfigError(
            f"K is {top_k}, but the vocabulary of {student} has {tokens} tokens.",
            advice=f"Choose at most {tokens}, or leave it empty for the whole vocabulary.",
            field="method.loss.top_k",
        )


def demo_folder(ref: str) -> Path:
    """Folder of a built-in specialist, ``demo:NAME``."""
    return DEMO_FOLDER / Path(ref.removeprefix("demo:")).name


def check_folder(folder: Path, ref: str) -> None:
    """See that `folder` holds a whole model in safetensors, as far as its file names tell.

    Raises:
        ModelError: no configuration, no weights, or weights only as a pickle.
    """
    files = [file for file in folder.iterdir() if file.is_file()]
    names = {file.name for file in files}
    if "config.json" not in names:
        if "adapter_config.json" in names:
            raise ModelError(
                f"{ref!r} holds adapters without their base model.", advice="Merge them: peft's merge_and_unload(), then save_pretrained()."
            )
        if any(file.suffix == ".gguf" for file in files):
            raise ModelError(f"{ref!r} holds a GGUF file.", advice=GGUF_ADVICE)
        raise ModelError(f"The folder {ref!r} has no config.json.", advice=SAVED_ADVICE)
    if not any(file.suffix == ".safetensors" for file in files):
        pickled = sorted(file.name for file in files if file.suffix in (".bin", ".pt", ".pth", ".ckpt") and file.stem != "training_args")
        if pickled:
            raise ModelError(
                f"{ref!r} has its weights only as a pickle ({pickled[0]}), which can run code when it is read.", advice=CONVERT_ADVICE
            )
        raise ModelError(f"The folder {ref!r} has no weights.", advice="It needs model.safetensors, or its shards with their index.")
