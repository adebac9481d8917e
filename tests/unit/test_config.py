"""The configuration: there and back as YAML, presets, merges, changes by path, and faults that say where they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.config import differences, load_preset, merge, parse_change, parse_config, parse_yaml, preset_names
from opcod.errors import ConfigError

NESTED = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), NESTED, max_size=3)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_survives_yaml(name: str) -> None:
    config = parse_config(load_preset(name))
    assert parse_config(parse_yaml(config.to_yaml())) == config
    assert differences(config, config) == []


def test_the_paper_preset_has_the_papers_figures() -> None:
    config = parse_config(load_preset("paper"))
    assert (config.schedule.rounds * config.schedule.steps_per_round, config.schedule.questions_per_step) == (100, 32)
    assert (config.generation.rollouts, config.generation.temperature, config.generation.max_response_tokens) == (8, 1.0, 4096)
    assert (config.method.gate.threshold, config.method.loss.top_k, config.method.teacher.ema_rate) == (0.2, 100, 0.05)
    assert (config.evaluation.samples, config.evaluation.temperature, config.evaluation.top_p) == (16, 0.6, 0.95)


@given(MAPPINGS, MAPPINGS)
def test_a_merge_keeps_what_is_laid_over_and_changes_nothing_else(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge(base, over)
    assert merge(merged, over) == merged
    assert set(merged) == set(base) | set(over)
    assert all(merged[key] == base[key] for key in set(base) - set(over))


def test_a_change_by_path() -> None:
    data = merge(load_preset("tiny"), parse_change("method.loss.top_k=null"))
    data = merge(data, parse_change("schedule.rounds=5"))
    changed = parse_config(data)
    assert changed.method.loss.top_k is None
    assert differences(parse_config(load_preset("tiny")), changed) == [("method.loss.top_k", 100, None), ("schedule.rounds", 2, 5)]


@pytest.mark.parametrize("text", ["", "rounds", "=3", "schedule.rounds", "students.0.name=x", "a=[", "A.b=1"])
def test_what_is_no_change_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_change(text)


def test_a_fault_names_its_place() -> None:
    with pytest.raises(ConfigError, match=r"method\.gate\.threshold") as caught:
        parse_config(merge(load_preset("tiny"), {"method": {"gate": {"threshold": -1}}}))
    assert caught.value.field == "method.gate.threshold"
    with pytest.raises(ConfigError, match="line 2"):
        parse_yaml("name: x\nstudents: [")


@pytest.mark.parametrize("value", [63, "many", None, 64.5])
def test_micro_batches_are_a_number_or_auto_and_a_fault_names_the_setting(value: Any) -> None:
    for good in ("auto", 64, "4096"):
        config = parse_config(merge(load_preset("tiny"), {"compute": {"micro_batch_tokens": good}}))
        assert config.compute.micro_batch_tokens == (good if good == "auto" else int(good))
    with pytest.raises(ConfigError, match="at least 64, or auto") as caught:
        parse_config(merge(load_preset("tiny"), {"compute": {"micro_batch_tokens": value}}))
    assert caught.value.field == "compute.micro_batch_tokens"


@pytest.mark.parametrize("text", ["x: &a [*a]", "x: &a {b: [{c: *a}]}", "x: &a {? [*a] : 1}"])
def test_yaml_that_turns_in_circles_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="stands for more than"):
        parse_yaml(text)


@pytest.mark.parametrize(
    "text", ["x: " + "[" * 40 + "]" * 40, "a: &a [[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]\nb: [[[[[[[[[[[[[[[[*a]]]]]]]]]]]]]]]]"]
)
def test_yaml_that_is_deep_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="more than 32 levels deep"):
        parse_yaml(text)


def test_yaml_that_grows_is_refused_before_it_has_grown() -> None:
    """Eight lines would be a hundred million values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8))]
    with pytest.raises(ConfigError, match="stands for more than 100,000 values"):
        parse_yaml("\n".join(lines))
    assert parse_yaml("\n".join(lines[:4]))["a3"][9][9][9][9] == "x"  # aliases as such are welcome
