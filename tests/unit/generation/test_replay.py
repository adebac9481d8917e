"""Recorded passes say what passes say: whoever leaves, enters, shares or runs out of memory meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import chain

import pytest
import torch

from opcod.generation.base import Generation, SamplingParams
from opcod.generation.replay import CudaRecorder, Recorder, ReplayedRows
from opcod.generation.transformers import TransformersEngine
from opcod.stopwatch import Stopwatch, measuring
from tests.tape import TapeRecorder
from tests.unit.students.tiny_models import FAMILIES, make_model

BEGINNING = list(range(60, 90))
PROMPTS = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10], [5, 6, 7], *([*BEGINNING, *range(rest)] for rest in (1, 4, 2)), [200] * 13]
ENDS = tuple(range(8))
RECORDED = ("qwen3", "llama")


class Recorders:
    """Makes a recorder for every `generate`."""

    def __init__(self, kind: Callable[[], TapeRecorder] = TapeRecorder) -> None:
        self.kind = kind
        self.made: list[TapeRecorder] = []

    def __call__(self) -> Recorder:
        self.made.append(self.kind())
        return self.made[-1]

    @property
    def replays(self) -> int:
        return sum(one.replays for one in self.made)


def engine(family: str, recorder: Callable[[], Recorder] | None = None, ends: tuple[int, ...] = ENDS) -> TransformersEngine:
    return TransformersEngine(make_model(family), end_ids=ends, pad_id=256, recorder=recorder)


def tokens(made: list[list[Generation]]) -> list[tuple[int, ...]]:
    return [one.token_ids for one in chain(*made)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("params", "batch_size"),
    [
        (SamplingParams(150, temperature=0), 64),
        (SamplingParams(150, n=3), 64),
        (SamplingParams(150, n=3), 7),
        (SamplingParams(100, top_p=0.8, n=4), 64),
    ],
)
def test_a_recorded_batch_says_what_it_says_unrecorded(family: str, params: SamplingParams, batch_size: int) -> None:
    """Rows end at different tokens, some prompts are equal or begin alike, and in a small batch some wait."""
    recorders = Recorders()
    plain = engine(family).generate(PROMPTS, params, seed=6, batch_size=batch_size)
    recorded = engine(family, recorders).generate(PROMPTS, params, seed=6, batch_size=batch_size)
    assert tokens(recorded) == tokens(plain)
    assert [one.finished for one in chain(*recorded)] == [one.finished for one in chain(*plain)]
    for mine, theirs in zip(chain(*recorded), chain(*plain), strict=True):
        torch.testing.assert_close(torch.tensor(mine.log_probs), torch.tensor(theirs.log_probs), atol=1e-4, rtol=1e-4)
    assert (recorders.replays > 0) == (family in RECORDED)


def test_most_passes_are_replayed_and_only_those_of_tokens_that_are_kept_count_as_work() -> None:
    params, recorders = SamplingParams(100, n=4), Recorders()
    with measuring(Stopwatch()) as stopwatch:
        made = engine("qwen3", recorders).generate(PROMPTS, params, seed=6, batch_size=64)
    decoding = stopwatch.whole.parts["decode"]
    lengths = [len(said) for said in tokens(made)]
    assert len(set(lengths)) > 5
    assert decoding.tokens == sum(length - 1 for length in lengths)
    assert 0 < decoding.padding < decoding.tokens / 4
    assert recorders.replays > 0.7 * max(lengths)


class Forgetful(TapeRecorder):
    """Its recordings do nothing."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        super().record(work)
        return lambda: None


class Unable(TapeRecorder):
    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.replays += 1
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("kind", [Forgetful, Unable])
def test_what_cannot_be_recorded_is_computed_instead_and_not_tried_again(
    kind: Callable[[], TapeRecorder], caplog: pytest.LogCaptureFixture
) -> None:
    params, recorders = SamplingParams(40, n=3), Recorders(kind)
    plain = engine("qwen3").generate(PROMPTS, params, seed=6, batch_size=64)
    ours = engine("qwen3", recorders)
    with caplog.at_level(logging.WARNING, "opcod.generation.replay"):
        assert tokens(ours.generate(PROMPTS, params, seed=6, batch_size=64)) == tokens(plain)
        assert tokens(ours.generate(PROMPTS, params, seed=6, batch_size=64)) == tokens(plain)
    assert len(recorders.made) == len(caplog.messages) == 1
    assert "can't be recorded" in caplog.text


def test_memory_that_runs_out_between_recorded_tokens_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    params = SamplingParams(40, n=3)
    plain = engine("qwen3").generate(PROMPTS, params, seed=6, batch_size=64)
    extend, rows = ReplayedRows.extend, []

    def short_of_memory(self: ReplayedRows, said: torch.Tensor) -> None:
        rows.append(len(said))
        if len(rows) > 12 and len(said) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        extend(self, said)

    monkeypatch.setattr(ReplayedRows, "extend", short_of_memory)
    assert tokens(engine("qwen3", Recorders()).generate(PROMPTS, params, seed=6, batch_size=64)) == tokens(plain)
    assert max(rows) > 8 >= rows[-1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", RECORDED)
def test_cuda_graphs_say_what_the_device_says_without(family: str, caplog: pytest.LogCaptureFixture) -> None:
    made = []
    for record in (False, True):
        ours = engine(family)
        ours.model.to("cuda")  # type: ignore[arg-type]
        if record:
            ours = TransformersEngine(ours.model, end_ids=ENDS, pad_id=256, recorder=lambda: CudaRecorder(torch.device("cuda")))
        made.append(tokens(ours.generate(PROMPTS, SamplingParams(150, 0, n=1), seed=6, batch_size=64)))
    assert made[0] == made[1]
    assert not caplog.messages
