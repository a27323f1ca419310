"""How a broker call ended, and what a broker's book says later."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from domain.lifecycle import OrderState
from domain.orders import OrderType, Validity


@dataclass(frozen=True, slots=True)
class Accepted:
    """The broker gave an order id: a receipt, not an order at the exchange."""

    broker_order_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker's own, documented refusal: surely no order. Its code and words as it gave them."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Provably not taken: no byte of the request left, or an answer that documents it (rate limit, dead session)."""

    why: str
    retry_after_s: float | None = None
    session_dead: bool = False  # the account needs a new login before anything is sent again


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say whether the broker took it: never sent again blindly."""

    why: str


Outcome = Accepted | Refused | NotSent | Unknown


@dataclass(frozen=True, slots=True)
class Fill:
    """One trade of an order, as the exchange numbered it. Unique by (order, exchange, trade id)."""

    trade_id: str
    exchange: str
    quantity: int
    price: Decimal
    at: datetime  # UTC


@dataclass(frozen=True, slots=True)
class BookRow:
    """One order as the broker's book shows it, in our words.

    `state` is None where the broker's status says nothing about the order's state (an interim or unknown word). Terms
    that are None weren't told, and a quantity of 0 neither.
    """

    broker_order_id: str
    tag: str | None
    state: OrderState | None
    status: str  # the broker's own word
    quantity: int
    filled_quantity: int
    average_price: Decimal | None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    message: str | None = None
    exchange_order_id: str | None = None
    at: datetime | None = None  # the broker's last change, UTC
    fills: tuple[Fill, ...] = field(default=())
    order_type: OrderType | None = None
    validity: Validity | None = None
    disclosed_quantity: int | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A read that gave no book; it is evidence of nothing."""

    why: str
    session_dead: bool = False
