"""Settlements: what an operator, who has looked, says became of an order that nobody else can tell of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from domain.errors import Fault
from domain.lifecycle import AT_BROKER, TERMINAL, OrderState


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The broker has it, under this number and as this; `average_price` is in rupees."""

    broker_order_id: str
    state: OrderState
    filled_quantity: int = 0
    average_price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTaken:
    """The broker has no such order. With `resend` it goes back as what was provably not sent; else it is rejected."""

    resend: bool = False


Settlement = Taken | NotTaken


def find_faults(settlement: Settlement, *, quantity: int) -> Iterator[Fault]:
    """What can't be true of an order of this quantity."""
    if isinstance(settlement, NotTaken):
        return
    state, filled = settlement.state, settlement.filled_quantity
    if state not in AT_BROKER | TERMINAL:
        yield Fault("/state", "NOT_ONE_OF", f"{state} is no state that a broker's order has")
    if filled > quantity:
        yield Fault("/filledQuantity", "TOO_LARGE", f"the order is for {quantity}")
    if (state is OrderState.FILLED) != (filled == quantity):
        yield Fault("/filledQuantity", "BAD_VALUE", f"an order is FILLED when all of its {quantity} are, and only then")
    if state is OrderState.PARTIALLY_FILLED and filled == 0:
        yield Fault("/filledQuantity", "BAD_VALUE", "a partly filled order has something filled")
    if state is OrderState.REJECTED and filled:
        yield Fault("/filledQuantity", "BAD_VALUE", "a rejected order has nothing filled")
    if (settlement.average_price is None) != (filled == 0):
        yield Fault("/averagePrice", "BAD_VALUE", "what is filled has an average price, and nothing else has one")
