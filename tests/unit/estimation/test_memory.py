"""What an experiment may hold at most: bases that are shared count once, and what is computed is what the code holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opcod.config import ExperimentConfig, load_preset, merge, parse_config
from opcod.distillation import loss, readout
from opcod.errors import ModelError
from opcod.estimation import space
from opcod.estimation.jobs import step_features
from opcod.estimation.memory import Memory, lines, longest, memory
from opcod.estimation.models import ModelShape
from opcod.estimation.space import student_bytes
from opcod.estimation.words import size
from opcod.generation import cache
from tests.benchmarks import memory as benchmark

SHAPE = benchmark.shape(benchmark.LARGE["Qwen3-8B"])
BASE = 2 * SHAPE.parameters


def paper(*models: str, **compute: Any) -> ExperimentConfig:
    students = [{"name": name, "model": model} for name, model in zip(("ann", "bob"), models, strict=True)]
    return parse_config(merge(load_preset("paper"), {**benchmark.CHANGES, "students": students} | {"compute": compute}))


def standing(config: ExperimentConfig, shape: ModelShape = SHAPE) -> int:
    """Least of all that it holds at any time."""
    found = memory(config, [shape, shape])
    own = found.adapters + found.optimizer + found.teachers
    return sum(process.phases["evaluation"] for process in found.processes) - own


def test_the_loss_is_computed_as_it_is_made() -> None:
    assert space.CHUNK_LOGITS == loss.CHUNK_LOGITS == readout.WHOLE_LOGITS


def test_the_cache_has_the_room_that_it_makes() -> None:
    assert space.SPARE_COLUMNS == cache.SPARE


def test_a_shape_is_that_of_the_model() -> None:
    assert SHAPE.parameters == 8_190_735_360  # as its card on the hub has it: 8.2 billion
    assert (SHAPE.layers, SHAPE.attention, SHAPE.key_value, SHAPE.intermediate) == (36, 4096, 1024, 12_288)


def test_one_base_counts_once_where_adapters_share_it() -> None:
    lora = {"adapters": {"rank": 8}}
    together, apart = standing(paper("a", "a", **lora)), standing(paper("a", "b", **lora))
    assert apart - together == BASE
    full = memory(paper("a", "a"), [SHAPE, SHAPE])
    assert min(full.processes[0].phases.values()) > 2 * BASE
    assert full.tutors == BASE  # a tutor is a copy of its own
    side_by_side = memory(paper("a", "b", **lora, side_by_side=True), [SHAPE, SHAPE])
    assert [process.students for process in side_by_side.processes] == [["ann"], ["bob"]]
    assert all(min(process.phases.values()) > 2 * BASE for process in side_by_side.processes)  # its own and its tutor's


def test_several_gpus_hold_a_part_each_of_all_that_is_trained() -> None:
    one, four = (memory(paper("a", "b", gpus=gpus), [SHAPE, SHAPE]) for gpus in (1, 4))
    assert four.processes[0].gpus == 4
    for stands, parts in ((one.optimizer, four.optimizer), (one.teachers, four.teachers), (one.tutors, four.tutors)):
        assert parts == pytest.approx(stands / 4, rel=1e-6)
    rest = BASE * 3 / 4  # what comes to the part of a model while it works
    assert four.processes[0].phases["feedback"] > 2 * BASE / 4 + four.optimizer + four.teachers + four.tutors + rest
    assert four.peak < one.peak
    assert any("each of 4 processes" in line for line in lines(four, 80e9))


def test_several_gpus_share_prompts_but_no_adapters() -> None:
    lora = {"adapters": {"rank": 8}}
    one, four = (memory(paper("a", "a", **lora, gpus=gpus), [SHAPE, SHAPE]) for gpus in (1, 4))
    assert (four.bases, four.optimizer, four.teachers) == (one.bases, one.optimizer, one.teachers)
    assert all(four.processes[0].phases[phase] <= value for phase, value in one.processes[0].phases.items())


def test_several_gpus_share_a_steps_work_and_processes_on_a_cpu_its_cores() -> None:
    one, two, there = (longest_step(paper("a", "a", **compute)) for compute in ({}, {"gpus": 2}, {"gpus": 2, "device": "cpu"}))
    multiplications = {"rollout": 2, "feedback": 2, "update": 1}
    for part, place in multiplications.items():
        assert two[part][place] == pytest.approx(one[part][place] / 2)
        assert there[part] == one[part]


def longest_step(config: ExperimentConfig) -> dict[str, tuple[float, ...]]:
    return step_features(config, SHAPE, SHAPE, longest(config))


def test_what_is_too_much_is_told_with_the_setting_that_lowers_it() -> None:
    config = paper("a", "a", adapters={"rank": 8})
    found = memory(config, [SHAPE, SHAPE])
    assert found.fits(80e9)
    wider = memory(parse_config(merge(config.model_dump(), {"generation": {"batch_size": 256}})), [SHAPE, SHAPE])
    assert not wider.fits(80e9)
    told = [line for line in lines(wider, 80e9) if "too much" in line]
    assert [line.split()[0] for line in told] == ["evaluation", "rollout"]
    assert all(line.endswith("lower generation.batch_size") for line in told)
    assert not any("too much" in line for line in lines(found, 80e9))
    assert Memory.model_validate_json(found.model_dump_json()) == found


def test_micro_batches_that_grow_are_told_with_the_least_and_the_most_that_they_take() -> None:
    lora = {"adapters": {"rank": 8}, "micro_batch_tokens": "auto"}
    config = paper("a", "a", **lora)
    found = memory(config, [SHAPE, SHAPE])
    (process,) = found.processes
    alone = config.with_compute(micro_batch_tokens=64)  # no two responses fit into so few
    assert process.phases["update"] == memory(alone, [SHAPE, SHAPE]).processes[0].phases["update"]
    assert process.largest_update is not None
    assert process.largest_update > 10 * process.phases["update"]

    def told(device: float | None) -> str:
        return next(line for line in lines(found, device) if line.split()[0] == "update")

    assert told(None).endswith(f"at the least; micro-batches grow into what is free, up to {size(process.largest_update)}")
    assert told(80e9).endswith(f"up to {size(0.9 * 80e9)}")
    assert told(1e9).endswith("too much: lower generation.max_response_tokens")


def test_auto_micro_batches_are_a_number_on_a_cpu() -> None:
    auto, number = (paper("a", "a", device="cpu", micro_batch_tokens=value) for value in ("auto", 16_384))
    assert memory(auto, [SHAPE, SHAPE]) == memory(number, [SHAPE, SHAPE])
    assert longest_step(auto) == longest_step(number)


def test_vllm_takes_its_share_while_text_is_sampled_and_holds_the_responses_in_it() -> None:
    lora = {"adapters": {"rank": 8}, "device": "auto"}
    plain, found = (memory(paper("a", "a", **lora, **engine), [SHAPE, SHAPE]) for engine in ({}, {"engine": "vllm"}))
    (before,), (after,) = plain.processes, found.processes
    assert after.phases["update"] == before.phases["update"]
    assert after.phases["rollout"] < before.phases["rollout"]
    stands = after.phases["rollout"]
    assert found.fits(max(after.phases["update"] / 0.9, stands / (0.9 - 0.3)) + 1)
    assert not found.fits(stands / (0.9 - 0.3) - 1)
    told = [line for line in lines(found, stands) if "too much" in line]
    assert [line.split()[-1] for line in told if "update" not in line.split()[0]] == ["compute.vllm_memory_fraction"] * 3
    assert any(line.startswith("vLLM") and "30%" in line for line in lines(found, None))


def test_a_student_that_is_not_here_has_no_memory() -> None:
    with pytest.raises(ModelError, match="org/unseen"):
        memory(paper("org/unseen", "org/unseen"))


def test_what_is_computed_is_what_a_step_holds(tmp_path: Path) -> None:
    """Of a pair far smaller than any that is trained for its answers, on a shared base in bfloat16."""
    model = benchmark.llama(128, 2, 2048)
    benchmark.make_model(tmp_path / "base", model)
    config = benchmark.settings(tmp_path, {**benchmark.LORA, "gradient_checkpointing": True}, {"max_response_tokens": 12})
    stands, added, did = benchmark.measure(config, tmp_path)
    students = [student_bytes(config, place, [benchmark.shape(model)] * 2, did) for place in range(2)]
    assert students[0].base + sum(student.standing for student in students) == pytest.approx(stands, rel=0.01)
    computed = students[0].peaks()
    for phase in ("feedback", "update"):
        assert computed[phase] == pytest.approx(added[phase], rel=0.3), phase
