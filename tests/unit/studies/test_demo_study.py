"""The demo study's bookkeeping: configurations of its arms, the equal-time budget, and tables that say what the results say."""

from __future__ import annotations

import pytest

from opcod.config import differences, load_preset, parse_config
from opcod.studies.demo import GATES, NOVICE, PAIR, ArmResult, StudyResults, arm_config, time_ratio
from opcod.studies.demo_tables import BEGIN, END, insert_tables, tables
from opcod.types import BreakRescue, Evaluation, GateDecision

STUDENTS = {name: f"students/{name}" for name in ("densities", "protons", "novice")}


def result(seed: int, arm: str, *, after: float = 0.9, seconds: float = 100.0, mutual: bool = True) -> ArmResult:
    evaluations = [
        Evaluation(round, student, domain, "test", score, score, score, 69, 16, 0.1)
        for student in ("student1", "student2")
        for domain in ("densities", "protons")
        for round, score in ((0, 0.75), (3, after))
    ]
    return ArmResult(
        seed=seed,
        arm=arm,
        steps_per_student=60,
        step_seconds=seconds,
        wall_seconds=seconds + 10,
        evaluations=evaluations,
        decisions=[GateDecision(1, "student1", "cognizance", 0.1, 0.2, True, ("densities", "protons"))],
        breaks=[BreakRescue(1, "student1", "student2", None, 10, 2, 5, 4), BreakRescue(2, "student1", "student2", None, 10, 1, 5, 3)],
        feedback={"student2/protons": {"asked": 200, "kept": 100, "true": 80}},
        mutual_improvement=mutual,
        improved={"student1": mutual, "student2": mutual},
    )


@pytest.mark.parametrize("arm", [*PAIR, *NOVICE])
def test_an_arm_differs_from_the_demo_in_what_it_is_about(arm: str) -> None:
    changed = {path for path, _, _ in differences(parse_config(load_preset("demo")), arm_config(3, arm, STUDENTS))}
    allowed = {"name", "seed", "compute.side_by_side", "method.algorithm", "method.gate.strategy"}
    assert {path for path in changed if not path.startswith(("domains.", "students."))} <= allowed
    config = arm_config(3, arm, STUDENTS)
    assert all("@3:" in source for domain in config.domains for source in (domain.train, domain.validation, domain.test))
    assert config.students[1].model == ("students/novice" if arm in NOVICE else "students/protons")


def test_the_second_setting_has_every_gate() -> None:
    assert {arm_config(1, arm, STUDENTS).method.gate.strategy for arm in NOVICE} == set(GATES)


def test_the_equal_time_budget_is_the_median_over_seeds() -> None:
    pairs = [(100, 50), (300, 100), (90, 60)]
    found = [result(seed, arm, seconds=s) for seed, pair in enumerate(pairs) for arm, s in zip(("opcod", "sdpo"), pair, strict=True)]
    assert time_ratio(StudyResults(results=found)) == 2.0
    with pytest.raises(ValueError, match="needs results"):
        time_ratio(StudyResults(results=[result(1, "opcod")]))


def test_tables_show_every_seed_and_average_what_was_run() -> None:
    text = tables(StudyResults(results=[result(1, "opcod", after=0.95), result(2, "opcod", after=0.85, mutual=False), result(1, "sdpo")]))
    assert "| OPCoD | 1 | 75.0 → 95.0 |" in text
    assert "| OPCoD | 2 | 75.0 → 85.0 |" in text
    assert "| OPCoD | 90.0 | 90.0 | 90.0 | 90.0 | +15.0 | 1 of 2 | 60 | 100 s |" in text
    assert "| OPCoD | student2 | protons | 400 | 50.0 % | 80.0 % |" in text
    assert "| OPCoD | student2 | all | 15.0 % | 40 | 70.0 % | 20 |" in text
    assert "Not run yet." in text  # the novice's setting


def test_only_the_tables_of_a_document_are_replaced() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    made = insert_tables(document, StudyResults(results=[result(1, "opcod")]))
    assert made.startswith("before\n")
    assert made.endswith("\nafter\n")
    assert "old" not in made
    assert insert_tables(made, StudyResults(results=[result(1, "opcod")])) == made
    with pytest.raises(ValueError, match="needs the lines"):
        insert_tables("no place", StudyResults())
