"""The dated rates that charges are made of: looked up by trade date, never by today's."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from domain.reference.tables import read

ZERO = Decimal(0)
ANY = "*"
HUNDRED = Decimal(100)


class ChargeSegment(StrEnum):
    EQ_DELIVERY = "EQ_DELIVERY"
    EQ_INTRADAY = "EQ_INTRADAY"
    FUND_DELIVERY = "FUND_DELIVERY"  # exchange-traded funds
    EQ_FUT = "EQ_FUT"  # on indices and shares
    EQ_OPT = "EQ_OPT"
    CUR_FUT = "CUR_FUT"
    CUR_OPT = "CUR_OPT"
    COM_FUT = "COM_FUT"
    COM_OPT = "COM_OPT"


class RateUnknown(ValueError):
    """No rate of that kind is known for that day; it is never guessed from another day's."""


class Rate(NamedTuple):
    """A row of the rate table. Sides are BUY, SELL and EXERCISE."""

    code: str
    exchanges: frozenset[str]
    segments: frozenset[str]
    sides: frozenset[str]
    groups: frozenset[str]  # empty: for all
    fraction: Decimal  # of the turnover
    is_taxed: bool  # GST is due on it
    valid_from: date
    valid_to: date | None  # the last day
    source: str
    status: str

    def holds_on(self, day: date) -> bool:
        return self.valid_from <= day and (self.valid_to is None or day <= self.valid_to)


class Plan(NamedTuple):
    """A broker's brokerage, per executed order and before GST: a share of the turnover, at most `cap` rupees."""

    fraction: Decimal | None  # None: always the cap
    cap: Decimal
    minimum: Decimal

    def brokerage(self, turnover: Decimal) -> Decimal:
        if self.fraction is None:
            return self.cap
        return max(min(turnover * self.fraction, self.cap), self.minimum)


Rates = tuple[tuple[str, Decimal, bool], ...]


def rates_of(
    exchange: str, segment: ChargeSegment, side: str, group: str, day: date
) -> tuple[Rates, date, tuple[str, ...]]:
    """(code, fraction, taxed) of each charge on the turnover, the day the newest holds from, and what was assumed.

    Raises:
        RateUnknown: one of the charges has rates, but none that early; or the exchange has no such segment.
    """
    found: dict[str, Rate] = {}
    early: set[str] = set()
    assumed: tuple[str, ...] = ()
    known, charged_as = _group_known(exchange, segment, group)
    if not known:
        assumed = (f"group {group or 'unknown'} of {exchange} is charged as {charged_as}",)
    for rate in _rates():
        if exchange not in rate.exchanges or segment not in rate.segments or side not in rate.sides:
            continue
        if rate.groups and charged_as not in rate.groups:
            continue
        if rate.holds_on(day):
            found[rate.code] = rate
        else:
            early.add(rate.code)
    missing = sorted(early - found.keys())
    if missing or "EXCHANGE" not in found:
        raise RateUnknown(f"no rate of {', '.join(missing) or segment} is known for {exchange} on {day}")
    rates = [(rate.code, rate.fraction, rate.is_taxed) for rate in found.values() if rate.code != "GST"]
    return tuple(rates), max(rate.valid_from for rate in found.values()), assumed


def stt_fraction(segment: ChargeSegment, side: str, day: date) -> Decimal:
    for rate in _rates():
        if rate.code == "STT" and segment in rate.segments and side in rate.sides and rate.holds_on(day):
            return rate.fraction
    raise RateUnknown(f"no STT of {segment}, {side}, is known for {day}")


def gst_fraction(day: date) -> Decimal:
    for rate in _rates():
        if rate.code == "GST" and rate.holds_on(day):
            return rate.fraction
    raise RateUnknown(f"no GST is known for {day}")


def plan_of(broker: str, segment: ChargeSegment, day: date) -> tuple[Plan, tuple[str, ...]]:
    """The broker's plan, and, where it isn't known, that another was assumed.

    Raises:
        RateUnknown: the broker is known, but not its plan of that day.
    """
    rows = [row for row in _plans() if row["broker"] == broker]
    assumed = () if rows else (f"the brokerage plan of {broker} is not known: 20 rupees an order",)
    for row in rows or [row for row in _plans() if row["broker"] == ANY]:
        starts, ends = date.fromisoformat(row["valid_from"]), row["valid_to"]
        if segment in row["segments"].split() and starts <= day and (not ends or day <= date.fromisoformat(ends)):
            fraction = Decimal(row["percent"]) / HUNDRED if row["percent"] else None
            return Plan(fraction, Decimal(row["cap"]), Decimal(row["minimum"] or 0)), assumed
    raise RateUnknown(f"no brokerage plan of {broker} for {segment} is known for {day}")


def depository_fee(broker: str, day: date) -> Decimal:
    """Rupees before GST, for each ISIN sold out of the demat account on a day."""
    rows = read("depository")
    own = [row for row in rows if row["broker"] == broker] or [row for row in rows if row["broker"] == ANY]
    for row in own:
        if date.fromisoformat(row["valid_from"]) <= day:
            return Decimal(row["amount"])
    raise RateUnknown(f"no depository fee of {broker} is known for {day}")


def _group_known(exchange: str, segment: ChargeSegment, group: str) -> tuple[bool, str]:
    """Whether the table names the group, and the group to charge by: itself, all others, or BSE's A."""
    named = {
        name
        for rate in _rates()
        if rate.code == "EXCHANGE" and exchange in rate.exchanges and segment in rate.segments
        for name in rate.groups
    }
    if not named or group in named:
        return True, group
    return (True, ANY) if ANY in named else (False, "A")


@cache
def _rates() -> tuple[Rate, ...]:
    return tuple(
        Rate(
            code=row["code"],
            exchanges=frozenset(row["exchanges"].split()),
            segments=frozenset(row["segments"].split()),
            sides=frozenset(row["side"].split()),
            groups=frozenset(row["groups"].split()),
            fraction=Decimal(row["percent"]) / HUNDRED,
            is_taxed=row["gst"] == "yes",
            valid_from=date.fromisoformat(row["valid_from"]),
            valid_to=date.fromisoformat(row["valid_to"]) if row["valid_to"] else None,
            source=row["source"],
            status=row["status"],
        )
        for row in read("charges")
    )


@cache
def _plans() -> tuple[dict[str, str], ...]:
    return tuple(read("plans"))
