"""Trading days: weekdays, less the exchanges' holidays, plus the weekend days on which they open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time, timedelta
from functools import cache

from domain.reference.tables import read

SATURDAY = 5
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SpecialDay:
    """A day that breaks the week's rule: closed, or open only from `opens` to `closes` (IST)."""

    reason: str
    opens: time | None
    closes: time | None

    @property
    def is_open(self) -> bool:
        return self.opens is not None


@cache
def special_days() -> dict[tuple[str, date], SpecialDay]:
    """By exchange and day."""
    found: dict[tuple[str, date], SpecialDay] = {}
    for row in read("holidays"):
        day = date.fromisoformat(row["day"])
        special = SpecialDay(row["reason"], _time(row["opens"]), _time(row["closes"]))
        for exchange in row["exchanges"].split():
            found[exchange, day] = special
    return found


def is_trading_day(exchange: str, day: date) -> bool:
    special = special_days().get((exchange, day))
    if special is not None:
        return special.is_open
    return day.weekday() < SATURDAY


def trading_day_on_or_before(exchange: str, day: date) -> date:
    while not is_trading_day(exchange, day):
        day -= ONE_DAY
    return day


def _time(text: str) -> time | None:
    return time.fromisoformat(text) if text else None
