"""Futures and options, generated for a day from the table of underlyings, so that they never run out.

Trading symbols are Zerodha's: a monthly contract names its month (NIFTY26NOV24500CE), a weekly one its day, with the
month as one character (NIFTY26N1724500CE).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from typing import Any

from domain.instruments import Instrument, Kind, Segment
from domain.reference.expiries import monthly, weekly
from domain.reference.premiums import deviation_of, forward_of, nearest_tick, premium
from domain.reference.tables import read
from domain.reference.ticks import tick_for

FUTURE_MONTHS = 3
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
SOURCE = "generated from the table of underlyings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Underlying:
    number: int  # its own for ever: tokens are made of it
    symbol: str
    name: str
    exchange: str  # of its derivatives
    kind: str  # INDEX, STOCK or CURRENCY
    lot: int
    tick_rule: str
    freeze_quantity: int
    expiry: str  # the rule, see expiries
    strike_step: Decimal
    strikes: int  # listed on each side of the reference level
    weeks: int  # weekly expiries listed
    option_months: int
    reference: Decimal
    volatility: Decimal  # a year, as a fraction


def derivatives_of(underlying: Underlying, today: date) -> Iterator[Instrument]:
    months = monthly(underlying.exchange, underlying.expiry, today, FUTURE_MONTHS)
    for expiry in months:
        yield future(underlying, expiry, today)
    weeks = weekly(underlying.exchange, underlying.expiry, today, underlying.weeks)
    for expiry in sorted({*weeks, *months[: underlying.option_months]}):
        yield from options(underlying, expiry, today, is_monthly=expiry in months)


def future(underlying: Underlying, expiry: date, today: date) -> Instrument:
    tick = tick_for(_future_rule(underlying), underlying.reference, today)
    symbol = f"{underlying.symbol}{_month(expiry)}FUT"
    return Instrument(
        key=f"{underlying.exchange}:{symbol}",
        symbol=symbol,
        kind=Kind.FUTURE,
        name=f"{underlying.name} {expiry:%d %b %Y} future",
        token=_token(underlying, expiry, Kind.FUTURE, 0),
        tick=tick,
        close=nearest_tick(forward_of(underlying.reference, (expiry - today).days), tick),
        expiry=expiry,
        **_common(underlying),
    )


def options(underlying: Underlying, expiry: date, today: date, *, is_monthly: bool) -> Iterator[Instrument]:
    tick = tick_for(_option_rule(underlying), underlying.reference, today)
    stem = underlying.symbol + (_month(expiry) if is_monthly else _week(expiry))
    days = (expiry - today).days
    forward, deviation = (
        forward_of(underlying.reference, days),
        deviation_of(underlying.reference, underlying.volatility, days),
    )
    middle = at_the_money(underlying)
    common, day = _common(underlying), f"{expiry:%d %b %Y}"
    for step in range(middle - underlying.strikes, middle + underlying.strikes + 1):
        strike = step * underlying.strike_step
        written = _plain(strike)
        for kind in (Kind.CALL, Kind.PUT):
            symbol = f"{stem}{written}{kind.value}"
            yield Instrument(
                key=f"{underlying.exchange}:{symbol}",
                symbol=symbol,
                kind=kind,
                name=f"{underlying.name} {day} {written} {'call' if kind is Kind.CALL else 'put'}",
                token=_token(underlying, expiry, kind, step),
                tick=tick,
                close=nearest_tick(premium(forward, strike, deviation, kind), tick),
                expiry=expiry,
                strike=strike,
                **common,
            )


def at_the_money(underlying: Underlying) -> int:
    """The strike nearest to the reference level, as a number of strike steps."""
    return int((underlying.reference / underlying.strike_step).quantize(Decimal(1), ROUND_HALF_UP))


def aliases_of(underlying: Underlying, today: date) -> Iterator[tuple[str, str]]:
    """Names that stay the same while contracts come and go: the front future, and the front at-the-money options."""
    prefix = f"{underlying.exchange}:{underlying.symbol}"
    months = monthly(underlying.exchange, underlying.expiry, today, 1)
    yield f"{prefix}-FUT", future(underlying, months[0], today).key
    front = min([*months, *weekly(underlying.exchange, underlying.expiry, today, min(underlying.weeks, 1))])
    stem = underlying.symbol + (_month(front) if front == months[0] else _week(front))
    strike = _plain(at_the_money(underlying) * underlying.strike_step)
    for kind in (Kind.CALL, Kind.PUT):
        yield f"{prefix}-{kind}-ATM", f"{underlying.exchange}:{stem}{strike}{kind}"


@cache
def underlyings() -> dict[str, Underlying]:
    """By symbol."""
    return {
        row["symbol"]: Underlying(
            number=int(row["number"]),
            symbol=row["symbol"],
            name=row["name"],
            exchange=row["exchange"],
            kind=row["kind"],
            lot=int(row["lot"]),
            tick_rule=row["tick_rule"],
            freeze_quantity=int(row["freeze_quantity"]),
            expiry=row["expiry"],
            strike_step=Decimal(row["strike_step"]),
            strikes=int(row["strikes"]),
            weeks=int(row["weeks"]),
            option_months=int(row["option_months"]),
            reference=Decimal(row["reference"]),
            volatility=Decimal(row["volatility_percent"]) / 100,
        )
        for row in read("underlyings")
    }


def _common(underlying: Underlying) -> dict[str, Any]:
    is_currency = underlying.kind == "CURRENCY"
    return {
        "exchange": underlying.exchange,
        "segment": Segment.CURRENCY if is_currency else Segment.EQUITY_DERIVATIVES,
        "series": "",
        "isin": None,
        "lot_size": underlying.lot,
        "freeze_quantity": underlying.freeze_quantity,
        "band_percent": None,
        "underlying": underlying.symbol,
        "is_index": underlying.kind == "INDEX",
        "source": SOURCE,
    }


def _future_rule(underlying: Underlying) -> str:
    """Stock futures tick as their stock does."""
    match underlying.tick_rule:
        case "NSE_STOCK":
            return "NSE_CASH"
        case "CURRENCY":
            return "CURRENCY"
        case rule:
            return f"{rule}_FUTURE"


def _option_rule(underlying: Underlying) -> str:
    return "CURRENCY" if underlying.tick_rule == "CURRENCY" else f"{underlying.tick_rule}_OPTION"


_KINDS = {Kind.FUTURE: 0, Kind.CALL: 1, Kind.PUT: 2}


def _token(underlying: Underlying, expiry: date, kind: Kind, step: int) -> int:
    """A number below 2**24, unique by what it is made of and the same on every day.

    Five bits for the underlying, six for the expiry's week, two for the kind and eleven for the strike.
    """
    week = expiry.toordinal() // 7 % 64
    return ((underlying.number % 32 * 64 + week) * 4 + _KINDS[kind]) * 2048 + step % 2048


def _month(expiry: date) -> str:
    """Such as "26NOV"."""
    return f"{expiry:%y}{MONTHS[expiry.month - 1]}"


def _week(expiry: date) -> str:
    """Such as "26N17"; October, November and December are O, N and D."""
    month = MONTHS[expiry.month - 1][0] if expiry.month > 9 else str(expiry.month)
    return f"{expiry:%y}{month}{expiry:%d}"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
