"""Whole SDPO steps equal those of trl's experimental SDPOTrainer: same rollouts in, same losses, student and self-teacher out.

Covers at once what no part proves alone: which rollout's solution is shown to whom, the self-teacher's prompt, alignment,
the divergence, its mean, the optimiser's step and the moving average.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

from opcod.config import parse_config
from opcod.generation.base import Generation, SamplingParams
from opcod.generation.policy import Policy
from opcod.students.ema import ExponentialAverage
from opcod.students.loading import load_student
from opcod.training.micro_batch_size import MicroBatchSize
from opcod.training.optimizer import Optimizer
from opcod.training.step import Tutee, Tutoring, run_step
from opcod.training.update import Learner
from opcod.types import Question, Verification
from tests.unit.students.tiny_models import make_tokenizer, save_model

STEPS = 3
IN_LOSS = 4 + 3
"""All four rollouts of the first question have another's solution, three of the second (its only success has none), none of the third."""
ROLLOUTS = 4
LEARNING_RATE = 1e-3
QUESTIONS = ["How many?", "What is the longest word here, and why is it so long?", "Why?"]


def is_right(text: str) -> bool:
    return text.startswith("yes")


def rollouts() -> dict[str, list[list[list[int]]]]:
    """Question -> step -> n responses as token ids: two right ones, a single one, none. Lengths differ, one is cut before its end."""
    tokenizer = make_tokenizer()
    made: dict[str, list[list[list[int]]]] = {}
    for place, question in enumerate(QUESTIONS):
        made[question] = []
        for step in range(STEPS):
            second = "yes" if place < 2 else "maybe"
            fourth = "yes, yes" if place < 1 else "I think not"
            texts = [f"no {place} {step}", f"{second} {'very ' * place}{step}", "no", f"{fourth} {question[: step + 3]}"]
            ids: list[list[int]] = [tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in texts]
            ids[0] = ids[0][:-1]
            made[question].append(ids)
    return made


def flat(model: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def peaked_model(folder: Path) -> Path:
    """A random model with weights four times as large: its divergences stand well above rounding."""
    model = AutoModelForCausalLM.from_pretrained(save_model(folder))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
    model.save_pretrained(folder)
    return folder


def by_trl(folder: Path) -> tuple[list[float], Any, Any]:
    given = rollouts()
    losses: list[float] = []

    class Scripted(SDPOTrainer):
        def _generate(self, prompt_ids: list[list[int]]) -> tuple[list[list[int]], list[list[int]]]:
            responses = [response for question in QUESTIONS for response in given[question][self.state.global_step]]
            return prompt_ids, responses

        def compute_loss(self, *arguments: Any, **named: Any) -> Any:
            loss = super().compute_loss(*arguments, **named)  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
            return loss

    trainer = Scripted(
        model=AutoModelForCausalLM.from_pretrained(folder),
        args=SDPOConfig(
            output_dir=str(folder / "out"),
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=len(QUESTIONS) * ROLLOUTS,
            num_generations=ROLLOUTS,
            max_completion_length=64,
            shuffle_dataset=False,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            max_steps=STEPS,
            distillation_mode="topk_logits",
            distillation_topk=100,
            distillation_alpha=0.5,
            distillation_add_tail=True,
            teacher_model_kind="ema",
            teacher_update_rate=0.05,
            success_reward_threshold=0.5,
            remove_thinking_from_demonstration=True,
            reprompt_template="{prompt}{solution}{feedback}Correctly solve the original question.",
            solution_template="\n\nCorrect solution:\n\n{successful_previous_attempt}\n\n",
            chat_template_kwargs={"enable_thinking": False},
            gradient_checkpointing=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": question}]} for question in QUESTIONS]),
        reward_funcs=lambda completions, **_: [float(is_right(turns[0]["content"])) for turns in completions],
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()
    return losses, trainer.model, trainer.teacher_model


class ScriptedEngine:
    """Says what the script says, with the log-probabilities left at zero: the comparison turns importance weights off."""

    def __init__(self, by_prompt: dict[tuple[int, ...], list[list[list[int]]]], end: int) -> None:
        self.by_prompt = by_prompt
        self.end = end
        self.step = -1

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        seed: int,
        batch_size: int,
        share: Sequence[int] | None = None,
    ) -> list[list[Generation]]:
        assert share is None
        self.step += 1
        return [
            [Generation(tuple(ids), (0.0,) * len(ids), ids[-1] == self.end) for ids in self.by_prompt[tuple(prompt)][self.step]]
            for prompt in prompts
        ]


def by_us(folder: Path) -> tuple[list[float], Any, Any]:
    config = parse_config(
        {
            "students": [{"name": name, "model": str(folder)} for name in ("one", "other")],
            "domains": [{"name": "d", "train": "unused", "validation": "unused", "test": "unused"}],
            "method": {"algorithm": "sdpo", "loss": {"aggregation": "sequence_mean", "importance_clip": None}},
            "schedule": {"questions_per_step": len(QUESTIONS)},
            "generation": {"rollouts": ROLLOUTS, "max_response_tokens": 64},
            "optimizer": {"learning_rate": LEARNING_RATE, "warmup_steps": 0, "weight_decay": 0},
            "compute": {"micro_batch_tokens": 700},
        }
    )
    student = load_student(str(folder), device=torch.device("cpu"), dtype=torch.float32)
    policy = Policy(student, batch_size=256)
    questions = [Question(str(place), "d", text, "yes") for place, text in enumerate(QUESTIONS)]
    given = rollouts()
    script = {tuple(policy.question_prompt(question)): given[question.prompt] for question in questions}
    policy.engine = ScriptedEngine(script, policy.end_ids[0])
    teacher = ExponentialAverage(student.model, config.method.teacher.ema_rate)
    learner = Learner(
        model=student.model,
        teacher=teacher,
        optimizer=Optimizer(student.model, config.optimizer),
        pad_id=student.tokenizer.pad_token_id,
        micro_batches=MicroBatchSize(config.compute.known_micro_batch_tokens),
    )
    tutee = Tutee("one", config, policy, learner, questions, {"d": lambda text, answer: Verification(is_right(text), None)})
    losses = []
    for step in range(1, STEPS + 1):
        record = run_step(tutee, Tutoring(), round=1, step=step, measure_breaks=False)
        losses.append(record.metrics["one/train/loss"])
    return losses, student.model, teacher.model


@pytest.mark.filterwarnings("ignore")
def test_three_steps_end_in_the_same_student_and_self_teacher(tmp_path: Path) -> None:
    folder = peaked_model(tmp_path / "model")
    before = flat(AutoModelForCausalLM.from_pretrained(folder))
    their_losses, their_student, their_teacher = by_trl(folder)
    our_losses, our_student, our_teacher = by_us(folder)

    # trl's mean counts the masked rollouts as zeros, ours leaves them out; Adam does not see the constant factor.
    share = IN_LOSS / (len(QUESTIONS) * ROLLOUTS)
    assert [share * loss for loss in our_losses] == pytest.approx(their_losses, rel=1e-4)
    moved = (flat(our_student) - before).abs().mean()
    assert moved > LEARNING_RATE / 2
    assert (flat(our_student) - flat(their_student)).abs().mean() < 1e-3 * moved
    assert (flat(our_teacher) - flat(their_teacher)).abs().mean() < 1e-3 * (flat(our_teacher) - before).abs().mean()
