"""Stands for `store/trades.py`."""

from __future__ import annotations

from collections.abc import Sequence

from domain.orders import Order
from domain.outcomes import Fill

from .unit import Unit


def insert(unit: Unit, fills: Sequence[tuple[Order, Fill]]) -> int:
    if not fills:
        return 0
    unit.statement()
    return sum(unit.insert("trades", (order.id, fill.exchange, fill.trade_id), fill) for order, fill in fills)
