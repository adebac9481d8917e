"""How near the sampling of tokens comes to what the memory can deliver: each pass has to read the weights, and every row's keys and values.

    python -m tests.benchmarks.decode_bandwidth [--device cuda] [--shape 8B] [--questions 32] [--rollouts 8] [--prompt 1024] [--tokens 256]

A model of random weights with the shape of Qwen3-8B (or, by default on a CPU, a small one) samples; no response ends before its length.
The bound of a pass is the bytes that it must read, over the bytes a second at which this device copies a large tensor. Keys and values of
a prompt, which its responses share, count once; those of the responses at half of their length, the mean over the passes. On a CUDA device
passes are measured with CUDA graphs and without. The faster of the repetitions after one of warm-up is told.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3Config

from opcod.generation.base import SamplingParams
from opcod.generation.replay import recorder_of
from opcod.generation.transformers import TransformersEngine
from opcod.profiling.gauges import gauge_of
from opcod.stopwatch import Stopwatch, measuring
from opcod.students.loading import DTYPES

HEADS: dict[str, Any] = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
SMALL_HEADS: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32}
SHAPES = {
    "8B": Qwen3Config(
        vocab_size=151_936, hidden_size=4096, intermediate_size=12_288, num_hidden_layers=36, tie_word_embeddings=False, **HEADS
    ),
    "small": Qwen3Config(
        vocab_size=8192, hidden_size=256, intermediate_size=768, num_hidden_layers=6, tie_word_embeddings=False, **SMALL_HEADS
    ),
}
NEVER_SAMPLED = -1
COPIED_BYTES = 2**28


def bandwidth(device: torch.device) -> float:
    """Bytes a second that a copy of a large tensor reads and writes; the best of some."""
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source)
    gauge, best = gauge_of(device), 0.0
    for _ in range(10):
        gauge.settle()
        began = time.perf_counter()
        target.copy_(source)
        gauge.settle()
        best = max(best, 2 * COPIED_BYTES / (time.perf_counter() - began))
    return best


def bytes_read(model: PreTrainedModel, *, questions: int, rollouts: int, prompt: int, tokens: int) -> float:
    """By a pass of one token a row: all weights but the table of embeddings, then keys and values."""
    config = model.config
    table = next(model.get_input_embeddings().parameters())
    weights = sum(weight.nbytes for weight in model.parameters()) - table.nbytes
    a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * model.dtype.itemsize
    return float(weights + a_token * questions * (prompt + rollouts * tokens / 2))


def seconds_a_pass(model: PreTrainedModel, given: argparse.Namespace, *, graphs: bool) -> float:
    """Of one token of every row, sampling included."""
    draw = torch.Generator().manual_seed(0)
    prompts = torch.randint(0, model.config.vocab_size, (given.questions, given.prompt), generator=draw).tolist()
    params = SamplingParams(given.tokens, n=given.rollouts)
    recorder = recorder_of(model.device) if graphs else None
    engine = TransformersEngine(model, end_ids=[NEVER_SAMPLED], pad_id=0, recorder=recorder)
    found: list[float] = []
    for _ in range(given.repeats + 1):
        with measuring(Stopwatch(gauge_of(model.device))) as stopwatch:
            engine.generate(prompts, params, seed=0, batch_size=given.questions * given.rollouts)
        found.append(stopwatch.whole.parts["decode"].seconds / given.tokens)
    return min(found[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--shape", choices=list(SHAPES), help="8B on a GPU, else small")
    parser.add_argument("--dtype", choices=list(DTYPES), help="bfloat16 on a GPU, else float32")
    parser.add_argument("--questions", type=int, default=32)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "decode_bandwidth.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    gpu = device.type == "cuda"
    given.shape, given.dtype = given.shape or ("8B" if gpu else "small"), given.dtype or ("bfloat16" if gpu else "float32")
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(SHAPES[given.shape], dtype=DTYPES[given.dtype]).eval()
    shape = {name: getattr(given, name) for name in ("questions", "rollouts", "prompt", "tokens")}
    speed = bandwidth(device)
    bound = bytes_read(model, **shape) / speed
    passes = {name: seconds_a_pass(model, given, graphs=graphs) for name, graphs in (("plain", False), ("graphs", True))[: 2 if gpu else 1]}
    report = {
        "machine": {"processor": torch.cuda.get_device_name(device) if gpu else platform.machine(), "torch": torch.__version__},
        "settings": {**vars(given), "output": given.output.name},
        "gigabytes_a_second": speed / 1e9,
        "bound_seconds": bound,
        "seconds_a_pass": passes,
        "tokens_a_second": {name: given.questions * given.rollouts / seconds for name, seconds in passes.items()},
        "share_of_bandwidth": {name: bound / seconds for name, seconds in passes.items()},
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
