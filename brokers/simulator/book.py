"""The exchange's records: an order, each state it went through, and its trades."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from domain.instruments import Instrument
from domain.orders import OrderType, Product, Side, Validity

NOTHING = Decimal(0)


class Status(StrEnum):
    RECEIVED = "put order req received"
    VALIDATION = "validation pending"
    OPEN_PENDING = "open pending"
    OPEN = "open"
    TRIGGER_PENDING = "trigger pending"
    MODIFY_VALIDATION = "modify validation pending"
    MODIFY_PENDING = "modify pending"
    MODIFIED = "modified"
    NOT_MODIFIED = "not modified"
    CANCEL_PENDING = "cancel pending"
    NOT_CANCELLED = "not cancelled"
    COMPLETE = "complete"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    AMO_RECEIVED = "after market order req received"
    AMO_MODIFY_RECEIVED = "modify after market order req received"
    AMO_CANCELLED = "cancelled after market order"


FINAL = frozenset({Status.COMPLETE, Status.CANCELLED, Status.REJECTED, Status.AMO_CANCELLED})
WORKING = frozenset({Status.OPEN, Status.TRIGGER_PENDING})
AFTER_MARKET = frozenset({Status.AMO_RECEIVED, Status.AMO_MODIFY_RECEIVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a modify may change. Prices are 0 where the type has none, as on the wire."""

    quantity: int
    order_type: OrderType
    price: Decimal = NOTHING
    trigger: Decimal = NOTHING
    validity: Validity = Validity.DAY
    disclosed: int = 0
    protection: Decimal | None = None  # percent from the last price; -1: the broker's own choice

    @property
    def is_stop(self) -> bool:
        return self.order_type in (OrderType.SL, OrderType.SL_M)

    @property
    def limit(self) -> Decimal | None:
        return self.price if self.order_type in (OrderType.LIMIT, OrderType.SL) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """An order as a facade hands it over, after it has checked its form."""

    account: str  # user id
    instrument: Instrument
    side: Side
    product: Product
    terms: Terms
    tag: str | None = None
    variety: str = "regular"
    hidden_s: float = 0.0  # a fault: so much later it appears in the book
    forced_refusal: str | None = None  # a fault: the exchange's reason to reject it
    parent_order_id: str | None = None
    extra_tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One state an order went through."""

    at: datetime
    status: Status
    message: str | None
    terms: Terms
    filled: int
    average: Decimal  # of what is filled; 0 before


@dataclass(frozen=True, slots=True)
class Trade:
    trade_id: str
    quantity: int
    price: Decimal
    at: datetime


@dataclass(slots=True, kw_only=True)
class SimOrder:
    """One order of the exchange. Only the exchange changes it."""

    sequence: int
    order_id: str
    facade: str
    ask: Ask
    accepted_at: datetime
    visible_at: datetime
    day: int  # the book it belongs to
    terms: Terms
    status: Status = Status.RECEIVED
    message: str | None = None
    exchange_order_id: str | None = None
    filled: int = 0
    turnover: Decimal = NOTHING  # sum of price times quantity
    rows: list[Row] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    extra_tags: tuple[str, ...] = ()
    modifications: int = 0
    wanted: Terms | None = None  # of the modification under way
    refusal: str | None = None  # why it will be rejected, once the walk gets there
    refusal_code: str = ""
    triggered: bool = False
    arrived: bool = False  # the exchange has it
    cancel_wanted: bool = False

    @property
    def account(self) -> str:
        return self.ask.account

    @property
    def instrument(self) -> Instrument:
        return self.ask.instrument

    @property
    def is_buy(self) -> bool:
        return self.ask.side is Side.BUY

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def pending(self) -> int:
        return self.terms.quantity - self.filled

    @property
    def average(self) -> Decimal:
        """To four places, as brokers show it."""
        return (self.turnover / self.filled).quantize(Decimal("0.0001")) if self.filled else NOTHING

    @property
    def waits_for_trigger(self) -> bool:
        return self.terms.is_stop and not self.triggered

    def add(self, trade: Trade) -> None:
        self.trades.append(trade)
        self.filled += trade.quantity
        self.turnover += trade.price * trade.quantity

    @property
    def rests_as(self) -> Status:
        return Status.TRIGGER_PENDING if self.waits_for_trigger else Status.OPEN
