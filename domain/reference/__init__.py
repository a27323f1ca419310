"""What can be traded, as the project ships it: cash instruments from a file, derivatives generated for the day.

A broker's own master of the day always wins over this; it is what there is without one, and what the simulators list.
Everything is read on first use and kept. Nothing here may be changed by who reads it.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import cache, lru_cache

from domain.instruments import Instrument
from domain.reference.cash import cash
from domain.reference.contracts import aliases_of, derivatives_of, underlyings


@cache
def cash_instruments() -> tuple[Instrument, ...]:
    return cash()


@lru_cache(maxsize=4)
def derivatives(today: date) -> tuple[Instrument, ...]:
    """The futures and options that are listed on that day, its own expiries included."""
    return tuple(
        instrument for underlying in underlyings().values() for instrument in derivatives_of(underlying, today)
    )


@lru_cache(maxsize=4)
def all_instruments(today: date) -> dict[str, Instrument]:
    """By key, such as "NSE:INFY" or "NFO:NIFTY26DECFUT"."""
    return {instrument.key: instrument for instrument in (*cash_instruments(), *derivatives(today))}


@lru_cache(maxsize=4)
def aliases(today: date) -> dict[str, str]:
    """Names that never expire, and the keys they stand for on that day.

    "NFO:NIFTY-FUT" is the front future; "NFO:NIFTY-CE-ATM" and "-PE-ATM" are the front options (weekly where there are
    any) with the strike nearest to the reference level.
    """
    return {alias: key for underlying in underlyings().values() for alias, key in aliases_of(underlying, today)}


@cache
def reference_levels() -> dict[str, Decimal]:
    """What each underlying stood at, by its symbol, in rupees or index points."""
    return {underlying.symbol: underlying.reference for underlying in underlyings().values()}
