"""An order: one line of an intent, in the trade's own words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from domain.groups import GroupPolicy
from domain.lifecycle import OrderState


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class Product(StrEnum):
    CNC = "CNC"  # cash and carry: equity delivery
    MIS = "MIS"  # margin intraday square-off
    NRML = "NRML"  # carried derivatives
    MTF = "MTF"  # margin trading facility


class OrderType(StrEnum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"
    SL = "SL"  # stop-limit
    SL_M = "SL-M"  # stop-market


class Validity(StrEnum):
    DAY = "DAY"
    IOC = "IOC"  # immediate or cancel


PRICED = frozenset({OrderType.LIMIT, OrderType.SL})
TRIGGERED = frozenset({OrderType.SL, OrderType.SL_M})


@dataclass(slots=True, kw_only=True)
class Order:
    """One order as its row holds it.

    Mutable on purpose: a stage changes the order it holds under the row's lock, and the change is recorded with its
    event in the same transaction. Nothing else changes it.

    Units: quantities are units of the instrument (not lots); prices are rupees; `blocked_paise` is the margin held
    for it now, `exposure_paise` what it counts towards the account's exposure.
    """

    id: str
    intent_id: str
    line: int
    parent_id: str | None = None  # of a slice: the order that was over the freeze quantity
    slices: int = 0  # of a parent: how many it was cut into; its own figures are their sums
    correlation_id: str
    user_id: str
    instrument: str  # canonical, "NSE:INFY"
    side: Side
    quantity: int
    product: Product
    order_type: OrderType
    validity: Validity
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    disclosed_quantity: int = 0
    market_protection: Decimal | None = None  # percent; None is the broker's own choice
    wanted_broker: str | None = None
    wanted_account: str | None = None
    strategy: str | None = None
    tag: str | None = None  # the user's own word; never sent to a broker
    broker_tag: str = ""
    broker: str | None = None
    account_id: str | None = None
    broker_order_id: str | None = None
    state: OrderState = OrderState.RECEIVED
    last_seq: int = 0  # of its events
    version: int = 1  # the ETag: moves when terms move, not when it fills
    filled_quantity: int = 0
    average_price: Decimal | None = None
    reason_code: str | None = None
    reason: str | None = None
    blocked_paise: int = 0
    exposure_paise: int = 0
    cancel_requested: bool = False
    accepted_at: datetime
    send_before: datetime  # past it, it is not sent any more
    changing: int = 0  # modifies and cancels of it that are under way
    modifies: int = 0  # modify calls that were made for it: brokers allow so many
    policy: GroupPolicy | None = None  # of its group; None where no line of its intent waits for another
    after: str | None = None  # the correlationId of the line that has to be filled first

    @property
    def is_parent(self) -> bool:
        return self.slices > 0

    @property
    def is_buy(self) -> bool:
        return self.side == Side.BUY

    @property
    def pending_quantity(self) -> int:
        return self.quantity - self.filled_quantity
