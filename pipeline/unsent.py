"""Unsent orders whose cancel was asked for: whoever has one in hand ends it, and says what its cancel says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from domain.lifecycle import UNSENT
from domain.orders import Order
from domain.verdicts import Reject
from store import cancels
from store.unit import Unit


def end_of(wanted: Mapping[str, Any]) -> Reject:
    """What an order has ended for that was cancelled before it was sent, by what is wanted of its cancel."""
    return Reject(wanted.get("code", "CANCELLED_UNSENT"), (wanted.get("reason") or "cancelled before it was sent",))


CANCELLED = end_of({})


def ends_of(unit: Unit, orders: Iterable[Order]) -> Mapping[str, Reject]:
    """What those of these locked orders have ended for whose cancel is under way, by order."""
    asked = [order.id for order in orders if order.cancel_requested and order.state in UNSENT]
    under_way = cancels.under_way(unit, asked) if asked else {}
    return {order_id: end_of(one.wanted) for order_id, one in under_way.items()}
