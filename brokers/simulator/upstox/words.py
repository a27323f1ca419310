"""Upstox's names for instruments, products and statuses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from brokers.simulator.clock import IST, ist
from domain.instruments import Instrument, Kind
from domain.orders import Product

SEGMENTS = {"NSE": "NSE_EQ", "BSE": "BSE_EQ", "NFO": "NSE_FO", "BFO": "BSE_FO", "CDS": "NCD_FO", "MCX": "MCX_FO"}
PRODUCTS = {Product.CNC: "D", Product.NRML: "D", Product.MIS: "I", Product.MTF: "MTF"}


def segment(instrument: Instrument) -> str:
    return SEGMENTS[instrument.exchange]


def instrument_key(instrument: Instrument) -> str:
    """ "NSE_EQ|INE002A01018" for shares, "NSE_FO|43919" for contracts."""
    return f"{segment(instrument)}|{instrument.token if instrument.is_derivative else instrument.isin}"


def product(letter: str, instrument: Instrument) -> Product | None:
    match letter:
        case "D":
            return Product.NRML if instrument.is_derivative else Product.CNC
        case "I":
            return Product.MIS
        case "MTF":
            return Product.MTF
    return None


def listed_symbol(instrument: Instrument) -> str:
    """As the instruments file has it: "SBIN", "NIFTY 26000 CE 24 NOV 26"."""
    if instrument.expiry is None:
        return instrument.symbol
    expiry = f"{instrument.expiry:%d %b %y}".upper()
    if instrument.kind is Kind.FUTURE:
        return f"{instrument.underlying} FUT {expiry}"
    return f"{instrument.underlying} {(instrument.strike or 0):f} {instrument.kind} {expiry}"


def book_symbol(instrument: Instrument) -> str:
    """As the order book has it: "SBIN-EQ" for shares of the NSE."""
    if instrument.exchange == "NSE":
        return f"{instrument.symbol}-{instrument.series}"
    return listed_symbol(instrument)


def timestamp(moment: datetime | None) -> str | None:
    return None if moment is None else f"{ist(moment):%Y-%m-%d %H:%M:%S}"


def trade_timestamp(moment: datetime) -> str:
    return f"{ist(moment):%d-%b-%Y %H:%M:%S}"


def instrument_row(instrument: Instrument) -> dict[str, Any]:
    """One entry of the instruments file; ticks are in paise there."""
    row: dict[str, Any] = {
        "segment": segment(instrument),
        "name": instrument.name,
        "exchange": instrument.exchange if not instrument.is_derivative else segment(instrument).removesuffix("_FO"),
        "isin": instrument.isin,
        "instrument_type": instrument.series if not instrument.is_derivative else str(instrument.kind),
        "instrument_key": instrument_key(instrument),
        "lot_size": instrument.lot_size,
        "freeze_quantity": float(instrument.freeze_quantity),
        "exchange_token": str(instrument.token),
        "tick_size": float(instrument.tick * 100),
        "trading_symbol": listed_symbol(instrument),
        "short_name": instrument.underlying or instrument.symbol,
        "security_type": "NORMAL",
    }
    if instrument.expiry is not None:
        end = datetime(instrument.expiry.year, instrument.expiry.month, instrument.expiry.day, 23, 59, 59, tzinfo=IST)
        row |= {
            "expiry": int(end.timestamp() * 1000),
            "underlying_symbol": instrument.underlying,
            "underlying_type": "INDEX" if instrument.is_index else "EQUITY",
            "minimum_lot": instrument.lot_size,
            "strike_price": float(instrument.strike or 0),
        }
    return row
