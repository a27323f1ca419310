"""Tick sizes by price, from the tables the exchanges published; each table holds until the next one of its rule."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import cache
from itertools import groupby

from domain.reference.tables import read


def tick_for(rule: str, reference: Decimal, day: date) -> Decimal:
    """The tick of an instrument whose reference price is `reference` (rupees) on `day`.

    Raises:
        ValueError: no table of that rule was in force on that day.
    """
    for valid_from, steps in _tables()[rule]:
        if valid_from <= day:
            return next(tick for up_to, tick in steps if up_to is None or reference <= up_to)
    raise ValueError(f"no tick table {rule} is known for {day}")


Steps = tuple[tuple[Decimal | None, Decimal], ...]  # the last price a tick holds for (None: any), and the tick


@cache
def _tables() -> dict[str, list[tuple[date, Steps]]]:
    """By rule, the newest table first."""
    found: dict[str, list[tuple[date, Steps]]] = {}
    for (rule, valid_from), rows in groupby(read("ticks"), key=lambda row: (row["rule"], row["valid_from"])):
        steps = tuple((Decimal(row["up_to"]) if row["up_to"] else None, Decimal(row["tick"])) for row in rows)
        found.setdefault(rule, []).insert(0, (date.fromisoformat(valid_from), steps))
    return found
