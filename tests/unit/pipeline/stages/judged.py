"""Orders and facts for the tests of what the intake stages decide."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from domain.accounts import Totals
from domain.capabilities import Capabilities
from domain.instruments import Instrument
from domain.market import IST
from domain.orders import Order, OrderType, Product, Side, Validity
from domain.reference import all_instruments
from pipeline.stages import margin, risk, validate

TODAY = date(2026, 11, 23)  # a Monday, and the front NIFTY expiry
INSTRUMENTS = all_instruments(TODAY)


def ist(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=IST).astimezone(UTC)


NOON = ist("2026-11-23 12:00")

ABLE = Capabilities(
    broker="zerodha",
    exchanges=frozenset({"NSE", "BSE", "NFO", "BFO", "CDS"}),
    products=frozenset(Product),
    order_types=frozenset(OrderType),
    validities=frozenset(Validity),
)


def an_order(instrument: str = "NSE:INFY", **terms: Any) -> Order:
    """A buy of 10 for delivery at the instrument's close, of account a-1 at Zerodha."""
    known = INSTRUMENTS.get(instrument)
    usual = {
        "side": Side.BUY,
        "quantity": 10,
        "product": Product.CNC,
        "order_type": OrderType.LIMIT,
        "validity": Validity.DAY,
        "price": known.close if known else Decimal(100),
        "broker": "zerodha",
        "account_id": "a-1",
    }
    return Order(
        id="o-1",
        intent_id="i-1",
        line=0,
        correlation_id="leg-1",
        user_id="u-1",
        instrument=instrument,
        accepted_at=NOON,
        send_before=NOON,
        **{**usual, **terms},
    )


def a_derivative_order(instrument: str = "NFO:NIFTY26DECFUT", **terms: Any) -> Order:
    usual = {"product": Product.NRML, "quantity": INSTRUMENTS[instrument].lot_size}
    return an_order(instrument, **{**usual, **terms})


def validate_facts(*, at: datetime = NOON, calendar: str = "NSE", able: Capabilities = ABLE) -> validate.Facts:
    return validate.Facts(
        instruments=INSTRUMENTS, now=at, calendars={"a-1": calendar}, capabilities={able.broker: able}
    )


def totals(**taken: int) -> Totals:
    usual = {
        "limit_paise": 100_000_000,
        "blocked_paise": 0,
        "exposure_paise": 0,
        "open_orders": 0,
        "second": 0,
        "orders_this_second": 0,
    }
    return Totals(account_id="a-1", **{**usual, **taken})


def risk_facts(account: Totals | None = None, **limits: Any) -> risk.Facts:
    return risk.Facts(
        instruments=INSTRUMENTS, totals={"a-1": account or totals()}, limits=risk.RiskLimits(**limits), now=NOON
    )


def margin_facts(account: Totals | None = None, **other: Any) -> margin.Facts:
    return margin.Facts(instruments=INSTRUMENTS, totals={"a-1": account or totals()}, trade_date=TODAY, **other)


def an_instrument(key: str) -> Instrument:
    return INSTRUMENTS[key]
