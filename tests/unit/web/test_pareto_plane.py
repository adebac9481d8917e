from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from app.web.name_places import Box, text_box
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


def walks(*students: Sequence[tuple[float, float]]) -> list[Evaluation]:
    """Scores of students named s0, s1, … on x and y, round after round."""
    return [
        score(f"s{place}", domain, number, value)
        for place, walk in enumerate(students)
        for number, scores in enumerate(walk)
        for domain, value in zip("xy", scores, strict=True)
    ]


scores = st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9))


@given(first=st.lists(scores, min_size=1, max_size=5), second=st.lists(scores, min_size=1, max_size=5))
def test_names_lie_in_the_frame_and_not_on_each_other(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> None:
    [plane] = planes(walks(first, second), ["s0", "s1"], ["x", "y"])
    one, other = (text_box(path.student, path.name_x, path.name_y, path.name_anchor) for path in plane.paths)
    frame = Box(plane.left, plane.top, plane.right_edge, plane.bottom_edge)
    assert one.lies_in(frame)
    assert other.lies_in(frame)
    assert one.right <= other.left or other.right <= one.left or one.bottom <= other.top or other.bottom <= one.top


def test_a_name_leaves_a_round_number_free() -> None:
    """The second student's way passes right above where the first one's name would stand."""
    [plane] = planes(walks([(0.3, 0.3), (0.5, 0.5)], [(0.55, 0.56), (0.8, 0.3)]), ["s0", "s1"], ["x", "y"])
    path, other = plane.paths
    number = other.points[0]
    name = text_box(path.student, path.name_x, path.name_y, path.name_anchor)
    assert not any(name.holds(place) for place in text_box("start", number.x, number.y + 15, "middle").places())
