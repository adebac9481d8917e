"""`make bench`: a training step and rollouts beside trl's, what the record costs, and feedback; then whether a ratio has become worse.

    python -m tests.benchmarks [--only step] [--publish]

Each part's result is saved below tests/benchmarks/results. Ratios are held against those of docs/performance.json, since seconds are a
machine's own: one that is worse by more than 15 % fails. `--publish` puts this machine's there instead, and the table into
docs/performance.md. 20 minutes on two quiet cores. Parts that need a GPU are measured where torch finds one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.documents import put_table

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
PUBLISHED, DOCUMENT = ROOT / "docs/performance.json", ROOT / "docs/performance.md"
TOLERANCE = 0.15
DEMO_STUDENT = ROOT / "opcod/demo_assets/densities"
LONG = ["--model", "random", "--questions", "8", "--response-tokens", "256", "--pairs", "2", "--steps", "2"]
PARTS: Mapping[str, list[str]] = {
    "step-random": ["tests/benchmarks/bench_step.py", "--threads", "1"],
    "step-demo": ["tests/benchmarks/bench_step.py", "--threads", "1", "--model", str(DEMO_STUDENT), "--response-tokens", "32"],
    "engine-random": ["tests/benchmarks/bench_engine.py"],
    "engine-demo": ["tests/benchmarks/bench_engine.py", "--model", "demo:densities", "--tokens", "32"],
    "record-sqlite": ["-m", "tests.benchmarks.record"],
    "record-postgresql": ["-m", "tests.benchmarks.record", "--database", "postgresql"],
    "record-sqlite-long": ["-m", "tests.benchmarks.record", "--exchanges", "0", *LONG],
    "record-postgresql-long": ["-m", "tests.benchmarks.record", "--database", "postgresql", "--exchanges", "0", *LONG],
    "feedback": ["-m", "tests.benchmarks.feedback_overhead"],
}
GPU = ["--device", "cuda", "--dtype", "bfloat16"]
GPU_PARTS: Mapping[str, list[str]] = {
    "decode-gpu": ["-m", "tests.benchmarks.decode_bandwidth", *GPU],
    "step-gpu": ["tests/benchmarks/bench_step.py", *GPU],
    "feedback-gpu": ["-m", "tests.benchmarks.feedback_overhead", *GPU],
}
NO_GPU = "no GPU was to be had"
BETTER_HIGH = ("speed",)
"""What a ratio's name ends with that should be large; the others should be small."""
HEAD = "| part | ratio | here |"


def measure(part: str) -> dict[str, Any]:
    """Run a part; its report, as it saved it."""
    output = RESULTS / f"{part}.json"
    print(f"--- {part}", flush=True)
    subprocess.run(
        [sys.executable, *{**PARTS, **GPU_PARTS}[part], "--output", str(output)],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        check=True,
    )
    report: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return report


def ratios(report: Mapping[str, Any]) -> dict[str, float]:
    """Name -> what one thing measured in a run is of another of the same run."""
    if "ratios" in report:
        found, parts = report["ratios"], report["results"]
        return {
            "step's time over trl's": found["step_time_ours_over_trl"],
            "rollouts over trl's, speed": found["rollout_speed_ours_over_trl"],
            "update over trl's, speed": found["update_speed_ours_over_trl"],
            "peak memory over trl's": found["peak_memory_ours_over_trl"],
            "OPCoD step's time over SDPO's": parts["opcod"]["step_s"] / parts["sdpo"]["step_s"],
        }
    if "rollouts" in report:
        return {"rollouts over model.generate's, speed": report["rollouts"]["speed"]}
    if "share_of_bandwidth" in report:
        return {
            f"sampling over what the memory can deliver, 8B, batch 256, {how}, speed": share
            for how, share in report["share_of_bandwidth"].items()
        }
    if "overhead" in report:
        return {"OPCoD step's time over SDPO's, gate open, n = 8, 512 and 110 tokens": report["overhead"]["gate open"]}
    step = report["step"]["with_over_without"]
    return {
        "step's time with the record over without": step["wall_s"],
        "step's processor time with the record over without": step["processor_s"],
    }


def worse(found: Mapping[str, Mapping[str, float]], published: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Ratios that are worse than the published ones by more than the tolerance, in words."""
    faults = []
    for part, values in found.items():
        for name, value in values.items():
            before = published.get(part, {}).get(name)
            if before is None:
                continue
            loss = before / value if name.endswith(BETTER_HIGH) else value / before
            if loss > 1 + TOLERANCE:
                faults.append(f"{part}: {name} was {before:.2f}, is {value:.2f}")
    return faults


def table(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    rows = [f"| {part} | {name} | {value:.2f} |" for part, values in found.items() for name, value in values.items()]
    unknown = [f"| {part} | all of it | {NO_GPU} |" for part in GPU_PARTS if part not in found]
    return [HEAD, "|---|---|--:|", *rows, *unknown]


def publish(found: Mapping[str, Mapping[str, float]]) -> None:
    """Put the ratios where later ones are held against, and their table into the document."""
    kept = json.loads(PUBLISHED.read_text(encoding="utf-8"))["ratios"] if PUBLISHED.exists() else {}
    published = kept | dict(found)
    content = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
        "on": f"{datetime.now(UTC):%Y-%m-%d}",
        "ratios": published,
    }
    PUBLISHED.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    put_table(DOCUMENT, HEAD, table(published))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="parts whose name begins so")
    parser.add_argument("--publish", action="store_true")
    given = parser.parse_args()
    parts = [part for part in (*PARTS, *(GPU_PARTS if torch.cuda.is_available() else ())) if part.startswith(given.only)]
    found = {part: ratios(measure(part)) for part in parts}
    print("\n".join(table(found)))
    if given.publish:
        publish(found)
        return 0
    if not PUBLISHED.exists():
        return 0
    faults = worse(found, json.loads(PUBLISHED.read_text(encoding="utf-8"))["ratios"])
    print("\n".join(faults) or "No ratio is worse than the published one.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
