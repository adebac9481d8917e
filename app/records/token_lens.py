"""A rollout token by token: one compressed row an exchange, some 30 bytes a token, opened when somebody looks."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import PydanticSerializationError, to_json
from sqlmodel import Session, col, select

from app.errors import NotFound
from app.records.exchange_queries import exchange_row
from app.shapes import AlternativeShape, TokensShape
from app.tables import ExchangeRow, TokenLensRow
from opcod.plain_text import storable
from opcod.types import TokenLens

LEVEL = 4
"""Of deflate: more costs a training step time, and saves three hundredths of these bytes."""


def pack(lens: TokenLens) -> bytes:
    """The lens as it is stored: its columns as JSON, deflated."""
    try:
        columns = to_json(lens)
    except PydanticSerializationError:  # lone surrogates, which hardly a tokenizer makes
        columns = to_json(replace(lens, pieces=tuple(map(storable, lens.pieces))))
    return zlib.compress(columns, LEVEL)


def tokens(session: Session, exchange_id: int) -> TokensShape:
    """The tokens of an exchange's rollout.

    Raises:
        NotFound: there is no such exchange, or it was not recorded token by token.
    """
    exchange = exchange_row(session, exchange_id)
    row = session.get(TokenLensRow, (exchange.run_id, exchange.seq))
    if row is None:
        raise NotFound("record of single tokens of exchange", exchange_id)
    return unpacked(row.data)


def of_many(session: Session, run_id: int, exchange_ids: Sequence[int]) -> dict[int, bytes]:
    """Stored lenses by exchange, of those that have one."""
    together = (col(TokenLensRow.run_id) == col(ExchangeRow.run_id)) & (col(TokenLensRow.seq) == col(ExchangeRow.seq))
    rows = select(col(ExchangeRow.id), col(TokenLensRow.data)).join(TokenLensRow, together)
    found = session.exec(rows.where(col(ExchangeRow.run_id) == run_id, col(ExchangeRow.id).in_(exchange_ids))).all()
    return {key: data for key, data in found if key is not None}


def unpacked(data: bytes) -> TokensShape:
    """A stored lens as REST tells it."""
    lens = json.loads(zlib.decompress(data))
    pieces: list[str] = lens["pieces"]
    return TokensShape(
        texts=[pieces[place] for place in lens["tokens"]],
        in_loss=lens["mask"],
        student=lens["student"],
        teacher=lens["teacher"],
        divergence=lens["divergence"],
        weight=lens["weight"],
        alternatives=lens["alternatives"] and [_alternatives(pieces, seen) for seen in lens["alternatives"]],
    )


def _alternatives(pieces: Sequence[str], seen: Sequence[Any]) -> list[AlternativeShape]:
    return [AlternativeShape(text=pieces[place], student=student, teacher=teacher) for place, student, teacher in seen]
