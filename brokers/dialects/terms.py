"""An order's terms as every broker wants them: there where the type of order needs them, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from domain.orders import PRICED, TRIGGERED, Order, OrderType, Validity
from domain.outcomes import Refused

UNPROTECTED = frozenset({OrderType.MARKET, OrderType.SL_M})  # since April 2026 they go out with a protection
AUTOMATIC_PROTECTION = Decimal(-1)  # the broker's own percentage


_TYPES: Mapping[str, OrderType] = {member.value: member for member in OrderType}
_VALIDITIES: Mapping[str, Validity] = {member.value: member for member in Validity}


class NotTranslatable(ValueError):
    """An order that this broker has no words for."""

    @property
    def refusal(self) -> Refused:
        return Refused("NOT_TRANSLATABLE", str(self))


def price(order: Order) -> Decimal | None:
    """Rupees; None for an order without a limit."""
    if order.order_type not in PRICED:
        return None
    if order.price is None:
        raise NotTranslatable(f"a {order.order_type} order needs a price")
    return order.price


def trigger_price(order: Order) -> Decimal | None:
    if order.order_type not in TRIGGERED:
        return None
    if order.trigger_price is None:
        raise NotTranslatable(f"a {order.order_type} order needs a trigger price")
    return order.trigger_price


def market_protection(order: Order) -> Decimal | None:
    """Percent, -1 for the broker's own; None for an order that takes none."""
    if order.order_type not in UNPROTECTED:
        return None
    return AUTOMATIC_PROTECTION if order.market_protection is None else order.market_protection


def order_type_of(row: Mapping[str, Any]) -> OrderType | None:
    """The type that a row of the book tells; None for a word of the broker's that we don't have."""
    word = row.get("order_type")
    return _TYPES.get(word) if isinstance(word, str) else None


def validity_of(row: Mapping[str, Any]) -> Validity | None:
    word = row.get("validity")
    return _VALIDITIES.get(word) if isinstance(word, str) else None


def disclosed_of(row: Mapping[str, Any]) -> int | None:
    value = row.get("disclosed_quantity")
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def tag(order: Order) -> str:
    """The tag by which the order is found again. None goes out without one."""
    if not order.broker_tag:
        raise NotTranslatable("the order has no tag yet")
    return order.broker_tag
