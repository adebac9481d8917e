"""Responses scored in padded batches give what each row gives alone, unpadded, token by token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from opcod.distillation.scoring import length_groups, pad, response_logits
from tests.unit.students.tiny_models import FAMILIES, make_model

CPU = torch.device("cpu")
PROMPTS = [[5], [7, 11, 13, 17, 19, 23], [2, 3], [31, 37, 41]]
RESPONSES = [[40, 41, 42, 43, 256], [9, 256], [256], [50, 51, 52]]


def alone(model: PreTrainedModel, prompt: list[int], response: list[int]) -> Tensor:
    """Logits [T, V] that predict each response token, from an unpadded row: token t stands at len(prompt) + t, predicted one before."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0]
    return torch.stack([logits[len(prompt) + t - 1] for t in range(len(response))])


@pytest.mark.parametrize("pad_id", [0, 256])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_token_is_predicted_as_it_is_in_its_row_alone(family: str, pad_id: int) -> None:
    model = make_model(family)
    batch = pad(PROMPTS, RESPONSES, pad_id=pad_id, device=CPU)
    with torch.no_grad():
        logits = response_logits(model, batch)
    assert logits.shape[:2] == batch.responses.shape
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        torch.testing.assert_close(logits[row, : len(response)], alone(model, prompt, response), atol=1e-5, rtol=1e-4)


def test_one_response_after_two_prompts_lines_up_by_response_position() -> None:
    """A model whose next token hangs on the token before alone: the prompt's length must not move anything but the first."""

    class Successor(torch.nn.Module):
        def forward(self, input_ids: Tensor, logits_to_keep: int) -> object:
            logits = torch.nn.functional.one_hot((input_ids + 1) % 64, 64).float()[:, -logits_to_keep:]
            return type("Output", (), {"logits": logits})

    response = [10, 11, 12, 13]
    batch = pad([[9], [1, 2, 3, 9]], [response, response], pad_id=0, device=CPU)
    predicted = response_logits(Successor(), batch).argmax(-1)
    assert predicted.tolist() == [response, response]


@given(
    rows=st.lists(
        st.tuples(st.lists(st.integers(0, 20), min_size=1, max_size=9), st.lists(st.integers(0, 20), min_size=1, max_size=9)), min_size=1
    ),
    pad_id=st.integers(0, 20),
)
def test_padding_keeps_every_token_and_masks_every_other(rows: list[tuple[list[int], list[int]]], pad_id: int) -> None:
    """Also where the padding token occurs among the real ones, as an end-of-turn token often does."""
    prompts, responses = [prompt for prompt, _ in rows], [response for _, response in rows]
    batch = pad(prompts, responses, pad_id=pad_id, device=CPU)
    for row, (prompt, response) in enumerate(rows):
        assert batch.input_ids[row][batch.attention_mask[row].bool()].tolist() == prompt + response
        assert batch.responses[row][batch.response_mask[row]].tolist() == response
        assert batch.position_ids[row][batch.attention_mask[row].bool()].tolist() == list(range(len(prompt + response)))
    assert int(batch.response_mask.sum()) == sum(map(len, responses))


def test_an_end_of_turn_token_that_is_also_the_padding_token_is_scored_once() -> None:
    batch = pad([[1], [1]], [[5, 256], [5, 6, 7, 256]], pad_id=256, device=CPU)
    assert batch.response_mask.tolist() == [[True, True, False, False], [True, True, True, True]]


@given(
    lengths=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=40),
    limit=st.integers(1, 600),
)
def test_length_groups_hold_each_row_once_and_stay_within_the_limit(lengths: list[tuple[int, int]], limit: int) -> None:
    prompts, responses = [prompt for prompt, _ in lengths], [response for _, response in lengths]
    groups = list(length_groups(prompts, responses, max_tokens=limit))
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        padded = len(group) * (max(prompts[row] for row in group) + max(responses[row] for row in group))
        assert len(group) == 1 or padded <= limit
