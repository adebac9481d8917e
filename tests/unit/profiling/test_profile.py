"""A profile of the tiny demo: nothing left out, nothing counted twice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from opcod.__main__ import app
from opcod.profiling.findings import PartProfile, Profile
from opcod.profiling.gauges import CLEAR, ResidentMemory

SMALL = ("schedule.questions_per_step=2", "generation.rollouts=2", "recording.token_questions=1", "method.feedback.style=generic")
"""Generic feedback is always kept: there is something to learn from in every step."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, str]:
    """A profile, and what the command printed."""
    file: Path = tmp_path_factory.mktemp("profile") / "profile.json"
    changes = [word for change in SMALL for word in ("--set", change)]
    done = CliRunner().invoke(app, ["profile", "--preset", "tiny", "--steps", "2", "--json", str(file), *changes], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    return Profile.model_validate_json(file.read_text(encoding="utf-8")), done.output


UPDATE = ["self_teacher_prompts", "teacher_forward", "student_forward", "loss", "student_backward", "optimizer", "rest"]


def by_name(parts: Sequence[PartProfile]) -> dict[str, PartProfile]:
    return {part.name: part for part in parts}


def test_every_part_is_there_and_they_sum_up_to_the_step(found: tuple[Profile, str]) -> None:
    profile, printed = found
    assert [one.student for one in profile.students] == ["student1", "student2"]
    for student in profile.students:
        tops = by_name(student.parts)
        assert [*tops] == ["rollout", "feedback", "update", "record", "events", "rest"]
        assert [*by_name(tops["rollout"].parts)] == ["prefill", "decode", "verify", "rest"]
        assert [*by_name(tops["update"].parts)] == UPDATE
        assert [*by_name(by_name(tops["update"].parts)["loss"].parts)] == ["token_views", "rest"]
        assert sum(part.seconds for part in student.parts) == pytest.approx(student.seconds)
        assert sum(part.share for part in student.parts) == pytest.approx(1)
        assert tops["rest"].share < 0.2
        for part in student.parts:
            assert not part.parts or sum(one.seconds for one in part.parts) == pytest.approx(part.seconds)
        assert student.skipped_updates == 0
        assert student.micro_batch_tokens == 16_384
    assert "student1" in printed
    assert printed.count("Micro-batches of at most 16,384 tokens") == 2
    assert "self-teacher forward" in printed


def test_tokens_padding_and_memory_are_those_of_the_work(found: tuple[Profile, str]) -> None:
    for student in found[0].students:
        tops = by_name(student.parts)
        parts = by_name(tops["update"].parts)
        student_forward, teacher_forward = parts["student_forward"], parts["teacher_forward"]
        assert 0 < student_forward.tokens < teacher_forward.tokens  # the same responses after longer prompts
        assert parts["student_backward"].tokens == student_forward.tokens
        assert tops["update"].tokens == student_forward.tokens + teacher_forward.tokens
        assert tops["rollout"].tokens_per_s == pytest.approx(tops["rollout"].tokens / tops["rollout"].seconds)
        for part in (*parts.values(), *tops.values()):
            assert part.padding_waste is None or 0 <= part.padding_waste < 1
            assert part.name == "rest" or (part.peak_bytes or 0) > 2**26  # torch alone is larger


@pytest.mark.skipif(not os.access(CLEAR, os.W_OK), reason="this system does not set its record of the peak back")
def test_resident_memory_peaks_only_while_it_is_held() -> None:
    gauge = ResidentMemory()
    gauge.take_peak()
    before = gauge.take_peak()
    torch.ones(2**24)  # 64 MiB
    during, after = gauge.take_peak(), gauge.take_peak()
    assert before is not None
    assert during is not None
    assert after is not None
    assert during >= before + 2**25
    assert after <= during
