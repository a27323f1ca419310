"""Plain orders, instruments and sessions for the adapters' tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from brokers.base import Line, Session
from domain.instruments import Instrument, Kind, Segment
from domain.orders import Order, OrderType, Product, Side, Validity

TAG = "QX00000000000000001"
NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)

SESSION = Session("acc-1", "any", api_key="key1", api_secret="hush-secret", access_token="hush-token")

INFY = Instrument(
    key="NSE:INFY",
    exchange="NSE",
    symbol="INFY",
    segment=Segment.CASH,
    kind=Kind.EQUITY,
    name="Infosys",
    series="EQ",
    isin="INE009A01021",
    token=1594,
    lot_size=1,
    tick=Decimal("0.05"),
    freeze_quantity=100_000,
    band_percent=None,
    close=Decimal("1500"),
)
NIFTY = replace(
    INFY,
    key="NFO:NIFTY26NOVFUT",
    exchange="NFO",
    symbol="NIFTY26NOVFUT",
    segment=Segment.EQUITY_DERIVATIVES,
    kind=Kind.FUTURE,
    series="",
    isin=None,
    token=43919,
    lot_size=75,
    underlying="NIFTY",
    expiry=date(2026, 11, 24),
    is_index=True,
)


def an_order(**given: Any) -> Order:
    terms: dict[str, Any] = {
        "id": "0190",
        "intent_id": "0190",
        "line": 1,
        "correlation_id": "c1",
        "user_id": "u1",
        "instrument": "NSE:INFY",
        "side": Side.BUY,
        "quantity": 10,
        "product": Product.CNC,
        "order_type": OrderType.LIMIT,
        "validity": Validity.DAY,
        "price": Decimal("1500.10"),
        "broker_tag": TAG,
        "accepted_at": NOW,
        "send_before": NOW + timedelta(minutes=2),
    }
    return Order(**{**terms, **given})


def a_line(instrument: Instrument = INFY, **given: Any) -> Line:
    return Line(an_order(instrument=instrument.key, **given), instrument)


def some_lines(count: int) -> list[Line]:
    return [a_line(line=n, broker_tag=f"QX{n:017d}") for n in range(1, count + 1)]
