"""Students that differ in their adapters alone share the rest: to the bit as separate copies, in little more than one model's memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from opcod.config import ExperimentConfig, load_preset, merge, parse_config
from opcod.students.bases import Bases
from opcod.students.loading import Student, load_student
from opcod.students.lora import trainable_state
from opcod.tasks.questions import load_domains
from opcod.training.hosts import LocalHosts, open_hosts
from opcod.training.student_host import StudentHost
from opcod.types import GateDecision
from tests.unit.students.tiny_models import make_tokenizer, save_model

PAIR = ("ann", "bob")
LORA = {"rank": 1, "dropout": 0.1}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama whose adapters are small beside it."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    size: Any = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
    LlamaForCausalLM(
        LlamaConfig(vocab_size=288, bos_token_id=None, eos_token_id=256, pad_token_id=256, max_position_embeddings=1024, **size)
    ).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def settings(*models: Path, adapters: Mapping[str, Any] | None = LORA) -> ExperimentConfig:
    """Two students that feedback reaches whatever they say."""
    changes = {
        "students": [{"name": name, "model": str(model)} for name, model in zip(PAIR, models, strict=True)],
        "method": {"feedback": {"style": "generic", "max_tokens": 4, "max_prompt_tokens": 500}, "teacher": {"max_tokens": 500}},
        "schedule": {"questions_per_step": 2},
        "generation": {"rollouts": 2, "max_prompt_tokens": 500, "max_response_tokens": 6},
        "optimizer": {"learning_rate": 1e-2, "warmup_steps": 0},
        "compute": {"side_by_side": False, "adapters": adapters},
    }
    return parse_config(merge(load_preset("tiny"), changes))


@dataclass
class Done:
    """What two steps of each student came to, and the hosts as the second one's phase left them."""

    hosts: dict[str, StudentHost]
    metrics: list[dict[str, float]]
    weights: dict[str, dict[str, Tensor]]
    exports: dict[str, bytes]


def two_phases(config: ExperimentConfig, folder: Path) -> Done:
    decisions = [GateDecision(1, name, "always", 0.0, 0.2, True, ("densities", "protons")) for name in PAIR]
    scores = {name: {"densities": 0.5, "protons": 0.5} for name in PAIR}
    hosts = open_hosts(config, folder, load_domains(config.domains))
    assert isinstance(hosts, LocalHosts)
    hosts.ask(*((name, "freeze_tutor", ()) for name in PAIR))
    metrics = []
    for name, peer in zip(PAIR, reversed(PAIR), strict=True):
        hosts.ask((name, "begin_phase", (decisions, scores, {peer: 0})))
        metrics += [hosts.ask((name, "step", (1, step, False)))[0].metrics for step in (1, 2)]
    exports = {name: folder / hosts.ask((name, "export", ()))[0] / "model.safetensors" for name in PAIR}
    weights = {name: trainable_state(host.student.model) for name, host in hosts.hosts.items()}
    return Done(hosts.hosts, [_repeatable(one) for one in metrics], weights, {name: file.read_bytes() for name, file in exports.items()})


def _repeatable(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not any(part in name for part in ("timing_s/", "throughput/", "memory/"))}


def models(host: StudentHost) -> Iterator[nn.Module]:
    """All that a student runs: itself, its self-teacher, its frozen tutors."""
    assert host.teacher is not None
    yield from (host.student.model, host.teacher.model, *(tutor.policy.student.model for tutor in host.tutoring.tutors.values()))


def bytes_held(hosts: Mapping[str, StudentHost]) -> int:
    """Of weights, buffers, averages and moments, each storage once."""
    held: list[Tensor] = []
    for host in hosts.values():
        held += chain.from_iterable((*model.parameters(), *model.buffers()) for model in models(host))
        held += [*host.teacher._average.values()] if host.teacher else []
        held += [*host.optimizer._masters.values()]
        held += [value for state in host.optimizer._adamw.state.values() for value in state.values() if isinstance(value, Tensor)]
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}.values())


def frozen(model: nn.Module) -> dict[str, Tensor]:
    return {name.replace(".base_layer", ""): weight for name, weight in model.named_parameters() if "lora_" not in name}


@pytest.fixture(scope="module")
def shared(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return two_phases(settings(base, base), tmp_path_factory.mktemp("shared"))


def test_a_pair_around_one_base_does_what_separate_copies_do(
    base: Path, shared: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alone(self: Bases, ref: str, **options: Any) -> Student:
        return load_student(ref, **options)

    monkeypatch.setattr(Bases, "student", alone)
    separate = two_phases(settings(base, base), tmp_path)
    assert shared.metrics == separate.metrics
    assert all(one[f"{name}/train/updates"] == 1 for name, one in zip(("ann", "ann", "bob", "bob"), shared.metrics, strict=True))
    assert shared.exports == separate.exports
    for name in PAIR:
        here, there = shared.weights[name], separate.weights[name]
        assert here.keys() == there.keys()
        assert all(torch.equal(here[key], there[key]) for key in there)
    assert any(not torch.equal(weight, shared.weights["bob"][key]) for key, weight in shared.weights["ann"].items())
    assert bytes_held(separate.hosts) > 3.5 * bytes_held(shared.hosts)


def test_it_takes_little_more_memory_than_one_model(base: Path, shared: Done) -> None:
    one = sum(weight.nbytes for weight in load_student(str(base), device=torch.device("cpu"), dtype=torch.float32).model.parameters())
    places = {tuple(weight.data_ptr() for weight in frozen(model).values()) for host in shared.hosts.values() for model in models(host)}
    assert len(places) == 1  # of six models
    assert bytes_held(shared.hosts) < 1.3 * one


def test_the_shared_weights_stay_as_they_were_loaded(base: Path, shared: Done) -> None:
    """After steps, tutoring and exports of both students: no gradient, no write."""
    loaded = dict(load_student(str(base), device=torch.device("cpu"), dtype=torch.float32).model.named_parameters())
    for host in shared.hosts.values():
        for model in models(host):
            for name, weight in frozen(model).items():
                assert torch.equal(weight, loaded[name.removeprefix("base_model.model.")])
                assert not weight.requires_grad
                assert weight.grad is None


@pytest.mark.parametrize("adapters", [LORA, None], ids=["lora", "full"])
def test_students_of_different_models_share_with_their_own_tutors_alone(
    base: Path, tmp_path: Path, adapters: Mapping[str, Any] | None
) -> None:
    other = save_model(tmp_path / "other")
    hosts = open_hosts(config := settings(base, other, adapters=adapters), tmp_path, load_domains(config.domains))
    assert isinstance(hosts, LocalHosts)
    hosts.ask(*((name, "freeze_tutor", ()) for name in PAIR))
    hosts.ask(("ann", "begin_phase", ([], {}, {"bob": 0})))
    ann, bob = hosts.hosts["ann"], hosts.hosts["bob"].student.model
    tutor = ann.tutoring.tutors["bob"].policy.student.model
    mine, theirs, tutors = ({weight.data_ptr() for weight in frozen(model).values()} for model in (ann.student.model, bob, tutor))
    assert not mine & theirs
    assert (theirs == tutors) == (adapters is not None)
    assert bool(theirs & tutors) == (adapters is not None)
