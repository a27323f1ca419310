"""When an order's day is over, and from when on a read tells what was left of it."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

import pytest

from domain.market import IST, SIM
from domain.orders import Order, OrderType, Product, Side, Validity
from domain.reference import cash_instruments
from pipeline.dayends import day_began, day_end

INFY = next(instrument for instrument in cash_instruments() if instrument.key == "NSE:INFY")


def at(day: int, clock: str) -> datetime:
    return datetime.combine(datetime(2026, 11, day).date(), time.fromisoformat(clock), IST)  # noqa: DTZ001


def an_order(accepted_at: datetime, **given: Any) -> Order:
    terms: dict[str, Any] = {"id": "o", "intent_id": "i", "line": 0, "correlation_id": "c", "user_id": "u"}
    terms |= {"instrument": "NSE:INFY", "side": Side.BUY, "quantity": 1, "product": Product.CNC}
    terms |= {"order_type": OrderType.LIMIT, "validity": Validity.DAY, "send_before": accepted_at}
    return Order(**terms, accepted_at=accepted_at, **given)


def test_on_an_exchange_a_read_tells_from_a_quarter_of_an_hour_after_the_last_session_and_the_day_ends_at_midnight():
    ends = day_end(an_order(at(25, "10:00")), INFY, "NSE")

    assert ends.over_at == at(26, "00:00")
    assert ends.tells_from is not None
    assert at(25, "15:45") < ends.tells_from < at(25, "16:30")


@pytest.mark.parametrize(("accepted", "over"), [(at(25, "03:29"), at(25, "03:30")), (at(25, "03:30"), at(26, "03:30"))])
def test_a_simulated_day_ends_when_the_simulators_does_and_reads_shortly_before_tell(accepted: datetime, over: datetime):
    ends = day_end(an_order(accepted), INFY, SIM)

    assert (ends.over_at, ends.tells_from) == (over, over - timedelta(minutes=3))


def test_where_the_session_is_not_known_no_read_tells_anything():
    assert day_end(an_order(at(25, "10:00")), None, "NSE").tells_from is None
    assert day_end(an_order(at(22, "10:00")), INFY, "NSE").tells_from is None  # a Sunday


def test_positions_are_counted_from_the_days_beginning():
    assert day_began("NSE", at(25, "10:00")) == at(25, "00:00")
    assert day_began(SIM, at(25, "03:29")) == at(24, "03:30")
    assert day_began(SIM, at(25, "03:30")) == at(25, "03:30")
