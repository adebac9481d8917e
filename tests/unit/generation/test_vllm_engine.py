"""vLLM within the process: what it samples from is always the model as it is now, and it holds the GPU only while it samples."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from opcod.config import AdaptersConfig
from opcod.errors import ConfigError, ModelError, ResourceError, UserError
from opcod.generation import vllm
from opcod.generation.base import SamplingParams
from opcod.generation.transformers import TransformersEngine
from opcod.generation.vllm import VllmEngine
from opcod.students.lora import add_adapters
from tests.unit.generation import vllm_stand_in
from tests.unit.generation.vllm_stand_in import LLM
from tests.unit.students.tiny_models import make_model, save_model

ENDS = (256,)
PROMPTS = ((5, 6, 7), (9, 8), (5, 6, 7), (3, 4, 5, 6))
GREEDY = SamplingParams(8, temperature=0)
Open = Callable[..., VllmEngine]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens engines for models; the folder that vLLM starts from has other weights than any of them."""
    ref = str(save_model(tmp_path / "model"))

    def make(model: PreTrainedModel, *, ref: str = ref, longest: int = 64, **stand_in: Any) -> VllmEngine:
        if stand_in or not LLM.started:
            vllm_stand_in.install(patch, **stand_in)
        return VllmEngine(model, ref, end_ids=ENDS, memory_fraction=0.3, longest=longest, sequences=4)

    with pytest.MonkeyPatch.context() as patch:
        LLM.started.clear()
        yield make


def said(engine: VllmEngine | TransformersEngine) -> list[tuple[int, ...]]:
    return [one.token_ids for (one,) in engine.generate(PROMPTS, GREEDY, seed=0, batch_size=4)]


def truly(model: PreTrainedModel) -> list[tuple[int, ...]]:
    return said(TransformersEngine(model, end_ids=ENDS, pad_id=256))


def shake(model: PreTrainedModel) -> None:
    """An update, and a large one."""
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.3)


@pytest.mark.parametrize("adapters", [None, AdaptersConfig(rank=2)], ids=["full", "lora"])
def test_an_update_is_there_with_the_next_prompts(opened: Open, adapters: AdaptersConfig | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "LEAST_BUFFER_BYTES", 1)  # as many pieces as a large model's
    model = make_model(seed=1)
    model = add_adapters(model, adapters) if adapters else model
    engine = opened(model)
    before = said(engine)
    assert before == truly(model)
    shake(model)
    assert said(engine) == truly(model) != before
    assert len(LLM.started) == 1


def test_it_sleeps_between_uses_and_after_a_failure(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(make_model(seed=1))
    before = said(engine)
    (llm,) = LLM.started
    assert not llm.awake
    with pytest.raises(ValueError, match="longer than"):
        engine.generate([range(100)], GREEDY, seed=0, batch_size=4)
    assert not llm.awake
    assert said(engine) == before


def test_models_of_one_architecture_take_turns_in_one_engine_that_ends_with_the_last(opened: Open, tmp_path: Path) -> None:
    other = str(save_model(tmp_path / "other"))
    models = [make_model(seed=1), make_model(seed=2)]
    engines = [opened(models[0]), opened(models[1], ref=other)]
    assert [said(engine) for engine in [*engines, *engines]] == [truly(model) for model in [*models, *models]]
    assert len(LLM.started) == 1
    said(opened(make_model("llama", seed=1), ref=str(save_model(tmp_path / "llama", "llama"))))
    assert len(LLM.started) == 2
    del engines
    gc.collect()
    assert not vllm._started


def test_the_longest_sequence_is_no_longer_than_the_model_has_positions(opened: Open) -> None:
    said(opened(make_model(seed=1), longest=100_000))
    assert LLM.started[0].arguments["max_model_len"] == 256


def test_each_response_has_a_seed_of_its_own(opened: Open) -> None:
    made = opened(make_model(seed=1)).generate([(5, 6, 7)] * 3, SamplingParams(12, n=4), seed=2**31 - 6, batch_size=4)
    assert len({one.token_ids for group in made for one in group}) == 12


@pytest.mark.parametrize(
    ("stand_in", "kind", "message"),
    [
        ({"release": "0.33.0"}, ConfigError, r"vLLM 0\.33\.0 is installed.*0\.30.*pip install 'opcod-studio\[vllm\]'"),
        ({"cuda": False}, ResourceError, "CUDA GPU"),
    ],
)
def test_what_is_missing_is_said_at_once(opened: Open, stand_in: dict[str, Any], kind: type[UserError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        opened(make_model(), **stand_in)
    assert caught.value.field == "compute.engine"


def test_without_vllm_one_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not installed.*pip install 'opcod-studio\[vllm\]'"):
        VllmEngine(make_model(), str(tmp_path), end_ids=ENDS, memory_fraction=0.3, longest=64, sequences=4)


def test_weights_that_vllm_would_not_know_are_refused(opened: Open) -> None:
    model: Any = make_model()
    model._weight_conversions = ["experts in one tensor"]
    with pytest.raises(ModelError, match="arranged otherwise"):
        opened(model)


def test_a_start_that_fails_says_what_to_lower(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(make_model(seed=1))
    monkeypatch.setattr(LLM, "fault", RuntimeError("Engine core initialization failed.\nSee root cause above."))
    with pytest.raises(ResourceError, match=r"Engine core initialization failed\. .*lower compute\.vllm_memory_fraction"):
        said(engine)


def test_the_stand_in_takes_no_argument_that_vllm_does_not_have(opened: Open, tmp_path: Path) -> None:
    opened(make_model())
    with pytest.raises(TypeError, match="memory_fraction"):
        LLM(str(tmp_path), memory_fraction=0.3)
    with pytest.raises(TypeError, match="max_new_tokens"):
        vllm_stand_in.SamplingParams(max_new_tokens=3)  # type: ignore[call-arg]
    said(engine := opened(make_model(seed=1)))
    assert engine._opened is not None
    with pytest.raises(ValueError, match="unexpected"):
        engine._opened[0].init_weight_transfer_engine({"packed": True, "buffer": 3})
