"""What the engine gains by sharing beginnings and by letting prompts enter as rows leave, in processor time.

    python tests/benchmarks/bench_engine.py [--model demo:densities] [--output FILE]

Four kinds of work: what a tutor is asked in a demo step, the same with room for a third of the prompts, eight distinct prompts with
the same 120 tokens before them to each of 24 questions, and prompts of unequal length whose responses end at unequal length. Each is done
with both gains, without one, and without either, in turn; the least of the repeated measurements is told, which a busy machine disturbs
least.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from opcod.config import load_preset, parse_config
from opcod.feedback.prompts import tutor_messages
from opcod.generation import prefill, transformers
from opcod.generation.base import SamplingParams
from opcod.generation.policy import Policy
from opcod.students.loading import load_student
from opcod.tasks.questions import load_domains

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo:densities")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "bench_engine.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    share, refill = prefill.SHARE_BELOW, transformers.REFILL_AT
    student = load_student(given.model, device=torch.device("cpu"), dtype=torch.float32)
    policy = Policy(student, batch_size=256)
    found: dict[str, dict[str, float]] = {}
    for name, work in works(policy).items():
        engine = transformers.TransformersEngine(student.model, end_ids=work.end_ids, pad_id=policy.end_ids[0])
        seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for _ in range(given.repeats):
            for variant, (shared, entering) in VARIANTS.items():
                prefill.SHARE_BELOW, transformers.REFILL_AT = share if shared else 0.0, refill if entering else 0.0
                began = time.process_time()
                engine.generate(work.prompts, work.params, seed=1, batch_size=work.batch_size)
                seconds[variant].append(time.process_time() - began)
        found[name] = {variant: min(each) for variant, each in seconds.items()}
        print(f"{name:32}" + "".join(f"{variant:>16} {value:.3f} s" for variant, value in found[name].items()), flush=True)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
