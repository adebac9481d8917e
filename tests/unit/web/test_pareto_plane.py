from __future__ import annotations

from app.web.pareto_plane import planes
from opcod.types import Evaluation


def score(student: str, domain: str, number: int, value: float, split: str = "validation") -> Evaluation:
    return Evaluation(number, student, domain, split, value, value - 0.05, value + 0.05, 60, 16, 0.25)  # type: ignore[arg-type]


WALK = [
    score("s", domain, number, value)
    for number, (x, y) in enumerate([(0.5, 0.4), (0.6, 0.5), (0.7, 0.45)])
    for domain, value in (("x", x), ("y", y))
]


def test_better_is_right_and_up() -> None:
    [plane] = planes(WALK, ["s"], ["x", "y"])
    [path] = plane.paths
    first, second, third = path.points
    assert first.x < second.x < third.x
    assert second.y < third.y < first.y
    assert (first.last, third.last) == (False, True)
    assert "before training" in first.label
    assert "after round 2" in third.label
    for point in path.points:
        assert plane.left <= point.low[0] <= point.x <= point.high[0] <= plane.right_edge
        assert plane.top <= point.high[1] <= point.y <= point.low[1] <= plane.bottom_edge


def test_only_validation_counts_and_half_a_validation_waits() -> None:
    extra = [score("s", "x", 3, 0.9), score("s", "x", 2, 0.1, "test"), score("s", "y", 2, 0.1, "test")]
    [plane] = planes([*WALK, *extra], ["s"], ["x", "y"])
    assert len(plane.paths[0].points) == 3


def test_a_plane_for_each_pair_up_to_four_domains() -> None:
    domains = ["a", "b", "c", "d"]
    found = [score("s", domain, 0, 0.5) for domain in domains]
    assert [(plane.x_domain, plane.y_domain) for plane in planes(found, ["s"], domains[:3])] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert len(planes(found, ["s"], domains)) == 6
    assert planes(found, ["s"], ["a"]) == ()
    assert planes(found, ["s"], [*domains, "e"]) == ()
    assert planes([], ["s"], domains) == ()


def test_scores_at_the_ends_stay_within_the_frame() -> None:
    ends = [score("s", "x", 0, 0.0), score("s", "y", 0, 1.0), score("s", "x", 1, 1.0), score("s", "y", 1, 0.0)]
    [plane] = planes(ends, ["s"], ["x", "y"])
    assert all(plane.left <= point.x <= plane.right_edge and plane.top <= point.y <= plane.bottom_edge for point in plane.paths[0].points)
    assert [tick.label for tick in plane.x_ticks] == ["0", "20", "40", "60", "80", "100"]


def test_names_of_students_that_end_together_do_not_cover_each_other() -> None:
    found = [score(student, domain, 0, 0.5) for student in ("s", "t") for domain in ("x", "y")]
    [plane] = planes(found, ["s", "t"], ["x", "y"])
    first, second = plane.paths
    assert abs(first.name_y - second.name_y) >= 14
