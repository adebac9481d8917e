"""Times one training step and compares it with trl's experimental SDPOTrainer on the same model, questions and lengths.

    python tests/benchmarks/bench_step.py [--model FOLDER] [--data FILE.jsonl] [--questions 24] [--rollouts 8] [--response-tokens 48]

Three measurements, each in a process of its own so that its peak memory is its own: a step of SDPO here, the same step
by trl, and a step of OPCoD here (with a tutor). Every rollout counts as correct, so that every one has a solution to be
taught with and both sides score all of them. The first steps are warm-up; of the rest the
fastest is reported, which a busy machine disturbs least. Without --model a Qwen3-like model of 0.4 million random weights
is made, with a tokenizer of 1,024 tokens; it seldom ends a response early. With --data the first questions of a file of JSON lines
(`prompt` and, where there is one, `system`) are asked instead of made-up ones. --without-tutor leaves the third measurement out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

# Ours, in trl's words.
TRL_TEMPLATE = "{prompt}{solution}{feedback}Correctly solve the original question."
TRL_SOLUTION = "\n\nCorrect solution:\n\n{successful_previous_attempt}\n\n"


@dataclass(frozen=True)
class Settings:
    """The work that every part does."""

    model: str
    questions: int
    rollouts: int
    response_tokens: int
    feedback_tokens: int
    steps: int
    warmup: int
    threads: int
    device: str
    dtype: str
    data: str = ""


def questions(count: int) -> list[str]:
    return [
        f"A workshop makes {7 * i + 3} parts on each of {i + 2} days. How many parts is that? Answer with one number." for i in range(count)
    ]


def asked(settings: Settings) -> list[tuple[str | None, str]]:
    """(system prompt or None, question)."""
    if not settings.data:
        return [(None, text) for text in questions(settings.questions)]
    with Path(settings.data).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in islice(lines, settings.questions)]
    if len(rows) < settings.questions:
        sys.exit(f"{settings.data} has {len(rows)} questions: fewer than {settings.questions}.")
    return [(row.get("system"), row["prompt"]) for row in rows]


def peak_memory_mb() -> float:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def run_ours(settings: Settings, algorithm: str) -> dict[str, float]:
    """Seconds of a step and its parts, tokens a second, peak memory."""
    from opcod.config import parse_config
    from opcod.generation.policy import Policy
    from opcod.generation.tutoring import Tutor
    from opcod.students.ema import ExponentialAverage
    from opcod.students.loading import DTYPES, load_student, resolve_device
    from opcod.training.micro_batch_size import MicroBatchSize
    from opcod.training.optimizer import Optimizer
    from opcod.training.step import Tutee, Tutoring, run_step
    from opcod.training.update import Learner
    from opcod.types import GateDecision, Question, Verification

    def right(response: str, answer: str) -> Verification:
        return Verification(correct=True, extracted=answer)

    tutored = algorithm == "opcod"
    config = parse_config(
        {
            "students": [{"name": name, "model": settings.model, "native_domain": "work"} for name in ("tutee", "tutor")],
            "domains": [{"name": "work", "train": "unused", "validation": "unused", "test": "unused"}],
            "method": {
                "algorithm": algorithm,
                "feedback": {"max_tokens": settings.feedback_tokens},
                "loss": {"aggregation": "sequence_mean"},
            },
            "schedule": {"questions_per_step": settings.questions},
            "generation": {"rollouts": settings.rollouts, "max_response_tokens": settings.response_tokens},
            "optimizer": {"weight_decay": 0, "warmup_steps": 0},
        }
    )

    def student() -> Any:
        return load_student(settings.model, device=resolve_device(settings.device), dtype=DTYPES[settings.dtype])

    tutee_student = student()
    policy = Policy(tutee_student, batch_size=config.generation.batch_size)
    learner = Learner(
        model=tutee_student.model,
        teacher=ExponentialAverage(tutee_student.model, config.method.teacher.ema_rate),
        optimizer=Optimizer(tutee_student.model, config.optimizer),
        pad_id=tutee_student.tokenizer.pad_token_id,
        micro_batches=MicroBatchSize(config.compute.known_micro_batch_tokens),
    )
    work = [Question(str(i), "work", text, "1", system=system) for i, (system, text) in enumerate(asked(settings))]
    tutee = Tutee("tutee", config, policy, learner, work, {"work": right})
    tutoring = Tutoring()
    if tutored:
        decision = GateDecision(1, "tutor", "always", 0.0, 0.2, True, ("work",))
        scores = {"tutee": {"work": 1.0}, "tutor": {"work": 1.0}}
        tutoring = Tutoring((decision,), scores, {"tutor": Tutor("tutor", Policy(student(), batch_size=256), "work")})

    records = []
    for step in range(1, settings.warmup + settings.steps + 1):
        started = time.perf_counter()
        record = run_step(tutee, tutoring, round=1, step=step, measure_breaks=False)
        metrics = {name.split("/", 1)[1]: value for name, value in record.metrics.items()}
        rollout_tokens = sum(exchange.rollout.tokens for exchange in record.exchanges)
        feedback_tokens = sum(len(policy.student.tokenizer(e.feedback.raw)["input_ids"]) for e in record.exchanges if e.feedback)
        records.append(
            {
                "step_s": time.perf_counter() - started,
                "rollout_s": metrics["timing_s/rollout"],
                "feedback_s": metrics["timing_s/feedback"],
                "update_s": metrics["timing_s/update"],
                "rollout_tokens": rollout_tokens,
                "feedback_tokens": feedback_tokens,
                "loss_tokens": metrics["train/loss_tokens"],
                "loss": metrics["train/loss"],
            }
        )
    return summary(records[settings.warmup :])


def run_trl(settings: Settings) -> dict[str, float]:
    """The same step by trl's SDPOTrainer: EMA teacher, own solutions, top 100 and a tail at alpha 0.5."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

    records: list[dict[str, float]] = []
    clock: dict[str, float] = {}

    class Timed(SDPOTrainer):
        def sample_rollouts(self, inputs: Any) -> Any:
            clock["start"] = time.perf_counter()
            batch = super().sample_rollouts(inputs)
            clock["rollout_s"] = time.perf_counter() - clock["start"]
            clock["rollout_tokens"] = float(batch["completion_mask"].sum())
            return batch

        def _log_self_distillation_metric(self, mode: str, value: float) -> None:
            clock["loss"] = value
            super()._log_self_distillation_metric(mode, value)

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            total = time.perf_counter() - clock["start"]
            rollout_s = clock["rollout_s"]
            tokens = clock["rollout_tokens"]
            records.append(
                {
                    "step_s": total,
                    "rollout_s": rollout_s,
                    "feedback_s": 0.0,
                    "update_s": total - rollout_s,
                    "rollout_tokens": tokens,
                    "feedback_tokens": 0.0,
                    "loss_tokens": tokens,
                    "loss": clock["loss"],
                }
            )

    with tempfile.TemporaryDirectory() as folder:
        arguments = SDPOConfig(
            output_dir=folder,
            use_cpu=settings.device == "cpu",
            bf16=False,
            per_device_train_batch_size=settings.questions * settings.rollouts,
            gradient_accumulation_steps=1,
            num_generations=settings.rollouts,
            max_completion_length=settings.response_tokens,
            max_prompt_length=2048,
            temperature=1.0,
            top_p=1.0,
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            max_steps=settings.warmup + settings.steps,
            distillation_mode="topk_logits",
            distillation_topk=100,
            distillation_alpha=0.5,
            distillation_add_tail=True,
            teacher_model_kind="ema",
            teacher_update_rate=0.05,
            success_reward_threshold=0.5,
            reprompt_template=TRL_TEMPLATE,
            solution_template=TRL_SOLUTION,
            remove_thinking_from_demonstration=True,
            chat_template_kwargs={"enable_thinking": False},
            gradient_checkpointing=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            diagnostics_warning_interval=0,
        )
        said = [[("system", system), ("user", text)] for system, text in asked(settings)]
        data = Dataset.from_list([{"prompt": [{"role": role, "content": text} for role, text in one if text is not None]} for one in said])

        def right(completions: list[Any], **_: Any) -> list[float]:
            return [1.0] * len(completions)

        model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=settings.dtype)
        trainer = Timed(
            model=model,
            args=arguments,
            train_dataset=data,
            reward_funcs=right,
            processing_class=AutoTokenizer.from_pretrained(settings.model),
            callbacks=[Clock()],
        )
        trainer.train()
    return summary(records[settings.warmup :])


def summary(records: list[dict[str, float]]) -> dict[str, float]:
    best = min(records, key=lambda record: record["step_s"])
    for part, tokens in (("rollout", "rollout_tokens"), ("feedback", "feedback_tokens"), ("update", "loss_tokens")):
        if best[f"{part}_s"] > 0 and best[tokens] > 0:
            best[f"{part}_tokens_per_s"] = best[tokens] / best[f"{part}_s"]
    return best | {"peak_memory_mb": peak_memory_mb()}


PARTS: dict[str, Callable[[Settings], dict[str, float]]] = {
    "sdpo": lambda settings: run_ours(settings, "sdpo"),
    "trl_sdpo": run_trl,
    "opcod": lambda settings: run_ours(settings, "opcod"),
}


def make_tiny_model(folder: Path) -> str:
    """A Qwen3 of 0.4 million random weights, with a tokenizer made from the prompts that it will see."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

    from opcod.config import FeedbackConfig
    from opcod.feedback.prompts import tutor_messages
    from opcod.types import Question
    from tests.unit.students.tiny_models import CHATML

    question = Question("0", "work", "How many parts is that?", "1")
    seen = [
        message.content for message in tutor_messages(FeedbackConfig(), question, "A response.", tutor_domain="work", tutee_domain="work")
    ]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(
        [*seen, *questions(64)],
        trainers.BpeTrainer(vocab_size=1024, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    wrap: Any = PreTrainedTokenizerFast
    tokenizer = wrap(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHATML
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    build: Any = AutoModelForCausalLM.from_config
    build(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def measure(part: str, settings: Settings) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": str(settings.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, __file__, "--part", part, "--settings", json.dumps(vars(settings))]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"The measurement {part!r} failed.")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def show(results: dict[str, dict[str, float]]) -> None:
    rows = list(dict.fromkeys(name for result in results.values() for name in result if name != "loss"))
    print(f"{'':28}" + "".join(f"{part:>14}" for part in results))
    for row in rows:
        print(f"{row:28}" + "".join(f"{results[part].get(row, float('nan')):14.3f}" for part in results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="folder or hub id; a tiny random model if not given")
    parser.add_argument("--data", default="", help="JSON lines with `prompt` and `system`; made-up questions if not given")
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--response-tokens", type=int, default=48)
    parser.add_argument("--feedback-tokens", type=int, default=48)
    parser.add_argument("--steps", type=int, default=5, help="measured steps")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--without-tutor", action="store_true", help="measure no step of OPCoD")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "bench_step.json")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        import torch

        warnings.simplefilter("ignore")
        settings = Settings(**json.loads(given.settings))
        torch.set_num_threads(settings.threads)
        print(json.dumps(PARTS[given.part](settings)))
        return
    with tempfile.TemporaryDirectory() as folder:
        fields = {name: getattr(given, name) for name in Settings.__dataclass_fields__}
        settings = Settings(**fields | {"model": given.model or make_tiny_model(Path(folder))})
        results = {part: measure(part, settings) for part in PARTS if part != "opcod" or not given.without_tutor}
    ratios = {
        "step_time_ours_over_trl": results["sdpo"]["step_s"] / results["trl_sdpo"]["step_s"],
        "rollout_speed_ours_over_trl": results["sdpo"]["rollout_tokens_per_s"] / results["trl_sdpo"]["rollout_tokens_per_s"],
        "update_speed_ours_over_trl": results["sdpo"]["update_tokens_per_s"] / results["trl_sdpo"]["update_tokens_per_s"],
        "peak_memory_ours_over_trl": results["sdpo"]["peak_memory_mb"] / results["trl_sdpo"]["peak_memory_mb"],
    }
    show(results)
    for name, value in ratios.items():
        print(f"{name:28}{value:14.3f}")
    report = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "settings": fields | {"model": given.model or "tiny (0.4 million weights)"},
        "results": results,
        "ratios": ratios,
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"Saved to {given.output}")


if __name__ == "__main__":
    main()
