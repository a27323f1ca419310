"""Trades: what was filled, each fill of the exchange once."""

from __future__ import annotations

from collections.abc import Sequence

from domain.orders import Order
from domain.outcomes import Fill
from store.unit import Unit, array, text_array


def insert(unit: Unit, fills: Sequence[tuple[Order, Fill]]) -> int:
    """Store the fills that are new; gives how many were."""
    if not fills:
        return 0
    return unit.run(
        "insert into trades (order_id, exchange, trade_id, user_id, broker, account_id, instrument, side, quantity,"
        " price, at) select * from unnest(%s::uuid[], %s::text[], %s::text[], %s::uuid[], %s::text[], %s::text[],"
        " %s::text[], %s::text[], %s::bigint[], %s::numeric[], %s::timestamptz[]) on conflict do nothing",
        (
            array([order.id for order, _ in fills]),
            text_array([fill.exchange for _, fill in fills]),
            text_array([fill.trade_id for _, fill in fills]),
            array([order.user_id for order, _ in fills]),
            array([order.broker for order, _ in fills]),
            text_array([order.account_id for order, _ in fills]),
            text_array([order.instrument for order, _ in fills]),
            array([order.side for order, _ in fills]),
            array([fill.quantity for _, fill in fills]),
            array([fill.price for _, fill in fills]),
            array([fill.at.isoformat() for _, fill in fills]),
        ),
    )
