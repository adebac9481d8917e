"""How fast the engine samples: beside `model.generate` as trl's SDPOTrainer calls it, and what it gains by not doing work twice.

    python tests/benchmarks/bench_engine.py [--model FOLDER] [--data FILE.jsonl] [--questions 24] [--rollouts 8] [--tokens 48]

First the rollouts of a step: both sides sample the same number of responses to the same prompts, with the same model in the same process,
turn about. trl's side repeats every prompt, pads them on the left, and samples one static batch until the last response has ended, as
`SDPOTrainer._generate_transformers` does. Only tokens of responses count, up to the one that ends the turn; both sides are warmed up, and
the fastest of the repetitions is told. Without --model it is the tiny random one of bench_step.py; `--model demo:densities` is the demo's
student. Without --data the questions are those of bench_step.py; a file has a JSON object with `prompt`, and maybe `system`, a line.

With --gains, four kinds of work besides: what a tutor is asked in a demo step, the same with room for a third of the prompts, eight
distinct prompts with the same 120 tokens before them to each of 24 questions, and prompts of unequal length whose responses end at
unequal length. Each is done with shared beginnings and with prompts that enter as rows leave, without one, and without either.

All times are processor time, which a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from transformers import GenerationConfig  # noqa: E402

from opcod.config import load_preset, parse_config  # noqa: E402
from opcod.feedback.prompts import tutor_messages  # noqa: E402
from opcod.generation import prefill, transformers  # noqa: E402
from opcod.generation.base import SamplingParams  # noqa: E402
from opcod.generation.policy import Policy  # noqa: E402
from opcod.students.loading import DTYPES, load_student  # noqa: E402
from opcod.tasks.questions import load_domains  # noqa: E402
from opcod.types import Question  # noqa: E402
from tests.benchmarks.bench_step import make_tiny_model, questions  # noqa: E402

VARIANTS = {"both": (True, True), "nothing shared": (False, True), "nobody enters": (True, False), "neither": (False, False)}


@dataclass(frozen=True)
class Work:
    """Prompts and how they are answered."""

    prompts: Sequence[Sequence[int]]
    params: SamplingParams
    batch_size: int
    end_ids: Sequence[int]


def works(policy: Policy) -> dict[str, Work]:
    config = parse_config(load_preset("demo"))
    questions = [question for domain in load_domains(config.domains) for question in domain.train[:12]]
    responses = policy.respond(
        [policy.question_prompt(question) for question in questions], SamplingParams(config.generation.max_response_tokens, n=8), seed=0
    )
    asked = [
        policy.prompt(tutor_messages(config.method.feedback, question, response.text, tutor_domain="protons", tutee_domain="densities"))
        for question, group in zip(questions, responses, strict=True)
        for response in group
    ]
    draw = random.Random(0)
    words = range(10, int(policy.student.model.config.vocab_size))
    beginnings = [draw.choices(words, k=120) for _ in range(24)]
    distinct = [beginning + draw.choices(words, k=draw.randint(24, 32)) for beginning in beginnings for _ in range(8)]
    unequal = [draw.choices(words, k=draw.randint(20, 120)) for _ in range(256)]
    ends = draw.sample(words, k=len(words) // 33)
    feedback = SamplingParams(config.method.feedback.max_tokens)
    return {
        "feedback of a demo step": Work(asked, feedback, 256, policy.end_ids),
        "the same, 64 at a time": Work(asked, feedback, 64, policy.end_ids),
        "eight distinct to a question": Work(distinct, feedback, 256, policy.end_ids),
        "unequal lengths, 64 at a time": Work(unequal, SamplingParams(96, temperature=2.5), 64, ends),
    }


def rollouts(policy: Policy, prompts: Sequence[Sequence[int]], params: SamplingParams, repeats: int) -> dict[str, float]:
    """Tokens a second of processor time, here and by `model.generate`, and their ratio."""
    engine = transformers.TransformersEngine(policy.student.model, end_ids=policy.end_ids, pad_id=policy.student.tokenizer.pad_token_id)

    def ours(seed: int) -> int:
        made = engine.generate(prompts, params, seed=seed, batch_size=len(prompts) * params.n)
        return sum(len(one.token_ids) for group in made for one in group)

    def theirs(seed: int) -> int:
        return generate(policy, prompts, params, seed)

    best = {"here": 0.0, "generate": 0.0}
    sides: dict[str, Callable[[int], int]] = {"here": ours, "generate": theirs}
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            began = time.process_time()
            tokens = side(repeat)
            speed = tokens / (time.process_time() - began)
            best[name] = max(best[name], speed if repeat else 0.0)
    return {"here_tokens_per_s": best["here"], "generate_tokens_per_s": best["generate"], "speed": best["here"] / best["generate"]}


def generate(policy: Policy, prompts: Sequence[Sequence[int]], params: SamplingParams, seed: int) -> int:
    """Tokens of the responses that `model.generate` samples as trl's SDPOTrainer calls it."""
    pad_id = policy.student.tokenizer.pad_token_id
    config = GenerationConfig(
        max_new_tokens=params.max_new_tokens, do_sample=True, temperature=params.temperature, top_p=params.top_p, top_k=0,
        pad_token_id=pad_id, eos_token_id=list(policy.end_ids), disable_compile=True,
    )  # fmt: skip
    rows = [prompt for prompt in prompts for _ in range(params.n)]
    width = max(map(len, rows))
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    torch.manual_seed(seed)
    model: Any = policy.student.model
    with torch.no_grad():
        responses = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)[:, width:]
    ends = torch.isin(responses, torch.tensor(policy.end_ids))
    return int(torch.where(ends.any(dim=1), ends.int().argmax(dim=1) + 1, responses.shape[1]).sum())


def asked(file: Path | None, count: int) -> list[Question]:
    if file is None:
        return [Question(str(place), "work", text, "1") for place, text in enumerate(questions(count))]
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[:count]]
    return [Question(str(place), "work", row["prompt"], "1", system=row.get("system")) for place, row in enumerate(rows)]


def gains(policy: Policy, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of each kind of work, by what is left out."""
    share, refill = prefill.SHARE_BELOW, transformers.REFILL_AT
    found: dict[str, dict[str, float]] = {}
    for name, work in works(policy).items():
        engine = transformers.TransformersEngine(policy.student.model, end_ids=work.end_ids, pad_id=policy.end_ids[0])
        seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for _ in range(repeats):
            for variant, (shared, entering) in VARIANTS.items():
                prefill.SHARE_BELOW, transformers.REFILL_AT = share if shared else 0.0, refill if entering else 0.0
                began = time.process_time()
                engine.generate(work.prompts, work.params, seed=1, batch_size=work.batch_size)
                seconds[variant].append(time.process_time() - began)
        found[name] = {variant: min(each) for variant, each in seconds.items()}
        print(f"{name:32}" + "".join(f"{variant:>16} {value:.3f} s" for variant, value in found[name].items()), flush=True)
    prefill.SHARE_BELOW, transformers.REFILL_AT = share, refill
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="folder, hub id or demo:NAME; a tiny random model if not given")
    parser.add_argument("--data", type=Path, help="questions, one JSON object a line")
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48, help="of a response at the most")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gains", action="store_true", help="the four kinds of work too; needs a student of the demo")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "bench_engine.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        student = load_student(given.model or make_tiny_model(Path(folder)), device=torch.device("cpu"), dtype=DTYPES[given.dtype])
    policy = Policy(student, batch_size=256)
    prompts = [policy.question_prompt(question) for question in asked(given.data, given.questions)]
    found = rollouts(policy, prompts, SamplingParams(given.tokens, given.temperature, n=given.rollouts), given.repeats)
    print("  ".join(f"{name} {value:.2f}" for name, value in found.items()), flush=True)
    report: dict[str, Any] = {"settings": {**vars(given), "data": str(given.data), "output": str(given.output)}, "rollouts": found}
    if given.gains:
        report["gains"] = gains(policy, given.repeats)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
