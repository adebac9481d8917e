"""Settings that the others make no use of are known as such, and none else."""

from __future__ import annotations

from typing import Any

import pytest

from opcod.config import load_preset, merge, parse_config
from opcod.relevance import unused


def idle(**changes: Any) -> set[str]:
    return {path for path, _ in unused(parse_config(merge(load_preset("tiny"), changes)).model_dump(mode="json"))}


def test_an_opcod_run_uses_all_but_the_baselines_settings() -> None:
    found = idle(compute={"device": "auto"})
    assert found == {"method.grpo", "method.feedback.templates.generic", "compute.vllm_memory_fraction"}


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"method": {"algorithm": "sdpo"}}, {"method.gate", "method.feedback", "schedule.tutor_snapshot"}),
        ({"method": {"algorithm": "grpo"}}, {"method.teacher", "method.loss"}),
        ({"method": {"gate": {"strategy": "always"}}}, {"method.gate.threshold"}),
        ({"method": {"gate": {"strategy": "never"}}}, {"method.gate.threshold", "method.feedback", "evaluation.break_rescue_questions"}),
        ({"method": {"feedback": {"style": "generic"}}}, {"method.feedback.templates.anchored"}),
        ({"method": {"loss": {"top_k": None}}}, {"method.loss.tail_bucket"}),
        ({"compute": {"device": "cpu"}}, {"compute.gpu_memory_gib", "compute.cuda_graphs"}),
        ({"compute": {"device": "auto", "gpus": 2}}, {"compute.cuda_graphs"}),
    ],
)
def test_what_depends_on_a_setting_follows_it(changes: dict[str, Any], more: set[str]) -> None:
    assert more <= idle(**changes)


def test_a_whole_section_stands_for_what_is_in_it() -> None:
    found = idle(method={"algorithm": "sdpo"})
    assert not any(path.startswith(("method.feedback.", "method.gate.")) for path in found)


def test_tolerances_belong_to_numbers() -> None:
    assert "domains.0.verifier.relative_tolerance" not in idle()
    data = parse_config(load_preset("tiny")).model_dump(mode="json")
    data["domains"][0]["verifier"]["kind"] = "exact"
    assert "domains.0.verifier.relative_tolerance" in dict(unused(data))


@pytest.mark.parametrize("data", [{}, {"method": 3}, {"method": {"algorithm": ["x"]}}, {"domains": 7 * [None]}, {"domains": "x"}])
def test_settings_that_do_not_hold_are_borne(data: dict[str, Any]) -> None:
    dict(unused(data))
