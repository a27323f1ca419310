"""A broker's book, from its rows of orders and its rows of trades."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from brokers.answers import Unfit
from domain.lifecycle import OrderState
from domain.outcomes import BookRow, Fill, Unreadable
from domain.positions import Position

Row = Mapping[str, Any]


def rows_of(data: object, noun: str) -> list[Row]:
    if not isinstance(data, list) or not all(isinstance(row, Mapping) for row in data):
        raise Unfit(f"the {noun} are no list of rows")
    return data


def unreadable(unfit: Unfit) -> Unreadable:
    return Unreadable(str(unfit), unfit.session_dead)


def traded(rows: Iterable[Row]) -> bool:
    """Whether any order has fills, so that the trades are worth a read of their own."""
    return any(row.get("filled_quantity") for row in rows)


def book_of(
    orders: Iterable[Row],
    trades: Iterable[Row],
    to_row: Callable[[Row, tuple[Fill, ...]], BookRow],
    to_fill: Callable[[Row], tuple[str, Fill]],
) -> list[BookRow]:
    """The orders with their fills, these by time and a repeated one once.

    Raises:
        Unfit: a row can't be read. A book with a gap would prove an absence that isn't one, so there is no book then.
    """
    fills: dict[str, dict[tuple[str, str], Fill]] = {}
    for trade in trades:
        broker_order_id, fill = to_fill(trade)
        fills.setdefault(broker_order_id, {}).setdefault((fill.exchange, fill.trade_id), fill)
    return [to_row(order, _by_time(fills.get(str(order.get("order_id")), {}).values())) for order in orders]


def positions_of(rows: Iterable[Row], to_position: Callable[[Row], Position]) -> list[Position]:
    """The positions, one that is told twice once. Raises Unfit where a row can't be read."""
    return list({(told.name, told.product): told for told in map(to_position, rows)}.values())


def state_of(state: OrderState | None, quantity: int, filled: int) -> OrderState | None:
    """The state with its quantities in view: neither broker has a word for a partial fill.

    A completed order with less filled than ordered is a row that lags behind itself: it says nothing yet.
    """
    if state is OrderState.OPEN and 0 < filled < quantity:
        return OrderState.PARTIALLY_FILLED
    if state is OrderState.FILLED and filled < quantity:
        return None
    return state


def _by_time(fills: Iterable[Fill]) -> tuple[Fill, ...]:
    return tuple(sorted(fills, key=lambda fill: (fill.at, len(fill.trade_id), fill.trade_id)))
