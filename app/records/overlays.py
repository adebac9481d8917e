"""One curve of many runs on a common grid, and each configuration's mean with the lowest and highest of its runs.

Steps that share a place of the grid are summed up in SQL as mean, smallest and largest: none is dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.records.comparison import Chosen, choose
from app.records.comparison_shapes import Overlay, OverlayGroup, OverlayLine, OverlayRun
from app.records.kept_charts import Columns, kept
from app.records.windows import grid
from app.tables import ChartDigestRow, EvaluationRow, GateDecisionRow, MetricRow

Entry = tuple[float, float, float]
"""Mean, low, high."""
Found = Mapping[int, Mapping[int, Entry]]
"""Run -> place of the grid -> entry."""


def overlay(session: Session, ids: Sequence[int], name: str, points: int) -> Overlay:
    """The curve `name` of these runs, with about so many points.

    Besides the names of metrics there are ``STUDENT/eval/DOMAIN``, validation scores, and ``STUDENT/gate/gap``,
    cognizance gaps, both by round.

    Raises:
        Invalid: one of the runs is not there.
    """
    chosen = choose(session, ids)
    student, _, rest = name.partition("/")
    if rest.startswith("eval/"):
        return _overlay(chosen, name, "round", 1, _validations(session, ids, student, rest.removeprefix("eval/")))
    if rest == "gate/gap":
        return _overlay(chosen, name, "round", 1, _gaps(session, ids, student))
    last = max((max(row.steps_done.values(), default=0) for row in chosen.rows), default=0)
    width = grid(last, points)
    return _overlay(chosen, name, "step", width, _metrics(session, ids, name, width))


def _metrics(session: Session, ids: Sequence[int], name: str, width: int) -> Found:
    found: defaultdict[int, dict[int, Entry]] = defaultdict(dict)
    for (run_id, _), data in kept(session, ids, "curve", width, [col(ChartDigestRow.name) == name]).items():
        one = Columns.unpack(data)
        found[run_id] = dict(zip((first // width for first in one.first), zip(one.mean, one.low, one.high, strict=True), strict=True))
    left = [run_id for run_id in ids if run_id not in found]
    if not left:
        return found
    value, step = col(MetricRow.value), col(MetricRow.step)
    rows = select(MetricRow.run_id, (step // width).label("place"), func.avg(value), func.min(value), func.max(value))  # type: ignore[call-overload]
    rows = rows.where(col(MetricRow.run_id).in_(left), col(MetricRow.name) == name).group_by(col(MetricRow.run_id), "place")
    for run_id, place, mean, low, high in session.exec(rows).all():
        found[run_id][int(place)] = (mean, low, high)
    return found


def _validations(session: Session, ids: Sequence[int], student: str, domain: str) -> Found:
    rows = select(EvaluationRow).where(
        col(EvaluationRow.run_id).in_(ids),
        EvaluationRow.student == student,
        EvaluationRow.domain == domain,
        EvaluationRow.split == "validation",
    )
    found: defaultdict[int, dict[int, Entry]] = defaultdict(dict)
    for row in session.exec(rows.order_by(col(EvaluationRow.id))).all():
        found[row.run_id][row.round] = (row.score, row.low, row.high)
    return found


def _gaps(session: Session, ids: Sequence[int], student: str) -> Found:
    rows = select(GateDecisionRow.run_id, GateDecisionRow.round, GateDecisionRow.gap)
    rows = rows.where(col(GateDecisionRow.run_id).in_(ids), GateDecisionRow.tutor == student)
    found: defaultdict[int, dict[int, Entry]] = defaultdict(dict)
    for run_id, number, gap in session.exec(rows.order_by(col(GateDecisionRow.id))).all():
        found[run_id][number] = (gap, gap, gap)
    return found


def _overlay(chosen: Chosen, name: str, axis: Literal["step", "round"], width: int, found: Found) -> Overlay:
    places = sorted({place for entries in found.values() for place in entries})
    ids = chosen.ids
    runs = [
        OverlayRun(run_id=run_id, group=chosen.group_of(place), **_line(found[run_id], places).model_dump())
        for place, run_id in enumerate(ids)
        if run_id in found
    ]
    groups = []
    for index, (label, members) in enumerate(zip(chosen.labels, chosen.groups, strict=True)):
        mine = [found[ids[place]] for place in members if ids[place] in found]
        if mine:
            together = {place: _together([entries[place] for entries in mine if place in entries]) for place in places}
            line = _line({place: entry for place, (entry, _) in together.items() if entry}, places)
            counts = [together[place][1] for place in places]
            groups.append(OverlayGroup(index=index, label=label, runs=counts, **line.model_dump()))
    middle = (width - 1) / 2
    return Overlay(name=name, axis=axis, width=width, x=[place * width + middle for place in places], runs=runs, groups=groups)


def _line(entries: Mapping[int, Entry], places: Sequence[int]) -> OverlayLine:
    columns = [[entries[place][part] if place in entries else None for place in places] for part in range(3)]
    return OverlayLine(mean=columns[0], low=columns[1], high=columns[2])


def _together(entries: Sequence[Entry]) -> tuple[Entry | None, int]:
    """Several runs' entries at one place as one, and how many they are."""
    if len(entries) < 2:
        return (entries[0] if entries else None), len(entries)
    means = [mean for mean, _, _ in entries]
    return (fmean(means), min(means), max(means)), len(entries)
