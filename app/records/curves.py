"""Metrics over the steps for a chart: every point, or where there are too many the mean, the smallest and the largest of neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.records.chart_shapes import Curve, Curves
from app.records.kept_charts import Columns, kept, moment_of
from app.records.queries import named
from app.records.windows import Window, steps_done
from app.tables import ChartDigestRow, MetricRow


def curves(session: Session, run_id: int, names: Sequence[str], window: Window) -> Curves:
    """Curves of these names (``student1/*`` stands for all that begin so), by name."""
    window = window.settled(steps_done(session, run_id))
    if window.is_whole and (found := kept(session, [run_id], "curve", window.width, named(names, ChartDigestRow.name))):
        return Curves(width=window.width, items=[_curve(name, Columns.unpack(data)) for (_, name), data in found.items()])
    return _read(session, run_id, names, window)


def _curve(name: str, columns: Columns) -> Curve:
    one = columns
    at = [moment_of(moment) for moment in one.at]
    return Curve(name=name, first=one.first, last=one.last, count=one.count, mean=one.mean, low=one.low, high=one.high, at=at)


def _read(session: Session, run_id: int, names: Sequence[str], window: Window) -> Curves:
    row = MetricRow
    value = col(row.value)
    found = session.exec(
        select(  # type: ignore[call-overload]
            row.name,
            func.min(row.step),
            func.max(row.step),
            func.count(),
            func.avg(value),
            func.min(value),
            func.max(value),
            func.max(row.at),
        )
        .where(col(row.run_id) == run_id, *named(names), *window.conditions(row))
        .group_by(row.name, col(row.step) // window.width)
        .order_by(col(row.name), func.min(row.step))
    ).all()
    items = []
    for name, entries in groupby(found, key=lambda entry: entry[0]):
        _, first, last, count, mean, low, high, at = zip(*entries, strict=True)
        items.append(Curve(name=name, first=first, last=last, count=count, mean=mean, low=low, high=high, at=at))
    return Curves(width=window.width, items=items)
