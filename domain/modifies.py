"""Modifies: the terms of an order that may be asked to change, and the order as it would be with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from domain.orders import Order, OrderType, Validity


def terms_of(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The changed terms of a modify, as an order holds them, from what its change row keeps."""
    read: dict[str, Callable[[Any], Any]] = {
        "quantity": int,
        "order_type": OrderType,
        "validity": Validity,
        "price": _decimal,
        "trigger_price": _decimal,
        "disclosed_quantity": int,
    }
    return {name: read[name](value) for name, value in wanted.items() if name in read}


def modified(order: Order, terms: Mapping[str, Any]) -> Order:
    """A copy of the order with these terms."""
    return replace(order, **terms)


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)
