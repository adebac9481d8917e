"""Loading a student: any Hugging Face causal language model, safetensors only, no remote code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from opcod.config import AdaptersConfig
from opcod.distillation.packing import recomputing
from opcod.errors import ModelError, ResourceError
from opcod.students.lora import add_adapters
from opcod.students.references import CONVERT_ADVICE, SAVED_ADVICE, locate

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

TOKENIZER_ADVICE = "Save the tokenizer into the model's folder: tokenizer.json and tokenizer_config.json."


@dataclass(frozen=True, slots=True)
class Student:
    """A policy: a causal language model with its tokenizer, and the reference it was loaded from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    ref: str


def resolve_device(name: str) -> torch.device:
    """`auto` is the first CUDA device if there is one, else the CPU.

    Raises:
        ResourceError: a CUDA device is asked for that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ResourceError(
            f"This machine has no device {name!r}: torch finds {found} CUDA device{'' if found == 1 else 's'}.",
            advice="Set compute.device to auto or cpu, or install a CUDA build of torch.",
            field="compute.device",
        )
    return device


def load_student(
    ref: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    adapters: AdaptersConfig | None = None,
    gradient_checkpointing: bool = False,
) -> Student:
    """Load a student for training or generation, in evaluation mode (no dropout).

    `ref` is a hub id, a local folder or ``demo:NAME``. Every weight is trainable, or the adapters alone.
    Gradient checkpointing takes effect while the model is in training mode.

    Raises:
        ModelError: the reference names nothing that can be loaded.
        ResourceError: memory ran out, or the device is missing.
    """
    return equip(load_bare(ref, device=device, dtype=dtype), adapters=adapters, gradient_checkpointing=gradient_checkpointing)


def load_bare(ref: str, *, device: torch.device, dtype: torch.dtype) -> Student:
    """The student as its files have it. See `load_student`."""
    resolve_device(str(device))
    path = locate(ref)
    with _explained(ref), quiet():
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, config=config, trust_remote_code=False)
        if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):  # made up by transformers where the files are missing
            raise ModelError(f"{ref!r} has no tokenizer.", advice=TOKENIZER_ADVICE)
        model = without_dropout(_complete_model(path, ref, config=config, dtype=dtype))
        model.to(device)  # type: ignore[arg-type]
        _set_pad_token(model, tokenizer, ref)
    model.eval()
    return Student(model, tokenizer, ref)


def equip(bare: Student, *, adapters: AdaptersConfig | None, gradient_checkpointing: bool) -> Student:
    """A bare student made ready for a run, in place. See `load_student`."""
    model = bare.model
    with _explained(bare.ref), quiet():
        if gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": recomputing})
        if adapters is not None:
            model = add_adapters(model, adapters)
    model.eval()
    return Student(model, bare.tokenizer, bare.ref)


def _complete_model(path: str, ref: str, **settings: object) -> PreTrainedModel:
    """Load the weights; where some are absent transformers would go on with random ones."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        path, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **settings
    )
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{ref!r} lacks weights of {type(model).__name__}: {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}.",
            advice="It was saved from another kind of model, or its files are not complete.",
        )
    return cast(PreTrainedModel, model)


def without_dropout(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with its dropout off in training mode too: the policy that is scored is the one that sampled.

    Adapters are added later and keep theirs. trl's SDPOTrainer turns it off likewise (`disable_dropout`).
    """
    for module in model.modules():
        rates = [name for name, value in vars(module).items() if "drop" in name and isinstance(value, float)]
        for name in [*rates, *(["p"] if isinstance(module, torch.nn.Dropout) else [])]:
            setattr(module, name, 0.0)
    return model


def _set_pad_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ref: str) -> None:
    if tokenizer.pad_token_id is None:
        ends = model.generation_config.eos_token_id if model.generation_config else None
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else (ends[0] if isinstance(ends, list) else ends)
        if end is None:
            raise ModelError(
                f"The tokenizer of {ref!r} has neither a padding nor an end token.", advice="Set `eos_token` in its tokenizer_config.json."
            )
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(end)
    for settings in (model.config, model.generation_config):
        if settings is not None:
            settings.pad_token_id = tokenizer.pad_token_id


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars: a run has its own."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _explained(ref: str) -> Iterator[None]:
    """Turn the libraries' errors into ones that say what to do."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(ref) from error
    except SafetensorError as error:
        raise ModelError(f"A safetensors file of {ref!r} is damaged: {error}.", advice="Fetch or save it again.") from error
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise _explanation(ref, error) or error from error


def _explanation(ref: str, error: Exception) -> ModelError | ResourceError | None:
    text = str(error)
    for sign, (message, advice) in _SIGNS:
        if sign.lower() in text.lower():
            return ModelError(message.format(ref=ref), advice=advice)
    if "allocate memory" in text:
        return _out_of_memory(ref)
    if isinstance(error, RuntimeError):
        return None
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return ModelError(f"{ref!r} cannot be loaded: {first}", advice="Try it with transformers' AutoModelForCausalLM first.")


def _out_of_memory(ref: str) -> ResourceError:
    return ResourceError(f"Memory ran out while {ref!r} was loaded.", advice="Use bfloat16, LoRA adapters or a smaller model.")


_NO_REMOTE_CODE = ("{ref!r} needs code of its own (auto_map), which is never run.", "Choose an architecture that transformers itself has.")
_UNREACHABLE = (
    "{ref!r} is not on this machine and the hub cannot be reached.",
    "Check the network and HF_HUB_OFFLINE, or give a local folder.",
)
_SIGNS: tuple[tuple[str, tuple[str, str]], ...] = (
    # (what the library says, (our message, our advice)); the first match counts
    ("trust_remote_code", _NO_REMOTE_CODE),
    ("custom code", _NO_REMOTE_CODE),
    ("gated repo", ("{ref!r} is gated on the hub.", "Ask for access there and log in with `hf auth login`.")),
    (
        "not a valid model identifier",
        ("There is no model {ref!r} on the hub, nor a folder of that name.", "Check the spelling, or log in with `hf auth login`."),
    ),
    ("couldn't connect", _UNREACHABLE),
    ("offline", _UNREACHABLE),
    ("does not appear to have a file named model.safetensors", ("{ref!r} has no safetensors weights.", CONVERT_ADVICE)),
    ("for this kind of AutoModel", ("{ref!r} is not a causal language model.", "Choose one that generates text (...ForCausalLM).")),
    (
        "does not recognize this architecture",
        ("The architecture of {ref!r} is unknown to this version of transformers.", "Update transformers or choose another model."),
    ),
    ("model_type", ("The config.json of {ref!r} names no known architecture.", SAVED_ADVICE)),
    (
        "tokenizer",
        ("{ref!r} has no tokenizer that can be loaded.", "Save the tokenizer into the model's folder, tokenizer.json above all."),
    ),
    ("size mismatch", ("The weights of {ref!r} do not fit its config.json.", "Fetch or save the model again.")),
)
