"""Parts inside parts: their times, what was counted in them, and the peaks between their borders."""

from __future__ import annotations

from opcod.stopwatch import Stopwatch, count, measured, measuring, part


class Steps:
    """A gauge whose peaks the test writes itself."""

    def __init__(self, *peaks: int) -> None:
        self.peaks = list(peaks)

    def settle(self) -> None:
        pass

    def take_peak(self) -> int | None:
        return self.peaks.pop(0)


def test_parts_that_recur_add_up_inside_the_part_they_belong_to() -> None:
    with measuring(Stopwatch()) as stopwatch:
        for _ in range(2):
            with part("outer"):
                with part("inner"):
                    count(10, 2)
                count(1)
    outer = stopwatch.whole.parts["outer"]
    inner = outer.parts["inner"]
    assert (inner.tokens, inner.padding, outer.tokens, outer.padding) == (20, 4, 2, 0)
    assert 0 < inner.seconds <= outer.seconds


def test_nothing_is_measured_where_no_stopwatch_runs_unless_asked_for() -> None:
    with part("alone"):
        count(5)
    with measured("step") as step, part("inner"):
        count(5)
    assert step.parts["inner"].tokens == 5


def test_what_is_measured_is_its_own_though_the_stopwatch_adds_up() -> None:
    with measuring(Stopwatch()) as stopwatch:
        for _ in range(2):
            with measured("step") as step, part("inner"):
                count(5)
            assert step.parts["inner"].tokens == 5
    assert stopwatch.whole.parts["step"].parts["inner"].tokens == 10


def test_a_peak_belongs_to_the_part_in_which_it_was_and_to_those_around_it() -> None:
    #                            before outer, before inner, after inner, after outer
    stopwatch = Stopwatch(Steps(1, 5, 9, 3))
    with stopwatch.part("outer"), stopwatch.part("inner"):
        pass
    outer = stopwatch.whole.parts["outer"]
    assert (outer.parts["inner"].peak_bytes, outer.peak_bytes, stopwatch.whole.peak_bytes) == (9, 9, 9)
    stopwatch = Stopwatch(Steps(1, 5, 4, 3))
    with stopwatch.part("outer"), stopwatch.part("inner"):
        pass
    outer = stopwatch.whole.parts["outer"]
    assert (outer.parts["inner"].peak_bytes, outer.peak_bytes) == (4, 5)
