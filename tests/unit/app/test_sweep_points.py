from __future__ import annotations

from typing import Any

import pytest

from app.errors import Invalid
from app.experiments.ablations import ABLATIONS
from app.experiments.sweep_points import MOST_POINTS, SweepPlan, axes, points


def faults(**plan: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as raised:
        points(SweepPlan(**({"name": "t", "preset": "tiny"} | plan)))
    return [(fault.field, fault.message) for fault in raised.value.faults]


def test_a_grid_is_every_combination_in_order() -> None:
    found = points(SweepPlan("tau", "tiny", grid={"method.gate.threshold": [0.1, 0.4], "seed": [0, 1]}))
    assert [(one.config.method.gate.threshold, one.config.seed) for one in found] == [(0.1, 0), (0.1, 1), (0.4, 0), (0.4, 1)]
    assert [one.config.name for one in found][1] == "tau: threshold=0.1, seed=1"
    assert axes(found) == ["method.gate.threshold", "seed"]
    assert found[0].config.schedule.rounds == 2  # the preset's, not the default


def test_overrides_are_laid_over_the_preset_and_named_by_what_they_set() -> None:
    found = points(SweepPlan("s", "tiny", overrides=[{"schedule": {"rounds": 1, "steps_per_round": 4}}, {"seed": 3}]))
    assert [(one.config.schedule.rounds, one.config.seed) for one in found] == [(1, 0), (2, 3)]
    assert axes(found) == ["schedule.rounds", "schedule.steps_per_round", "seed"]


def test_a_path_may_go_through_a_list() -> None:
    found = points(SweepPlan("who", "tiny", grid={"students.1.model": ["demo:protons", "demo:novice"]}))
    assert [one.config.students[1].model for one in found] == ["demo:protons", "demo:novice"]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda one: one.name)
def test_every_ablation_of_the_paper_fits_the_demo(ablation: Any) -> None:
    found = points(SweepPlan(ablation.name, "demo", ablation=ablation.name))
    assert len(found) == len(next(iter(ablation.grid.values()), ablation.overrides))
    assert len({one.config.model_dump_json(exclude={"name"}) for one in found}) == len(found)


def test_the_schedules_are_the_papers() -> None:
    found = points(SweepPlan("s", "demo", ablation="schedule"))
    assert [(one.config.schedule.rounds, one.config.schedule.steps_per_round) for one in found] == [(5, 20), (2, 50), (1, 100)]


def test_a_fault_names_its_point_and_setting() -> None:
    assert [field for field, _ in faults(grid={"method.gate.threshold": [0.1, -1, "x"]})] == [
        "points.1.method.gate.threshold",
        "points.2.method.gate.threshold",
    ]
    assert [field for field, _ in faults(overrides=[{"seed": 1}, {"students": []}])] == ["points.1.students"]


def test_what_every_point_shares_is_told_once() -> None:
    assert [field for field, _ in faults(config={"schedule": {"raunds": 1}}, grid={"seed": [0, 1, 2]})] == ["points.0.schedule.raunds"]
    assert (
        len(faults(config={"students": [{"name": "a", "model": "/nowhere"}, {"name": "b", "model": "/nowhere"}]}, grid={"seed": [0, 1]}))
        == 2
    )


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ({}, "grid"),
        ({"grid": {"seed": [1]}, "ablation": "gates"}, "grid"),
        ({"ablation": "nothing"}, "ablation"),
        ({"preset": "huge", "grid": {"seed": [1]}}, "preset"),
        ({"preset": None, "grid": {"seed": [1]}}, "preset"),
        ({"grid": {"seed": []}}, "grid.seed"),
        ({"grid": {"<b>": [1]}}, "grid.<b>"),
        ({"grid": {"__class__": [1]}}, "points.0.__class__"),
        ({"grid": {"schedule.rounds.deeper": [1]}}, "grid.schedule.rounds.deeper"),
        ({"grid": {"students.7.model": ["demo:protons"]}}, "grid.students.7.model"),
        ({"grid": {"name": ["a", "b"]}}, "grid.name"),
        ({"overrides": [{"seed": 1}, {}]}, "overrides.1"),
        ({"grid": {"seed": list(range(MOST_POINTS + 1))}}, "grid"),
        ({"grid": {"seed": list(range(60)), "method.gate.threshold": [0.1, 0.2]}}, "grid"),
    ],
)
def test_what_is_no_sweep_is_told(plan: dict[str, Any], field: str) -> None:
    assert [found for found, _ in faults(**plan)] == [field]
