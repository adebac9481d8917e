"""What charts of ended runs are drawn from, kept beside the points and exchanges that it sums up. See `app.records.digests`."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement
from sqlmodel import Session, col, select

from app.tables import ChartDigestRow, RunRow

Kind = Literal["curve", "tallies", "rounds", "histograms"]
_BEGAN = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TYPES = {"first": "i", "last": "i", "count": "i", "mean": "d", "low": "d", "high": "d", "at": "q"}


@dataclass(frozen=True, slots=True)
class Columns:
    """A curve as columns of equal length, as `app.records.chart_shapes.Curve` has them; times in microseconds since 1970."""

    first: Sequence[int]
    last: Sequence[int]
    count: Sequence[int]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    at: Sequence[int]

    def pack(self) -> bytes:
        """The columns one after the other, little-endian."""
        parts = [array(kind, getattr(self, name)) for name, kind in _TYPES.items()]
        if sys.byteorder == "big":
            for part in parts:
                part.byteswap()
        return b"".join(part.tobytes() for part in parts)

    @classmethod
    def unpack(cls, data: bytes) -> Columns:
        """What `pack` made."""
        length = len(data) // sum(array(kind).itemsize for kind in _TYPES.values())
        found, start = [], 0
        for kind in _TYPES.values():
            part: array[Any] = array(kind)
            part.frombytes(data[start : start + length * part.itemsize])
            if sys.byteorder == "big":
                part.byteswap()
            found.append(part.tolist())
            start += length * part.itemsize
        return cls(*found)

    def halved(self, width: int) -> Columns:
        """The same in entries of twice the `width`."""
        made: list[list[Any]] = []
        for first, last, count, mean, low, high, at in zip(*(getattr(self, name) for name in _TYPES), strict=True):
            if made and made[-1][0] // (2 * width) == first // (2 * width):
                one = made[-1]
                one[3] = (one[3] * one[2] + mean * count) / (one[2] + count)
                one[1], one[2], one[4], one[5], one[6] = last, one[2] + count, min(one[4], low), max(one[5], high), max(one[6], at)
            else:
                made.append([first, last, count, mean, low, high, at])
        return Columns(*map(list, zip(*made, strict=True)))


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _BEGAN) // _MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """The other way round."""
    return _BEGAN + microseconds * _MICROSECOND


def kept(
    session: Session, run_ids: Sequence[int], kind: Kind, width: int, names: Sequence[ColumnElement[bool]] = ()
) -> Mapping[tuple[int, str], bytes]:
    """(Run, name) -> what is kept in entries of this width; nothing of runs that have not ended, or not long ago."""
    row = ChartDigestRow
    found = select(row.run_id, row.name, row.data).join(RunRow, col(RunRow.id) == col(row.run_id))
    found = found.where(col(row.run_id).in_(run_ids), row.kind == kind, row.width == width, row.ended_at == RunRow.ended_at, *names)
    return {(run_id, name): data for run_id, name, data in session.exec(found.order_by(col(row.name))).all()}
