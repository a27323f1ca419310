"""A small exchange with three instruments and one account, on a clock that stands still."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from brokers.simulator.accounts import Account
from brokers.simulator.book import Ask, SimOrder, Terms
from brokers.simulator.exchange import Exchange
from brokers.simulator.journal import Journal
from brokers.simulator.listing import Listing
from brokers.simulator.settings import Settings
from domain.instruments import Instrument, Kind, Segment
from domain.orders import OrderType, Product, Side

NOON = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)  # 12:00 in India
PRICE = Decimal("1000.00")

SHARE = Instrument(
    key="NSE:ACME",
    exchange="NSE",
    symbol="ACME",
    segment=Segment.CASH,
    kind=Kind.EQUITY,
    name="Acme Limited",
    series="EQ",
    isin="INE000A01001",
    token=101,
    lot_size=1,
    tick=Decimal("0.05"),
    freeze_quantity=5000,
    band_percent=Decimal(20),
    close=PRICE,
)
GROSS = Instrument(
    key="NSE:GROSS",
    exchange="NSE",
    symbol="GROSS",
    segment=Segment.CASH,
    kind=Kind.EQUITY,
    name="Gross Limited",
    series="BE",
    isin="INE000A01002",
    token=102,
    lot_size=1,
    tick=Decimal("0.05"),
    freeze_quantity=5000,
    band_percent=Decimal(5),
    close=PRICE,
)
FUTURE = Instrument(
    key="NFO:ACME26NOVFUT",
    exchange="NFO",
    symbol="ACME26NOVFUT",
    segment=Segment.EQUITY_DERIVATIVES,
    kind=Kind.FUTURE,
    name="Acme November",
    series="",
    isin=None,
    token=103,
    lot_size=65,
    tick=Decimal("0.10"),
    freeze_quantity=1800,
    band_percent=None,
    close=PRICE,
    underlying="ACME",
    expiry=date(2026, 11, 24),
)
OPTION = Instrument(
    key="NFO:ACME26NOV1000CE",
    exchange="NFO",
    symbol="ACME26NOV1000CE",
    segment=Segment.EQUITY_DERIVATIVES,
    kind=Kind.CALL,
    name="Acme call",
    series="",
    isin=None,
    token=104,
    lot_size=65,
    tick=Decimal("0.05"),
    freeze_quantity=1800,
    band_percent=None,
    close=Decimal("40.00"),
    underlying="ACME",
    expiry=date(2026, 11, 24),
    strike=Decimal(1000),
)
INSTRUMENTS = (SHARE, GROSS, FUTURE, OPTION)
USER = "UP0001"


def an_exchange(*, seed: str = "1", state: Path | None = None, now: datetime = NOON, **settings: Any) -> Exchange:
    """Its share's price is pinned; each order fills in one trade, unless the settings say otherwise."""
    exchange = Exchange(
        seed=seed,
        settings=Settings(partial_percent=0).changed(settings),
        listing=Listing(lambda today: INSTRUMENTS, now.date()),
        now=now,
        journal=Journal(state),
    )
    exchange.add_account(an_account())
    for instrument in (SHARE, GROSS, FUTURE):
        exchange.pin(instrument, PRICE)
    return exchange


def an_account(user_id: str = USER, **fields: Any) -> Account:
    return Account(
        name=user_id,
        facade="upstox",
        user_id=user_id,
        api_key=f"{user_id}-key",
        api_secret="secret",
        access_token=f"{user_id}-token",
        **fields,
    )


def an_ask(
    quantity: int = 10,
    *,
    price: str | None = None,
    trigger: str | None = None,
    side: Side = Side.BUY,
    product: Product = Product.MIS,
    instrument: Instrument = SHARE,
    terms: dict[str, Any] | None = None,
    **fields: Any,
) -> Ask:
    """A market order; with a price a limit order; with a trigger a stop."""
    kinds = {(0, 0): OrderType.MARKET, (1, 0): OrderType.LIMIT, (1, 1): OrderType.SL, (0, 1): OrderType.SL_M}
    return Ask(
        account=USER,
        instrument=instrument,
        side=side,
        product=product,
        terms=Terms(
            quantity=quantity,
            order_type=kinds[price is not None, trigger is not None],
            price=Decimal(price or 0),
            trigger=Decimal(trigger or 0),
            **(terms or {}),
        ),
        **fields,
    )


def place(exchange: Exchange, ask: Ask | None = None) -> SimOrder:
    return exchange.place(ask or an_ask(), facade="upstox", id_form="{day:%y%m%d}{number:09d}")


def wait(exchange: Exchange, seconds: float = 1) -> None:
    exchange.advance(exchange.now + timedelta(seconds=seconds))


def statuses(order: SimOrder) -> list[str]:
    return [str(row.status) for row in order.rows]
