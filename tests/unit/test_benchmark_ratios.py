from __future__ import annotations

from tests.benchmarks.__main__ import worse

PUBLISHED = {"step": {"time": 1.0, "speed": 2.0}}


def test_a_ratio_is_worse_in_its_own_direction_and_beyond_the_tolerance() -> None:
    assert worse({"step": {"time": 1.1, "speed": 1.8}}, PUBLISHED) == []
    assert worse({"step": {"time": 0.5, "speed": 9.0}}, PUBLISHED) == []
    assert worse({"step": {"time": 1.2, "speed": 1.6}}, PUBLISHED) == ["step: time was 1.00, is 1.20", "step: speed was 2.00, is 1.60"]


def test_what_was_never_published_is_not_held_against_anything() -> None:
    assert worse({"step": {"memory": 9.0}, "record": {"time": 9.0}}, PUBLISHED) == []
