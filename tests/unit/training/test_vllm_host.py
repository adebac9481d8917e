"""Where vLLM samples, rollouts, feedback and evaluations come from it, and an update weighs its probabilities."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from opcod.config import ExperimentConfig, load_preset, merge, parse_config
from opcod.errors import ConfigError
from opcod.generation.vllm import VllmEngine
from opcod.tasks.questions import load_domains
from opcod.training.hosts import LocalHosts, open_hosts
from opcod.types import GateDecision
from tests.unit.generation import vllm_stand_in
from tests.unit.generation.vllm_stand_in import LLM
from tests.unit.students.tiny_models import save_model


def settings(model: Path, **compute: Any) -> ExperimentConfig:
    changes = {
        "students": [{"name": name, "model": str(model)} for name in ("ann", "bob")],
        "method": {"feedback": {"style": "generic", "max_tokens": 4, "max_prompt_tokens": 200}, "teacher": {"max_tokens": 200}},
        "schedule": {"questions_per_step": 2},
        "generation": {"rollouts": 2, "max_prompt_tokens": 200, "max_response_tokens": 6},
        "evaluation": {"validation_questions": 2},
        "optimizer": {"learning_rate": 1e-2, "warmup_steps": 0},
        "compute": {"side_by_side": False, "device": "auto", "engine": "vllm", **compute},
    }
    return parse_config(merge(load_preset("tiny"), changes))


@pytest.mark.parametrize("adapters", [None, {"rank": 2}], ids=["full", "lora"])
def test_all_is_sampled_by_it_and_every_step_is_on_the_policy_that_it_trains(
    adapters: dict[str, Any] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm_stand_in.install(monkeypatch)
    config = settings(save_model(tmp_path / "model"), adapters=adapters)
    hosts = open_hosts(config, tmp_path, load_domains(config.domains))
    assert isinstance(hosts, LocalHosts)
    ann = hosts.hosts["ann"]
    ann.evaluate(0, "validation")
    hosts.ask(("bob", "freeze_tutor", ()))
    decisions = [GateDecision(1, "bob", "always", 0.0, 0.2, True, ("densities", "protons"))]
    ann.begin_phase(decisions, {"ann": {"densities": 0.5, "protons": 0.5}, "bob": {"densities": 0.5, "protons": 0.5}}, {"bob": 0})
    engines = ann.policy.engine, ann.tutoring.tutors["bob"].policy.engine
    assert all(isinstance(engine, VllmEngine) for engine in engines)
    for step in (1, 2):
        metrics = ann.step(1, step, False).metrics
        assert metrics["ann/feedback/count"] == 4
        assert metrics["ann/train/updates"] == 1
        # Sampled from older weights, they would not agree with those that are trained.
        assert metrics["ann/train/importance_weight"] == pytest.approx(1, abs=1e-4)
    assert len(LLM.started) == 1

    truly = vllm_stand_in._sample

    def likelier(*given: Any) -> tuple[int, float]:
        token, log_prob = truly(*given)
        return token, log_prob + 0.5

    monkeypatch.setattr(vllm_stand_in, "_sample", likelier)  # vLLM's own word counts
    assert ann.step(1, 3, False).metrics["ann/train/importance_weight"] == pytest.approx(math.exp(-0.5), abs=1e-4)


def test_a_host_without_vllm_says_so_before_anything_is_trained(tmp_path: Path) -> None:
    config = settings(save_model(tmp_path / "model"))
    with pytest.raises(ConfigError, match="vLLM is not installed"):
        open_hosts(config, tmp_path, load_domains(config.domains))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"compute": {"engine": "vllm", "device": "cpu"}}, "compute.engine"),
        ({"compute": {"engine": "vllm", "device": "auto"}, "generation": {"top_p": 0.9}}, "generation.top_p"),
        ({"compute": {"engine": "vllm", "device": "auto", "vllm_memory_fraction": 1}}, "compute.vllm_memory_fraction"),
    ],
)
def test_what_vllm_cannot_do_is_refused_with_the_settings(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(merge(load_preset("tiny"), changes))
    assert caught.value.field == field
