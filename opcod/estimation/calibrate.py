"""Measures the runs that the package ships: real ones, small, of students from 0.4 to 27 million parameters (`make calibrate`).

Each trains in a process of its own, as a worker would start it, so that the time of its start is measured too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from opcod.config import load_preset, merge, parse_config
from opcod.estimation.measured import MeasuredRun, from_events
from opcod.sinks import read_events

TARGET = Path(__file__).with_name("shipped.json")
SIZES: Mapping[str, Mapping[str, Any]] = {
    "small": {
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "intermediate_size": 688,
    },
    "medium": {
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "intermediate_size": 1376,
    },
}
"""Students with random weights, which answer at full length and never well: their feedback is generic, so that all of it is learnt from."""


def plans(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and configuration of each run."""
    tiny = load_preset("tiny")
    short = {"schedule": {"rounds": 1, "steps_per_round": 4}, "evaluation": {"break_rescue_questions": 4}}
    yield "tiny", tiny
    yield "demo, one round", merge(load_preset("demo"), {"schedule": {"rounds": 1, "steps_per_round": 8}, "evaluation": {"samples": 8}})
    yield "SDPO", merge(load_preset("demo-sdpo"), {"schedule": {"rounds": 1, "steps_per_round": 6}, "evaluation": {"samples": 4}})
    yield "GRPO", merge(load_preset("demo-grpo"), {"schedule": {"rounds": 1, "steps_per_round": 6}, "evaluation": {"samples": 4}})
    yield "tiny, in turn", merge(tiny, {"compute": {"side_by_side": False}})
    for size in SIZES:
        model = str(folder / size)
        students = [one | {"model": model} for one in tiny["students"]]
        free = {"method": {"feedback": {"style": "generic"}, "gate": {"strategy": "always"}}}
        large = merge(
            merge(merge(tiny, short), free),
            {"students": students, "evaluation": {"samples": 2, "validation_questions": 12, "test_questions": 6}},
        )
        yield f"{size}, 4 x 4", merge(large, {"schedule": {"questions_per_step": 4}, "generation": {"rollouts": 4}})
        yield (
            f"{size}, longer answers",
            merge(large, {"schedule": {"questions_per_step": 3}, "generation": {"rollouts": 2, "max_response_tokens": 96}}),
        )


def make_models(folder: Path) -> None:
    """Write a student of each size, with the demo's tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

    from opcod.students.references import demo_folder

    tokenizer = AutoTokenizer.from_pretrained(demo_folder("demo:densities"))
    torch.manual_seed(0)
    for name, size in SIZES.items():
        config = Qwen3Config(
            vocab_size=len(tokenizer), max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **size,
        )  # fmt: skip
        build: Any = AutoModelForCausalLM.from_config
        build(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def measure(name: str, settings: Mapping[str, Any], folder: Path) -> MeasuredRun:
    """Train one run and measure it."""
    config = parse_config(settings)
    file = folder / "run.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    place = folder / name.replace(" ", "-")
    started = time.time()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    subprocess.run(
        [sys.executable, "-m", "opcod", "train", str(file), "--folder", str(place), "--json"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    ended = time.time()
    found = from_events(config, read_events(place / "events.jsonl"), source=name, device="cpu", started=started, ended=ended)
    if found is None:
        raise RuntimeError(f"The run {name!r} did not complete.")
    return found


def calibrate(say: Callable[[str], None], target: Path = TARGET) -> None:
    """Make every run and write what they took."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_models(folder)
        runs = []
        for name, settings in plans(folder):
            run = measure(name, settings, folder)
            runs.append(run)
            say(f"{name}: {run.wall:.1f} s, of which start {run.startup:.1f}, steps {run.steps_seconds:.1f}, rest {run.rest:.1f}")
        text = [json.dumps(_rounded(run.model_dump(mode="json"))).replace(f"{folder}/", "random:") for run in runs]
    target.write_text("[\n" + ",\n".join(text) + "\n]\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Five significant digits say what a clock knows."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(below) for key, below in value.items()}
    return [_rounded(below) for below in value] if isinstance(value, list | tuple) else value
