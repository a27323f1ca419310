"""What can be traded: one instrument of one exchange, as the day's master lists it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum


class Kind(StrEnum):
    EQUITY = "EQ"
    FUTURE = "FUT"
    CALL = "CE"
    PUT = "PE"


class Segment(StrEnum):
    CASH = "CASH"
    EQUITY_DERIVATIVES = "FO"
    CURRENCY = "CURRENCY"
    COMMODITY = "COMMODITY"


# Where each segment trades: an instrument's key begins with its exchange.
EXCHANGES: dict[Segment, tuple[str, ...]] = {
    Segment.CASH: ("NSE", "BSE"),
    Segment.EQUITY_DERIVATIVES: ("NFO", "BFO"),
    Segment.CURRENCY: ("CDS", "BCD"),
    Segment.COMMODITY: ("MCX", "NCO"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One tradable thing.

    Prices are rupees per unit; quantities are units, not lots. `band_percent` is None where the exchange sets no
    fixed band (stocks with derivatives: a dynamic 10 %). `close` is the reference price bands are counted from.
    """

    key: str  # canonical: "NSE:INFY", "NFO:NIFTY26NOVFUT"
    exchange: str  # NSE, BSE, NFO, BFO, CDS
    symbol: str  # the trading symbol, Zerodha's spelling
    segment: Segment
    kind: Kind
    name: str
    series: str  # NSE: EQ, BE, …; BSE: its group (A, B, T, …); empty for derivatives
    isin: str | None
    token: int  # the exchange's own number, unique in its exchange
    lot_size: int
    tick: Decimal
    freeze_quantity: int  # the largest quantity of one order; above it the exchange refuses
    band_percent: Decimal | None
    close: Decimal
    multiplier: int = 1  # units of value in one unit of quantity (1 where quantity is in units)
    underlying: str | None = None
    expiry: date | None = None
    strike: Decimal | None = None
    is_index: bool = False  # the underlying is an index
    source: str = ""

    @property
    def is_derivative(self) -> bool:
        return self.kind is not Kind.EQUITY

    @property
    def is_option(self) -> bool:
        return self.kind in (Kind.CALL, Kind.PUT)
