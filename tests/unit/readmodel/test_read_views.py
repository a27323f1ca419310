"""Views: exact text for amounts and times, and a status that says no more than is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.lifecycle import OrderState
from readmodel.views import decimal_text, intent_status, moment_text, order_view, paise_text

AT = datetime(2026, 11, 23, 9, 15, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1512.5000", "1512.50"),
        ("83.0025", "83.0025"),
        ("100", "100.00"),
        ("1E+2", "100.00"),
        ("0.0000", "0.00"),
        ("0.05", "0.05"),
        ("-1.00", "-1.00"),
    ],
)
def test_a_decimal_has_no_exponent_and_at_least_two_decimals(value, text):
    assert decimal_text(Decimal(value)) == text


def test_no_decimal_is_null():
    assert decimal_text(None) is None


@given(st.decimals(min_value=0, max_value=10**12, places=4))
def test_a_decimal_loses_nothing_on_its_way_to_text(value):
    assert Decimal(decimal_text(value)) == value


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_paise_lose_nothing_on_their_way_to_text(paise):
    assert Decimal(paise_text(paise)) * 100 == paise


def test_a_moment_is_utc_with_microseconds_whatever_zone_it_came_in():
    india = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert moment_text(india) == "2026-11-23T09:15:00.000001Z"


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["RECEIVED", "FILLED"], "RUNNING"),
        (["SUBMITTED"], "RUNNING"),
        (["UNKNOWN", "REJECTED"], "RUNNING"),
        (["OPEN", "FILLED", "CANCELLED"], "DONE"),
        (["OPEN", "REJECTED"], "PARTIAL"),
        (["REJECTED", "REJECTED"], "REJECTED"),
    ],
)
def test_an_intent_runs_until_every_line_is_settled(states, status):
    assert intent_status(states) == status


def an_order_row(**fields) -> SimpleNamespace:
    known = {
        "id": "o1", "intent_id": "i1", "parent_id": None, "slices": 0, "line": 0, "correlation_id": "leg-1",
        "state": "OPEN", "version": 1, "instrument": "NSE:INFY", "side": "BUY", "quantity": 10, "product": "CNC",
        "order_type": "LIMIT", "validity": "DAY", "price": Decimal("1512.5"), "trigger_price": None,
        "disclosed_quantity": 0, "market_protection": None, "broker": None, "wanted_broker": None, "account_id": None,
        "wanted_account": None, "strategy": None, "tag": None, "broker_tag": "OC1", "broker_order_id": None,
        "filled_quantity": 4, "average_price": None, "reason_code": None, "reason": None, "work_stage": None, "changing": 0, "policy": None, "after": None,
        "accepted_at": AT, "updated_at": AT, "send_before": AT,
    }  # fmt: skip
    return SimpleNamespace(**(known | fields))


def test_what_an_ended_order_did_not_fill_is_not_pending():
    assert order_view(an_order_row())["pendingQuantity"] == 6
    assert order_view(an_order_row(state=OrderState.CANCELLED.value))["pendingQuantity"] == 0


def test_brokers_are_shown_in_the_words_a_request_uses():
    assert order_view(an_order_row(wanted_broker="upstox"))["broker"] == "UPSTOX"
    assert order_view(an_order_row(wanted_broker="upstox", broker="zerodha"))["broker"] == "ZERODHA"


def test_an_order_without_a_command_has_no_work():
    assert order_view(an_order_row())["work"] is None
