"""Day ends: when an order's day is over, and from when on a read of the book shows what was left of it.

What rests when its exchange closes is dead there. But whether a session ended when our calendar says is the exchange's
to decide, and so an order isn't called expired while its broker's book can still speak of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta

from domain.instruments import Instrument
from domain.market import IST, SIM, last_close, trading_day
from domain.orders import Order

SIM_DAY_ENDS = time(3, 30)  # IST; the simulator's own setting, where nobody changed it
BEFORE_SIM_ENDS = timedelta(minutes=3)  # a read in this time before tells of a simulated order what was left of it
AFTER_CLOSE = timedelta(minutes=15)  # for what an exchange, or a broker, does a little after its time


@dataclass(frozen=True, slots=True)
class DayEnd:
    """A read that began from `tells_from` on and shows the order shows its last fill; at `over_at` its book's day is over."""

    tells_from: datetime | None
    over_at: datetime


def day_end(order: Order, instrument: Instrument | None, calendar: str) -> DayEnd:
    """The end of the day on which the order was accepted; no read tells where the instrument's session isn't known."""
    if calendar == SIM:
        over_at = next_at(SIM_DAY_ENDS, order.accepted_at)
        return DayEnd(over_at - BEFORE_SIM_ENDS, over_at)
    closes_at = last_close(instrument, trading_day(order.accepted_at)) if instrument is not None else None
    return DayEnd(closes_at and closes_at + AFTER_CLOSE, next_at(time(), order.accepted_at))


def day_began(calendar: str, moment: datetime) -> datetime:
    """When the trading day of that moment began, by the books and positions of that calendar."""
    return next_at(SIM_DAY_ENDS if calendar == SIM else time(), moment) - timedelta(days=1)


def next_at(clock: time, after: datetime) -> datetime:
    """The next time it is that late in India."""
    moment = datetime.combine(trading_day(after), clock, IST)
    return moment if moment > after else moment + timedelta(days=1)
