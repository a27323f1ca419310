"""The codes of the orders that validate, risk and margin refuse, and how their reasons show numbers.

A reason names the rule that was passed, the order's number and the limit, and, where there is one, the mend.
`docs/rejections.md` has each code's rule and mend in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from domain.market import IST
from domain.money import Money
from domain.verdicts import Reject


class Code(StrEnum):
    # validate
    UNKNOWN_INSTRUMENT = "UNKNOWN_INSTRUMENT"
    INSTRUMENT_EXPIRED = "INSTRUMENT_EXPIRED"
    EXCHANGE_NOT_OFFERED = "EXCHANGE_NOT_OFFERED"  # by the broker
    PRODUCT_NOT_ALLOWED = "PRODUCT_NOT_ALLOWED"
    ORDER_TYPE_NOT_ALLOWED = "ORDER_TYPE_NOT_ALLOWED"
    VALIDITY_NOT_ALLOWED = "VALIDITY_NOT_ALLOWED"
    PRICE_TERMS = "PRICE_TERMS"  # a price or trigger missing, or there where its type has none
    TRIGGER_RELATION = "TRIGGER_RELATION"
    STOP_LIMIT_GAP = "STOP_LIMIT_GAP"
    TICK_SIZE = "TICK_SIZE"
    LOT_SIZE = "LOT_SIZE"
    FREEZE_QUANTITY = "FREEZE_QUANTITY"
    DISCLOSED_QUANTITY = "DISCLOSED_QUANTITY"
    MARKET_PROTECTION = "MARKET_PROTECTION"
    MARKET_CLOSED = "MARKET_CLOSED"
    MARKET_PHASE = "MARKET_PHASE"  # open, but not for such an order
    MIS_CUTOFF = "MIS_CUTOFF"
    # risk
    RESTRICTED = "RESTRICTED"
    RISK_LIMIT = "RISK_LIMIT"
    PRICE_BAND = "PRICE_BAND"
    PRICE_DEVIATION = "PRICE_DEVIATION"
    MODIFY_QUANTITY_DELTA = "MODIFY_QUANTITY_DELTA"
    MODIFY_PRICE_DELTA = "MODIFY_PRICE_DELTA"
    # margin
    MARGIN_ESTIMATE = "MARGIN_ESTIMATE"


class Breach(NamedTuple):
    """One rule that an order passed."""

    code: Code
    reason: str


def rejection(breaches: Sequence[Breach]) -> Reject:
    """All reasons under the code of the first."""
    return Reject(breaches[0].code.value, tuple(breach.reason for breach in breaches))


def shown(price: Decimal) -> str:
    """A price in rupees with two decimals, more where it has more: "₹1,512.50", "₹95.8025"."""
    money = Money.of_rupees(price)
    return str(money) if money.rupees == price else f"₹{price.normalize():f}"


def plain(number: Decimal) -> str:
    """Without trailing zeros: "5", "2.5"."""
    return f"{number.normalize():f}"


def clock(at: datetime) -> str:
    """Such as "Mon 23 Nov 2026 09:00 IST"."""
    return f"{at.astimezone(IST):%a %d %b %Y %H:%M} IST"
