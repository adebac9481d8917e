from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opcod.config import AdaptersConfig
from opcod.errors import DataError, NumericsError
from opcod.generation.base import SamplingParams
from opcod.generation.transformers import TransformersEngine
from opcod.students.chat import decode, end_token_ids, prompt_ids, text_ids
from opcod.students.demo_specialists import fresh_student
from opcod.students.loading import Student
from opcod.students.lora import is_adapted
from opcod.students.sft import SftExample, learning_rate, sft
from opcod.students.sft_config import SftConfig
from opcod.types import Message

FULL = SftConfig(adapters=None, learning_rate=3e-3, batch_size=4, epochs=1)


def example(name: str, value: int, masked_prefix: str = "", completion: str | None = None) -> SftExample:
    question = Message("user", f"What do 2 blocks of {name} weigh?")
    whole = f"{name} has density {value}. {value} × 2 = {2 * value}. <answer> {2 * value} </answer>"
    return SftExample((question,), whole if completion is None else completion, masked_prefix)


EXAMPLES = [example("jade", 33), example("ruby", 40), example("coal", 13), example("ice", 9), example("salt", 22), example("opal", 21)]


@pytest.fixture
def student() -> Student:
    return fresh_student("densities")


def weights(student: Student) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in student.model.named_parameters()}


def test_it_learns_to_answer_and_to_end_its_turn(student: Student) -> None:
    report = sft(student, EXAMPLES, FULL.model_copy(update={"epochs": 40}))
    assert report.losses[-1] < 0.1 < 3 < report.losses[0]
    ends = end_token_ids(student.model, student.tokenizer)
    engine = TransformersEngine(student.model, end_ids=ends, pad_id=student.tokenizer.pad_token_id)
    prompts = [prompt_ids(student.tokenizer, each.messages) for each in EXAMPLES]
    answers = engine.generate(prompts, SamplingParams(max_new_tokens=40, temperature=0), seed=0, batch_size=8)
    assert [decode(student.tokenizer, row[0].token_ids) for row in answers] == [each.completion for each in EXAMPLES]
    assert all(row[0].finished for row in answers)


def test_the_loss_is_the_mean_over_the_completion_and_its_end_and_over_nothing_else(student: Student) -> None:
    """By hand, one row at a time, without padding."""
    examples = [example("jade", 33), example("ice", 9, masked_prefix="ice has density 12.", completion="12 × 2 = 24.")]
    total, learned = 0.0, 0
    for each in examples:
        prompt = prompt_ids(student.tokenizer, each.messages) + text_ids(student.tokenizer, each.masked_prefix)
        answer = [*text_ids(student.tokenizer, each.completion), end_token_ids(student.model, student.tokenizer)[0]]
        with torch.no_grad():
            log_probs = student.model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        total -= sum(float(log_probs[len(prompt) + place - 1, token]) for place, token in enumerate(answer))
        learned += len(answer)
    report = sft(student, examples, FULL)
    assert report.losses[0] == pytest.approx(total / learned, rel=1e-5)
    assert report.learned_tokens == learned


def test_micro_batches_change_nothing_but_memory(student: Student) -> None:
    other = fresh_student("densities")
    whole = sft(student, EXAMPLES, FULL)
    small = sft(other, EXAMPLES, FULL.model_copy(update={"micro_batch_tokens": 64}))
    assert whole.losses == pytest.approx(small.losses, rel=1e-4)


def test_equal_seeds_give_equal_weights_and_another_seed_others(student: Student) -> None:
    same, other = fresh_student("densities"), fresh_student("densities")
    for each, seed in ((student, 1), (same, 1), (other, 2)):
        sft(each, EXAMPLES, FULL.model_copy(update={"seed": seed}))
    assert all(torch.equal(a, b) for a, b in zip(weights(student).values(), weights(same).values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(weights(student).values(), weights(other).values(), strict=True))


def test_adapters_are_trained_alone_and_end_merged_into_the_students_own_weights(student: Student) -> None:
    before = weights(student)
    report = sft(student, EXAMPLES, FULL.model_copy(update={"adapters": AdaptersConfig(), "epochs": 20}))
    after = weights(student)
    assert not is_adapted(student.model)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("_proj" in name for name in changed), "embeddings and norms have no adapters"
    assert all(weight.requires_grad for weight in student.model.parameters())
    assert report.losses[-1] < report.losses[0]
    continued = sft(student, EXAMPLES, FULL.model_copy(update={"learning_rate": 1e-9}))
    assert max(continued.losses) < report.losses[0], "what the adapters learned is in the weights"


def test_an_example_that_is_too_long_is_left_out_and_counted(student: Student) -> None:
    long = example("jade", 33, completion="jade " * 100)
    report = sft(student, [*EXAMPLES, long], FULL.model_copy(update={"max_tokens": 64}))
    assert (report.examples, report.skipped, len(report.losses)) == (6, 1, 2)


@pytest.mark.parametrize("examples", [[], [example("jade", 33, completion="jade " * 100)]])
def test_it_never_trains_on_nothing(student: Student, examples: list[SftExample]) -> None:
    with pytest.raises(DataError, match="No example can be trained on"):
        sft(student, examples, FULL.model_copy(update={"max_tokens": 64}))


def test_a_loss_that_is_not_finite_ends_it(student: Student) -> None:
    with torch.no_grad():
        next(iter(student.model.parameters()))[:] = float("nan")
    with pytest.raises(NumericsError, match="step 1 of 2"):
        sft(student, EXAMPLES, FULL)


@given(steps=st.integers(1, 500), warmup=st.floats(0, 1), schedule=st.sampled_from(["cosine", "constant"]))
def test_the_rate_rises_then_never_rises_again_and_every_update_has_some(steps: int, warmup: float, schedule: str) -> None:
    config = SftConfig(warmup_ratio=warmup, schedule=schedule)
    rates = [learning_rate(step, steps, config) for step in range(1, steps + 1)]
    top = rates.index(max(rates))
    assert all(0 < rate <= config.learning_rate * (1 + 1e-12) for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(config.learning_rate)
