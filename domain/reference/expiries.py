"""When contracts end: each exchange's rule, and the trading day before where that day is a holiday.

NSE's equity derivatives end on Tuesdays and BSE's on Thursdays (since 2025-09-01, NSE/FAOP/68747), monthly contracts on
the month's last one; currency contracts two trading days before the month's last.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import islice

from domain.reference.calendar import ONE_DAY, trading_day_on_or_before

WEEKDAYS = {"TUESDAY": 1, "THURSDAY": 3}
CURRENCY = "CURRENCY"
WEEK = timedelta(days=7)


def monthly(exchange: str, rule: str, today: date, count: int) -> list[date]:
    """The next monthly expiries; today's own is still among them."""
    return list(islice((day for day in _months(exchange, rule, today) if day >= today), count))


def weekly(exchange: str, rule: str, today: date, count: int) -> list[date]:
    """The next weekly expiries, a month's last one included."""
    if not count:
        return []
    return list(islice((day for day in _weeks(exchange, rule, today) if day >= today), count))


def _months(exchange: str, rule: str, today: date) -> Iterator[date]:
    year, month = today.year, today.month
    while True:
        last = date(year, month, monthrange(year, month)[1])
        if rule == CURRENCY:
            day = trading_day_on_or_before(exchange, last)
            for _ in range(2):
                day = trading_day_on_or_before(exchange, day - ONE_DAY)
            yield day
        else:
            nominal = last - timedelta(days=(last.weekday() - WEEKDAYS[rule]) % 7)
            yield trading_day_on_or_before(exchange, nominal)
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)


def _weeks(exchange: str, rule: str, today: date) -> Iterator[date]:
    nominal = today + timedelta(days=(WEEKDAYS[rule] - today.weekday()) % 7)
    while True:
        yield trading_day_on_or_before(exchange, nominal)
        nominal += WEEK
