"""What feedback adds to a step: OPCoD over SDPO at the paper's shape of work, n = 8, responses of 512 tokens, feedback of 110.

    python -m tests.benchmarks.feedback_overhead [--model FOLDER] [--questions 4] [--device cuda --dtype bfloat16]

Steps of both, as `bench_step` makes them, turn about in one process; the fastest of each counts, which a busy machine disturbs least.
Nothing ends a response before its length, so that both do exactly the work that they are said to do. Every feedback is kept and shown to
the self-teacher, whatever it says: the gate is open and the anchor always right, which is the dearest case. In the paper (section 8 of
its method, wall time a step) the gate was open in half of the steps: 7.20 minutes with feedback, 6.12 without, 6.66 on average, over
6.25 of SDPO. The same mean of open and shut is told here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from opcod.stopwatch import Part, Stopwatch, measuring
from opcod.types import Feedback, Question
from tests.benchmarks.bench_step import Settings, make_tiny_model, run_ours

NEVER_SAMPLED = -1
PAPER_OPEN_SHARE = (6.66 - 6.12) / (7.20 - 6.12)
"""Share of the paper's steps in which the gate was open."""
PARTS = {
    "rollout": ("rollout",),
    "feedback, prefill": ("feedback", "prefill"),
    "feedback, decode": ("feedback", "decode"),
    "update": ("update",),
}


def kept(text: str, question: Question, style: str) -> Feedback:
    """A review that lets everything pass."""
    return Feedback(text, text, "kept")


def step(settings: Settings, algorithm: str) -> dict[str, float]:
    """Seconds of one step and of its parts, and its processor time."""
    with (
        patch("opcod.generation.policy.end_token_ids", return_value=[NEVER_SAMPLED]),
        patch("opcod.generation.tutoring.review", kept),
        measuring(Stopwatch()) as stopwatch,
    ):
        began = time.process_time()
        run_ours(settings, algorithm)
        used = time.process_time() - began
    whole = stopwatch.whole.parts["step"]
    found = {name: seconds(whole, path) for name, path in PARTS.items()}
    rest = whole.seconds - sum(found.values())
    return {"step": whole.seconds, **found, "rest": rest, "processor, with loading": used}


def seconds(whole: Part, path: tuple[str, ...]) -> float:
    """Of the part at the end of the path; 0 where the step has none."""
    for name in path:
        if name not in whole.parts:
            return 0.0
        whole = whole.parts[name]
    return whole.seconds


def measure(settings: Settings, repeats: int) -> dict[str, Any]:
    """The fastest step of each algorithm after one of warm-up, part by part, and what the one is of the other."""
    steps: dict[str, list[dict[str, float]]] = {"sdpo": [], "opcod": []}
    for _ in range(repeats + 1):
        for algorithm, found in steps.items():
            found.append(step(settings, algorithm))
    best = {algorithm: min(found[1:], key=lambda one: one["step"]) for algorithm, found in steps.items()}
    least = {algorithm: min(one["processor, with loading"] for one in found[1:]) for algorithm, found in steps.items()}
    gate_open = best["opcod"]["step"] / best["sdpo"]["step"]
    return {
        "seconds": best,
        "overhead": {
            "gate open": gate_open,
            "on average, at the paper's share of open gates": 1 + PAPER_OPEN_SHARE * (gate_open - 1),
            "gate open, processor time": least["opcod"] / least["sdpo"],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="folder; a random one of 0.4 million weights if not given")
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--response-tokens", type=int, default=512)
    parser.add_argument("--feedback-tokens", type=int, default=110)
    parser.add_argument("--repeats", type=int, default=4, help="steps of each that count")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "feedback_overhead.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    shape = {name: value for name, value in vars(given).items() if name in Settings.__dataclass_fields__ and name != "model"}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(model=given.model or make_tiny_model(Path(folder)), steps=1, warmup=0, **shape)
        found = measure(settings, given.repeats)
    report = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "settings": asdict(settings) | {"model": given.model or "random (0.4 million weights)", "repeats": given.repeats},
        **found,
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
