"""Pages by key: a cursor says after which row to go on, so that no row is skipped or repeated while others arrive."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

LIMIT_DEFAULT = 50
LIMIT_MAX = 500
_EPOCH = datetime.fromtimestamp(0, UTC)


class BadCursor(ValueError):
    """This text is no cursor that we gave."""


@dataclass(frozen=True, slots=True)
class TradePlace:
    """Where a trade stands in the list: by its time, then by its key."""

    at: datetime
    order_id: str
    exchange: str
    trade_id: str


def id_cursor(row_id: str) -> str:
    """The id's 16 bytes in 22 characters."""
    return base64.urlsafe_b64encode(UUID(row_id).bytes).decode().rstrip("=")


def read_id_cursor(cursor: str) -> str:
    """Raises BadCursor."""
    raw = _decoded(cursor)
    if len(raw) != 16:
        raise BadCursor(cursor)
    return str(UUID(bytes=raw))


def trade_cursor(place: TradePlace) -> str:
    micros = (place.at - _EPOCH) // timedelta(microseconds=1)
    text = "\x1f".join((str(micros), place.order_id, place.exchange, place.trade_id))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_trade_cursor(cursor: str) -> TradePlace:
    """Raises BadCursor."""
    try:
        micros, order_id, exchange, trade_id = _decoded(cursor).decode().split("\x1f")
        at = _EPOCH + timedelta(microseconds=int(micros))
        return TradePlace(at, str(UUID(order_id)), exchange, trade_id)
    except (ValueError, OverflowError) as error:
        raise BadCursor(cursor) from error


def _decoded(cursor: str) -> bytes:
    if not cursor.isascii() or len(cursor) > 400:
        raise BadCursor(cursor)
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadCursor(cursor) from error
