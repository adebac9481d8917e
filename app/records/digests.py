"""Works out once what the charts of an ended run are drawn from: nothing of it changes any more, and reading all of it takes long.

A task of the web server follows behind, so that no run waits for it at its end. A run that is resumed loses its end, and so
what was kept of it counts no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, get_args

from sqlalchemy import Engine, delete
from sqlmodel import Session, col, select

from app.db import insert_into, reading, writing
from app.records.chart_shapes import Quantity
from app.records.curves import curves
from app.records.kept_charts import Columns, Kind, microseconds
from app.records.tallies import histograms, tallies, tallies_by_round
from app.records.windows import CURVE_POINTS, HEAT_POINTS, TALLY_POINTS, Window
from app.tables import ChartDigestRow, RunRow

EVERY_SECONDS = 10.0
COARSEST = 4
"""Curves are kept in entries of twice the width, and twice again, until there are no more than so many: runs of any length are
drawn on one grid."""


def digest_next(engine: Engine) -> bool:
    """Keep what charts show of one ended run of which nothing is kept yet; whether there was one."""
    known = select(ChartDigestRow.run_id).where(ChartDigestRow.run_id == RunRow.id, ChartDigestRow.ended_at == RunRow.ended_at)
    lacking = select(RunRow.id, RunRow.ended_at).where(col(RunRow.ended_at).is_not(None), col(RunRow.deleted_at).is_(None), ~known.exists())
    with reading(engine) as session:
        found = session.exec(lacking.order_by(col(RunRow.id).desc()).limit(1)).first()
        if found is None or found[0] is None or found[1] is None:
            return False
        run_id, ended_at = found
        made = [
            {"run_id": run_id, "kind": kind, "name": name, "width": width, "ended_at": ended_at, "data": data}
            for kind, name, width, data in _digests(session, run_id)
        ]
    with writing(engine) as session:
        if session.exec(_still(run_id, ended_at)).first() is not None:
            session.exec(delete(ChartDigestRow).where(col(ChartDigestRow.run_id) == run_id))
            session.execute(insert_into(session, ChartDigestRow).on_conflict_do_nothing(), made)
    return True


def _still(run_id: int, ended_at: datetime) -> Any:
    """The run, unless it was resumed or deleted meanwhile. Held, so that another server waits that does the same."""
    rows = select(RunRow.id).where(RunRow.id == run_id, RunRow.ended_at == ended_at, col(RunRow.deleted_at).is_(None))
    return rows.with_for_update(key_share=True)


def _digests(session: Session, run_id: int) -> Iterator[tuple[Kind, str, int, bytes]]:
    counted = tallies(session, run_id, Window(points=TALLY_POINTS))
    yield "tallies", "", counted.width, counted.model_dump_json().encode()
    yield "rounds", "", 0, tallies_by_round(session, run_id, Window()).model_dump_json().encode()
    quantity: Quantity
    for quantity in get_args(Quantity):
        spread = histograms(session, run_id, quantity, Window(points=HEAT_POINTS))
        yield "histograms", quantity, spread.width, spread.model_dump_json().encode()
    found = curves(session, run_id, (), Window(points=CURVE_POINTS))
    for curve in found.items:
        width = found.width
        columns = Columns(curve.first, curve.last, curve.count, curve.mean, curve.low, curve.high, [microseconds(at) for at in curve.at])
        yield "curve", curve.name, width, columns.pack()
        while len(columns.first) > COARSEST:
            columns, width = columns.halved(width), 2 * width
            yield "curve", curve.name, width, columns.pack()
