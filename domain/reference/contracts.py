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
from domain.reference import expiries, tables
from domain.reference.ticks import tick_for

FUTURE_MONTHS = 3
CARRY = Decimal("0.065")  # a future stands above its underlying by this rate a year
DAYS_A_YEAR = 365
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
    months = expiries.monthly(underlying.exchange, underlying.expiry, today, FUTURE_MONTHS)
    for expiry in months:
        yield future(underlying, expiry, today)
    weeks = expiries.weekly(underlying.exchange, underlying.expiry, today, underlying.weeks)
    for expiry in sorted({*weeks, *months[: underlying.option_months]}):
        yield from options(underlying, expiry, today, monthly=expiry in months)


def future(underlying: Underlying, expiry: date, today: date) -> Instrument:
    tick = tick_for(_future_rule(underlying), underlying.reference, today)
    symbol = f"{underlying.symbol}{expiry:%y%b}".upper() + "FUT"
    return Instrument(
        key=f"{underlying.exchange}:{symbol}",
        symbol=symbol,
        kind=Kind.FUTURE,
        name=f"{underlying.name} {expiry:%d %b %Y} future",
        token=_token(underlying, expiry, Kind.FUTURE, 0),
        tick=tick,
        close=_to_tick(_forward(underlying, expiry, today), tick),
        expiry=expiry,
        **_common(underlying),
    )


def options(underlying: Underlying, expiry: date, today: date, *, monthly: bool) -> Iterator[Instrument]:
    tick = tick_for(_option_rule(underlying), underlying.reference, today)
    stem = underlying.symbol + (f"{expiry:%y%b}".upper() if monthly else _week(expiry))
    forward, deviation = _forward(underlying, expiry, today), _deviation(underlying, expiry, today)
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
                close=_to_tick(_premium(forward, strike, deviation, kind), tick),
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
    months = expiries.monthly(underlying.exchange, underlying.expiry, today, 1)
    yield f"{prefix}-FUT", future(underlying, months[0], today).key
    front = min([*months, *expiries.weekly(underlying.exchange, underlying.expiry, today, min(underlying.weeks, 1))])
    stem = underlying.symbol + (f"{front:%y%b}".upper() if front == months[0] else _week(front))
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
        for row in tables.read("underlyings")
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


def _forward(underlying: Underlying, expiry: date, today: date) -> Decimal:
    return underlying.reference * (1 + CARRY * (expiry - today).days / DAYS_A_YEAR)


def _deviation(underlying: Underlying, expiry: date, today: date) -> Decimal:
    """How far the underlying usually moves until expiry, in rupees; never less than for half a day."""
    days = max(Decimal((expiry - today).days), Decimal("0.5"))
    return underlying.reference * underlying.volatility * (days / DAYS_A_YEAR).sqrt()


_AT_THE_MONEY = Decimal("0.4")  # of a deviation (Bachelier's formula)
_FADED = Decimal("2.5")  # deviations
_NOTHING = Decimal(0)


def _premium(forward: Decimal, strike: Decimal, deviation: Decimal, kind: Kind) -> Decimal:
    """A plausible premium: what the option is worth now, and a time value that fades with the distance to its strike."""
    worth = forward - strike if kind is Kind.CALL else strike - forward
    nearness = max(1 - abs(worth) / (deviation * _FADED), _NOTHING)
    return max(worth, _NOTHING) + deviation * _AT_THE_MONEY * nearness * nearness


_HALF = Decimal("0.5")


def _to_tick(price: Decimal, tick: Decimal) -> Decimal:
    """The nearest tick, and at least one."""
    return max(int(price / tick + _HALF), 1) * tick


def _week(expiry: date) -> str:
    month = "123456789OND"[expiry.month - 1]
    return f"{expiry:%y}{month}{expiry:%d}"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
