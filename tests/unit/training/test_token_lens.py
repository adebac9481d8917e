"""The token lens shows what the update worked on, and changes nothing of it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opcod.distillation import loss as loss_module
from opcod.distillation.divergence import jensen_shannon
from opcod.distillation.lens import LEAST_PROBABILITY, Lens, TokenView
from opcod.distillation.loss import importance_weights, score_distillation
from opcod.distillation.readout import Readout
from opcod.events import EVENT, ExchangeRecorded
from opcod.students.demo_specialists import make_tokenizer as make_demo_tokenizer
from opcod.students.pieces import TokenPieces
from opcod.training.step import StepRecord, Tutoring, run_step
from opcod.types import Exchange, TokenLens
from tests.unit.students.tiny_models import make_tokenizer
from tests.unit.training.small_world import RIGHT, WRONG, config, tutee, tutoring, weights


def answer(place: int, index: int) -> str:
    return f"weg {index} → 🙂 {RIGHT if index == 0 else WRONG}"


def step(**recording: int | None) -> tuple[StepRecord, dict[str, torch.Tensor]]:
    made = tutee(answer, config(recording=recording, optimizer={"mini_batch_questions": 2}))
    record = run_step(made, tutoring(lambda place, index: "<concept>force</concept> Look again."), round=1, step=1, measure_breaks=False)
    return record, weights(made)


def lens_of(exchange: Exchange) -> TokenLens:
    assert exchange.lens is not None
    return exchange.lens


def test_looking_changes_nothing_that_is_trained() -> None:
    (blind, blind_weights), (seeing, seen_weights) = step(token_questions=0), step(token_questions=None)
    assert all(torch.equal(blind_weights[name], weight) for name, weight in seen_weights.items())
    timed = ("timing_s", "throughput", "memory")
    assert [(k, v) for k, v in blind.metrics.items() if not any(word in k for word in timed)] == [
        (k, v) for k, v in seeing.metrics.items() if not any(word in k for word in timed)
    ]
    assert all(exchange.lens is None for exchange in blind.exchanges)
    assert [exchange.divergence_max for exchange in blind.exchanges] == [exchange.divergence_max for exchange in seeing.exchanges]


def test_it_tells_of_every_token_what_the_loss_saw() -> None:
    record, _ = step(token_questions=None)
    for exchange in record.exchanges:
        lens = lens_of(exchange)
        assert len(lens.tokens) == exchange.rollout.tokens
        assert "".join(lens.pieces[token] for token in lens.tokens) == exchange.rollout.text + "<|im_end|>"
        assert lens.mask == (True,) * len(lens.tokens)
        assert lens.teacher is not None
        assert lens.divergence is not None
        assert lens.weight is not None
        assert lens.alternatives is not None
        assert max(lens.divergence) == pytest.approx(exchange.divergence_max, abs=1e-5)
        assert sum(lens.divergence) / len(lens.tokens) == pytest.approx(exchange.divergence_mean, abs=1e-5)
        for token, student, teacher, weight, seen in zip(
            lens.tokens, lens.student, lens.teacher, lens.weight, lens.alternatives, strict=True
        ):
            assert weight == pytest.approx(min(2.0, math.exp(student + 3.0)), abs=2e-3)  # the scripted policy reports -3
            assert 1 <= len(seen) <= 10
            assert [chance for _, _, chance in seen] == sorted((chance for _, _, chance in seen), reverse=True)
            for place, p, q in seen:
                assert max(p, q) >= LEAST_PROBABILITY
                if place == token and lens.pieces[token] != "":
                    assert p == pytest.approx(math.exp(student), abs=1e-3)
                    assert q == pytest.approx(math.exp(teacher), abs=1e-3)


def test_the_first_questions_of_a_step_are_looked_at() -> None:
    record, _ = step(token_questions=1)
    assert [exchange.lens is not None for exchange in record.exchanges] == [exchange.group == 0 for exchange in record.exchanges]


def test_a_rollout_outside_the_loss_has_no_teacher_to_tell_of() -> None:
    made = tutee(answer, config(recording={"token_questions": None}))
    record = run_step(made, Tutoring(), round=1, step=1, measure_breaks=False)
    (masked, *_) = [exchange for exchange in record.exchanges if not exchange.in_loss]
    lens = lens_of(masked)
    assert (lens.teacher, lens.divergence, lens.weight, lens.alternatives) == (None, None, None, None)
    assert set(lens.student) == {-3.0}
    assert not any(lens.mask)


def test_it_survives_the_event_as_json() -> None:
    record, _ = step(token_questions=1)
    event = ExchangeRecorded(seq=1, exchange=record.exchanges[0])
    assert EVENT.validate_json(event.model_dump_json()) == event


def views(
    student: torch.Tensor,
    teacher: torch.Tensor,
    responses: list[list[int]],
    alternatives: list[int | None],
    *,
    chunk: int,
    temperature: float = 1.0,
    top_k: int | None = 100,
) -> list[TokenView | None]:
    """What the lens sees of these logits while the loss goes by them in chunks of so many; the sampler's log-probabilities were all -2."""
    lens = Lens(responses, alternatives)
    sampled = torch.tensor([token for response in responses for token in response])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_module, "CHUNK_LOGITS", chunk)
        how = {"temperature": temperature, "alpha": 0.5, "top_k": top_k, "tail_bucket": True, "observe": lens}
        scores = score_distillation(Readout(student), Readout(teacher), sampled, **how)  # type: ignore[arg-type]
    return lens.views(scores.divergence, importance_weights(scores.log_probs, torch.full((len(sampled),), -2.0), clip=2.0))


@pytest.mark.parametrize("chunk", [1, 2**25])
def test_alternatives_are_the_likeliest_of_both_and_impossible_tokens_are_told_in_numbers(chunk: int) -> None:
    student, teacher = torch.full((5, 8), -50.0), torch.full((5, 8), -50.0)
    student[:, 1], teacher[:, 2], teacher[:, 3] = 0.0, 1.0, 0.0
    student[:, 7] = -math.inf
    student[2], teacher[2] = 9.0, -9.0  # of the response that is not looked at
    teacher[4, 5] = 20.0
    whole, unseen, bare, third = views(student, teacher, [[1, 7], [4], [7], [5]], [2, None, 0, 2], chunk=chunk)
    assert whole is not None
    assert bare is not None
    assert third is not None
    assert unseen is None
    assert [[token for token, _, _ in seen] for seen in whole.alternatives] == [[2, 3, 1], [2, 3, 1]]
    assert whole.student == (0.0, -100.0)
    assert whole.weight == (2.0, 0.0)
    assert (bare.student, bare.alternatives) == ((-100.0,), ((),))
    assert (third.student, third.teacher, third.alternatives) == ((-50.0,), (0.0,), (((5, 0.0, 1.0), (1, 1.0, 0.0)),))


@given(
    seed=st.integers(0, 2**32 - 1),
    asked=st.lists(st.tuples(st.integers(1, 4), st.sampled_from([None, 0, 1, 3, 50])), min_size=1, max_size=6),
    vocabulary=st.integers(2, 40),
    chunk=st.integers(1, 400),
    top_k=st.sampled_from([1, 4, 100, None]),
    temperature=st.sampled_from([1.0, 0.7, 2.5]),
)
def test_what_is_taken_from_the_losss_chunks_is_the_plain_computation(
    seed: int, asked: list[tuple[int, int | None]], vocabulary: int, chunk: int, top_k: int | None, temperature: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    tokens = sum(length for length, _ in asked)
    student, teacher = (4 * torch.randn((tokens, vocabulary), generator=draw) for _ in range(2))
    sampled = torch.randint(vocabulary, (tokens,), generator=draw)
    responses = [each.tolist() for each in sampled.split([length for length, _ in asked])]
    found = views(student, teacher, responses, [count for _, count in asked], chunk=chunk, temperature=temperature, top_k=top_k)
    p, q = ((each / temperature).log_softmax(-1) for each in (student, teacher))
    divergence = jensen_shannon(student / temperature, teacher / temperature, top_k=top_k)
    weights = (p.gather(-1, sampled.unsqueeze(-1)).squeeze(-1) + 2.0).exp().clamp(max=2.0)
    start = 0
    for view, response, (length, count) in zip(found, responses, asked, strict=True):
        rows = slice(start, start := start + length)
        assert (view is None) == (count is None)
        if view is None or count is None:
            continue
        for column, log_probs in ((view.student, p), (view.teacher, q)):
            assert column == pytest.approx([float(row[token]) for row, token in zip(log_probs[rows], response, strict=True)], abs=6e-4)
        assert view.divergence == pytest.approx(divergence[rows].tolist(), abs=2e-5)
        assert view.weight == pytest.approx(weights[rows].tolist(), abs=6e-4)
        for column, decimals in ((view.student, 3), (view.teacher, 3), (view.divergence, 5), (view.weight, 3)):
            assert [round(value, decimals) for value in column] == [*column]
        for seen, here, there in zip(view.alternatives, p[rows].exp(), q[rows].exp(), strict=True):
            likely = {token for each in (here, there) for token in each.topk(min(count, vocabulary)).indices.tolist()}
            shown = {token: (student, teacher) for token, student, teacher in seen}
            assert len(shown) == len(seen)
            assert shown.keys() <= likely
            for token in likely:
                student_says, teacher_says = float(here[token]), float(there[token])
                if token in shown:
                    assert shown[token] == pytest.approx((student_says, teacher_says), abs=6e-5)
                else:
                    assert max(student_says, teacher_says) < LEAST_PROBABILITY
            assert [*seen] == sorted(seen, key=lambda one: (-one[2], -one[1], one[0]))


@pytest.mark.parametrize("text", ["héllo 🙂🙂 wörld\n\n", "漢字"])
def test_pieces_of_bytes_make_up_the_text(text: str) -> None:
    tokenizer = make_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = TokenPieces(tokenizer).split(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text


def test_bytes_that_are_no_character_are_shown_as_such() -> None:
    pieces = TokenPieces(make_tokenizer()).split([160, 65, 161, 162])
    assert len(pieces) == 4
    assert "\ufffd" in "".join(pieces)


def test_pieces_of_words_keep_their_spaces() -> None:
    tokenizer = make_demo_tokenizer()
    ids = tokenizer("iron is 8 + 3 = 11 .")["input_ids"]
    assert "".join(TokenPieces(tokenizer).split(ids)).strip() == tokenizer.decode(ids)
