"""When the exchanges trade, and what they take at which time of day.

Session times are data with the day they hold from, and no close is ever assumed: since 2026-08-03 stocks with
derivatives end in a closing auction from 15:15 and derivatives trade until 15:40; since 2026-09-07 the pre-open has two
parts. Times go in and come out in UTC; the exchanges' own are Indian Standard Time, which has no summer time.

The calendar SIM, that of simulated accounts, is always open and takes everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from enum import StrEnum
from functools import cache, lru_cache
from itertools import groupby

from domain.instruments import Instrument, Kind
from domain.orders import OrderType
from domain.reference.calendar import is_trading_day, special_days
from domain.reference.tables import read

IST = timezone(timedelta(hours=5, minutes=30), "IST")
SIM = "SIM"
ONE_DAY = timedelta(days=1)
LONGEST_CLOSURE = 15  # days; no exchange was ever closed for longer


class PhaseName(StrEnum):
    CLOSED = "CLOSED"
    PRE_OPEN = "PRE_OPEN"
    PRE_OPEN_LIMIT = "PRE_OPEN_LIMIT"  # limit orders only
    PRE_OPEN_MATCHING = "PRE_OPEN_MATCHING"
    CONTINUOUS = "CONTINUOUS"
    CAS_REFERENCE = "CAS_REFERENCE"  # the closing auction's reference price is found
    CAS = "CAS"
    CAS_LIMIT = "CAS_LIMIT"
    CAS_MATCHING = "CAS_MATCHING"
    POST_CLOSE = "POST_CLOSE"  # at the closing price


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the trading day, from `opens` until just before `closes` (UTC), and what it takes."""

    name: PhaseName
    opens: datetime
    closes: datetime
    order_types: frozenset[OrderType]
    ioc: bool
    disclosed: bool  # part of the quantity may be hidden

    @property
    def takes_orders(self) -> bool:
        return bool(self.order_types)

    @property
    def window(self) -> str:
        """Such as "09:05–09:10 IST"."""
        return f"{self.opens.astimezone(IST):%H:%M}–{self.closes.astimezone(IST):%H:%M} IST"


def phase(calendar: str, at: datetime, *, has_derivatives: bool = False, is_future: bool = False) -> Phase:
    """The phase of a calendar (an exchange, or SIM) at a moment; where nothing is on, CLOSED until orders are taken again.

    Args:
        has_derivatives: for shares: whether they have futures and options, and so a closing auction.
        is_future: for derivatives: whether it is a future; NSE's have a pre-open, options have none.
    """
    if calendar == SIM:
        return always_open(at)
    return _phase(calendar, _group(calendar, has_derivatives, is_future), at)


def phase_for(instrument: Instrument, calendar: str, at: datetime) -> Phase:
    """The phase that holds for one instrument. `calendar` is SIM, or any exchange: then the instrument's own counts."""
    return phase(
        SIM if calendar == SIM else instrument.exchange,
        at,
        has_derivatives=instrument.band_percent is None,
        is_future=instrument.kind is Kind.FUTURE,
    )


def is_open(calendar: str, at: datetime, *, has_derivatives: bool = False, is_future: bool = False) -> bool:
    """Whether orders are taken, of whatever type."""
    return phase(calendar, at, has_derivatives=has_derivatives, is_future=is_future).takes_orders


def session_end(calendar: str, at: datetime, *, has_derivatives: bool = False) -> datetime:
    """When the session that runs at `at` stops taking orders; when none runs, the next one. SIM: a day from `at`.

    Phases that follow each other without a gap are one session, so that the post-close is one of its own.
    """
    if calendar == SIM:
        return at + ONE_DAY
    return end_of_session((calendar, _group(calendar, has_derivatives, False)), at)


def next_open(calendar: str, at: datetime, *, has_derivatives: bool = False, is_future: bool = False) -> datetime:
    """When orders are taken next: `at` itself where they are taken then."""
    if calendar == SIM:
        return at
    return _next_open(calendar, _group(calendar, has_derivatives, is_future), at)


def last_close(instrument: Instrument, day: date) -> datetime | None:
    """When the instrument's last session of that day ends; None where it has none."""
    group = _group(instrument.exchange, instrument.band_percent is None, instrument.kind is Kind.FUTURE)
    return max(_session_ends(instrument.exchange, group, day), default=None)


# Instruments whose sessions are the same: their exchange, and which of its times hold.
Session = tuple[str, str]
SESSIONS: tuple[Session, ...] = (
    *((exchange, group) for exchange in ("NSE", "BSE") for group in ("CASH", "CASH_WITH_DERIVATIVES")),
    ("NFO", "NSE_FUTURES"),
    ("NFO", "DERIVATIVES"),
    ("BFO", "DERIVATIVES"),
    ("CDS", "CURRENCY"),
)


def session_of(instrument: Instrument) -> Session:
    """Raises ValueError where the sessions of its exchange are not known."""
    group = _group(instrument.exchange, instrument.band_percent is None, instrument.kind is Kind.FUTURE)
    return instrument.exchange, group


def has_sessions(instrument: Instrument) -> bool:
    """Whether the sessions of its exchange are known."""
    return any(instrument.exchange == exchange for exchange, _ in SESSIONS)


def end_of_session(session: Session, at: datetime) -> datetime:
    """As `session_end`, for instruments of one kind."""
    exchange, group = session
    for day in _days_from(at):
        for end in _session_ends(exchange, group, day):
            if at < end:
                return end
    raise ValueError(f"{exchange} has no session within {LONGEST_CLOSURE} days of {at}")


def trading_day(at: datetime) -> date:
    """The date in India, which is the trade date of what is traded then."""
    return at.astimezone(IST).date()


@lru_cache(maxsize=512)
def day_phases(exchange: str, group: str, day: date) -> tuple[Phase, ...]:
    """The phases of one day in order; none on a holiday."""
    special = special_days().get((exchange, day))
    if special is not None and special.opens and special.closes:
        continuous = next(row for row in _generation(group, day) if row.name is PhaseName.CONTINUOUS)
        return (continuous.on(day, special.opens, special.closes),)
    if not is_trading_day(exchange, day):
        return ()
    return tuple(row.on(day, row.opens, row.closes) for row in _generation(group, day))


@lru_cache(maxsize=256)
def always_open(at: datetime) -> Phase:
    return Phase(PhaseName.CONTINUOUS, at, at + ONE_DAY, frozenset(OrderType), ioc=True, disclosed=True)


@lru_cache(maxsize=256)
def _phase(exchange: str, group: str, at: datetime) -> Phase:
    for part in day_phases(exchange, group, trading_day(at)):
        if part.opens <= at < part.closes:
            return part
    return Phase(PhaseName.CLOSED, at, _next_open(exchange, group, at), frozenset(), ioc=False, disclosed=False)


def _next_open(exchange: str, group: str, at: datetime) -> datetime:
    for day in _days_from(at):
        for part in day_phases(exchange, group, day):
            if part.takes_orders and at < part.closes:
                return max(at, part.opens)
    raise ValueError(f"{exchange} has no session within {LONGEST_CLOSURE} days of {at}")


def _session_ends(exchange: str, group: str, day: date) -> Iterator[datetime]:
    end: datetime | None = None
    last_closes: datetime | None = None
    for part in day_phases(exchange, group, day):
        if end is not None and part.opens != last_closes:
            yield end
        if part.takes_orders:
            end = part.closes
        last_closes = part.closes
    if end is not None:
        yield end


def _group(exchange: str, has_derivatives: bool, is_future: bool) -> str:
    """Which rows of the sessions table hold. BSE's cash times are taken to be NSE's (not verified)."""
    match exchange:
        case "NSE" | "BSE":
            return "CASH_WITH_DERIVATIVES" if has_derivatives else "CASH"
        case "NFO" if is_future:
            return "NSE_FUTURES"
        case "NFO" | "BFO":
            return "DERIVATIVES"
        case "CDS":
            return "CURRENCY"
        case _:
            raise ValueError(f"the sessions of {exchange} are not known")


def _days_from(at: datetime) -> Iterator[date]:
    first = trading_day(at)
    return (first + timedelta(days=n) for n in range(LONGEST_CLOSURE))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the sessions table."""

    name: PhaseName
    opens: time
    closes: time
    order_types: frozenset[OrderType]
    ioc: bool
    disclosed: bool

    def on(self, day: date, opens: time, closes: time) -> Phase:
        return Phase(self.name, _utc(day, opens), _utc(day, closes), self.order_types, self.ioc, self.disclosed)


def _utc(day: date, at: time) -> datetime:
    return datetime.combine(day, at, IST).astimezone(UTC)


def _generation(group: str, day: date) -> tuple[Row, ...]:
    for valid_from, rows in _generations()[group]:
        if valid_from <= day:
            return rows
    raise ValueError(f"the sessions of {group} on {day} are not known")


@cache
def _generations() -> dict[str, list[tuple[date, tuple[Row, ...]]]]:
    """By group, the newest first."""
    found: dict[str, list[tuple[date, tuple[Row, ...]]]] = {}
    for (group, valid_from), lines in groupby(read("sessions"), key=lambda row: (row["group"], row["valid_from"])):
        rows = tuple(
            Row(
                PhaseName(line["phase"]),
                time.fromisoformat(line["opens"]),
                time.fromisoformat(line["closes"]),
                frozenset(OrderType(word) for word in line["order_types"].split()),
                ioc=line["ioc"] == "yes",
                disclosed=line["disclosed"] == "yes",
            )
            for line in lines
        )
        found.setdefault(group, []).insert(0, (date.fromisoformat(valid_from), rows))
    return found
