"""A student's server is asked for its weights as they came, and for nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from opcod.config import load_preset, merge, parse_config
from opcod.generation.base import Generation, SamplingParams
from opcod.generation.server import ServerEngine
from opcod.generation.transformers import TransformersEngine
from opcod.tasks.questions import load_domains
from opcod.training.student_host import HostSettings, StudentHost


def test_a_server_answers_for_a_student_as_it_came_and_never_for_a_trained_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(self: ServerEngine, prompts: Sequence[Any], params: SamplingParams, **_: Any) -> list[list[Generation]]:
        asked.append(self.server.model)
        return [[Generation((7, self.end_ids[0]), (), True)] * params.n for _ in prompts]

    monkeypatch.setattr(ServerEngine, "generate", answer)
    students = [
        {"name": name, "model": f"demo:{domain}", "server": {"url": "http://server/v1", "model": f"the {domain} one"}}
        for name, domain in (("ann", "densities"), ("bob", "protons"))
    ]
    config = parse_config(merge(load_preset("tiny"), {"students": students, "evaluation": {"validation_questions": 4}}))
    ann, bob = (StudentHost(HostSettings(config, name, tmp_path, tuple(load_domains(config.domains)), 1)) for name in ("ann", "bob"))

    ann.evaluate(0, "validation")
    assert asked == ["the densities one"] * len(config.domains)
    assert isinstance(ann.policy.engine, TransformersEngine)  # rollouts

    engines = []
    for steps in (0, 2):
        bob.steps = steps
        bob.freeze_tutor()
        ann.begin_phase([], {}, {"bob": steps})
        engines.append(type(ann.tutoring.tutors["bob"].policy.engine))
    assert engines == [ServerEngine, TransformersEngine]

    asked.clear()
    ann.steps = 1
    ann.evaluate(1, "validation")
    assert asked == []
