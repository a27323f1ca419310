"""Modifies: which requests make sense, which orders may be modified, and what a row of a book says of terms."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from domain.capabilities import Capabilities
from domain.lifecycle import AT_BROKER, OrderState
from domain.modifies import (
    ModifyRequest,
    changed_terms,
    modifiability,
    modified,
    outdated,
    shows,
    terms_of,
    terms_shown,
)
from domain.orders import Order, OrderType, Product, Side, Validity
from domain.outcomes import BookRow

NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
ABLE = Capabilities(
    broker="zerodha",
    exchanges=frozenset({"NSE"}),
    products=frozenset(Product),
    order_types=frozenset(OrderType),
    validities=frozenset(Validity),
    modifies_max=25,
)
PRICE = Decimal("1500.00")


def an_order(**given: Any) -> Order:
    terms: dict[str, Any] = {
        "id": "0190",
        "intent_id": "0190",
        "line": 0,
        "correlation_id": "c",
        "user_id": "u",
        "instrument": "NSE:INFY",
        "side": Side.BUY,
        "quantity": 10,
        "product": Product.CNC,
        "order_type": OrderType.LIMIT,
        "validity": Validity.DAY,
        "price": PRICE,
        "broker": "zerodha",
        "broker_order_id": "B1",
        "state": OrderState.OPEN,
        "accepted_at": NOW,
        "send_before": NOW,
    }
    return Order(**{**terms, **given})


def a_row(**given: Any) -> BookRow:
    terms: dict[str, Any] = {
        "broker_order_id": "B1",
        "tag": None,
        "state": OrderState.OPEN,
        "status": "open",
        "quantity": 10,
        "filled_quantity": 0,
        "average_price": None,
        "price": PRICE,
        "order_type": OrderType.LIMIT,
        "validity": Validity.DAY,
    }
    return BookRow(**{**terms, **given})


STOP = {"order_type": OrderType.SL, "trigger_price": Decimal(1490)}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"price": None},
        {"quantity": 0},
        {"quantity": "5"},
        {"quantity": 1.5},
        {"quantity": 10_000_001},
        {"price": "0"},
        {"price": "-1"},
        {"price": "1e3"},
        {"price": "1.00001"},
        {"orderType": "STOP"},
        {"validity": "GTC"},
        {"disclosedQuantity": -1},
        {"quantity": 5, "side": "SELL"},
        {"quantity": 5, "version": 1},
    ],
)
def test_a_request_that_makes_no_sense_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModifyRequest.model_validate(body)


def test_what_is_named_is_what_is_asked() -> None:
    request = ModifyRequest.model_validate({"quantity": 5, "triggerPrice": 1490, "orderType": "SL", "disclosedQuantity": 0})

    assert request.terms == {"quantity": 5, "disclosed_quantity": 0, **STOP}


@pytest.mark.parametrize(
    ("named", "changed"),
    [
        ({"quantity": 10, "price": Decimal("1500")}, {}),
        ({"quantity": 12, "price": PRICE}, {"quantity": 12}),
        ({"order_type": OrderType.MARKET}, {"order_type": OrderType.MARKET, "price": None}),
        ({"order_type": OrderType.SL, "trigger_price": Decimal(1490)}, STOP),
        (
            {"order_type": OrderType.MARKET, "price": Decimal(9)},
            {"order_type": OrderType.MARKET, "price": Decimal(9)},  # validate says that it has none
        ),
    ],
)
def test_only_what_differs_changes_and_what_its_new_type_lacks(named: dict[str, Any], changed: dict[str, Any]) -> None:
    assert changed_terms(an_order(), named) == changed


def test_a_stop_that_becomes_a_limit_order_loses_its_trigger() -> None:
    assert changed_terms(an_order(**STOP), {"order_type": OrderType.LIMIT}) == {
        "order_type": OrderType.LIMIT,
        "trigger_price": None,
    }


@pytest.mark.parametrize("state", OrderState)
def test_what_its_broker_has_may_be_modified_and_nothing_else(state: OrderState) -> None:
    why = modifiability(an_order(state=state), ABLE)

    assert (why is None) is (state in AT_BROKER)
    assert why is None or (why[0], str(state) in why[1]) == ("ORDER_STATE", True)


@pytest.mark.parametrize(
    ("given", "under_way", "why"),
    [
        ({"slices": 2}, False, "SLICED"),
        ({"parent_id": "0189"}, False, "SLICED"),
        ({"broker_order_id": None}, False, "ORDER_STATE"),
        ({"cancel_requested": True}, False, "CANCEL_REQUESTED"),
        ({}, True, "MODIFY_UNDER_WAY"),
        ({"modifies": 24}, False, None),
        ({"modifies": 25}, False, "MODIFIES_SPENT"),
    ],
)
def test_what_else_stands_in_its_way(given: dict[str, Any], under_way: bool, why: str | None) -> None:
    found = modifiability(an_order(**given), ABLE, under_way=under_way)

    assert (found[0] if found else None) == why


def test_a_broker_without_a_documented_cap_has_none() -> None:
    assert modifiability(an_order(modifies=1_000), None) is None


@pytest.mark.parametrize(
    ("order", "terms", "why"),
    [
        ({}, {}, "NOTHING_TO_CHANGE"),
        ({"filled_quantity": 4}, {"quantity": 5}, None),
        ({"filled_quantity": 4}, {"quantity": 4}, "QUANTITY_FILLED"),
        ({"filled_quantity": 4}, {"quantity": 3}, "QUANTITY_FILLED"),
        ({"filled_quantity": 4}, {"price": PRICE + 1}, None),
        ({"filled_quantity": 4, "state": OrderState.PARTIALLY_FILLED}, STOP, "TRIGGERED"),
        (STOP, {"trigger_price": Decimal(1480)}, "TRIGGERED"),
        (STOP, {"price": PRICE + 1}, None),
        ({**STOP, "state": OrderState.TRIGGER_PENDING}, {"trigger_price": Decimal(1480)}, None),
    ],
)
def test_terms_for_an_order_as_it_is(order: dict[str, Any], terms: dict[str, Any], why: str | None) -> None:
    found = modifiability(an_order(**order), ABLE, terms=terms)

    assert (found[0] if found else None) == why


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({}, None),
        ({"version": 4}, "STALE_VERSION"),
        ({"filled_quantity": 6}, "QUANTITY_FILLED"),
        ({"cancel_requested": True}, "CANCEL_REQUESTED"),
        ({"state": OrderState.FILLED}, "ORDER_STATE"),
    ],
)
def test_an_accepted_modify_is_for_the_order_that_it_was_accepted_for(order: dict[str, Any], why: str | None) -> None:
    found = outdated(an_order(**{"version": 3, **order}), {"quantity": 6, "base_version": 3})

    assert (found[0] if found else None) == why


def test_terms_come_back_from_the_record_as_they_were() -> None:
    wanted = {"quantity": 5, "price": "1499.9500", "order_type": "SL-M", "validity": "IOC", "trigger_price": None, "base_version": 2}

    assert terms_of(wanted) == {
        "quantity": 5,
        "price": Decimal("1499.95"),
        "order_type": OrderType.SL_M,
        "validity": Validity.IOC,
        "trigger_price": None,
    }


# ---- what a book shows

MARKET = {"order_type": OrderType.MARKET, "price": None}
REWRITTEN = {"order_type": OrderType.LIMIT, "price": Decimal("1545.00")}


@pytest.mark.parametrize(
    ("row", "order", "is_it"),
    [
        ({}, {}, True),
        ({"price": None, "order_type": None, "validity": None}, {}, True),
        ({"quantity": 11}, {}, False),
        ({"price": PRICE + 1}, {}, False),
        ({"validity": Validity.IOC}, {}, False),
        ({"order_type": OrderType.SL}, {}, False),
        ({"disclosed_quantity": 3}, {}, True),
        (REWRITTEN, MARKET, True),
        ({"order_type": OrderType.SL, "price": PRICE, "trigger_price": Decimal(1490)}, {**STOP, "order_type": OrderType.SL_M, "price": None}, True),
        ({**STOP, "trigger_price": Decimal(1480)}, STOP, False),
    ],
)
def test_whether_a_row_shows_the_order_with_these_terms(row: dict[str, Any], order: dict[str, Any], is_it: bool) -> None:
    assert shows(a_row(**row), an_order(**order)) is is_it


@pytest.mark.parametrize(
    ("row", "wanted", "found"),
    [
        ({}, None, {}),
        ({"quantity": 0}, None, {}),  # it says nothing of terms
        ({"quantity": 12}, None, {"quantity": 12}),
        ({"quantity": 12}, {"quantity": 12}, {"quantity": 12}),
        ({"quantity": 12}, {"quantity": 15}, {"quantity": 12}),
        ({"quantity": 12, "price": PRICE}, {"quantity": 12, "price": PRICE + 1}, {"quantity": 12}),
        ({"validity": None}, {"validity": Validity.IOC}, {"validity": Validity.IOC}),  # the rest matches
        ({"validity": Validity.DAY}, {"validity": Validity.IOC}, {}),
        ({"disclosed_quantity": None}, {"disclosed_quantity": 4}, {"disclosed_quantity": 4}),
        ({"disclosed_quantity": 0}, {"disclosed_quantity": 4}, {}),
        ({}, MARKET, {}),  # the limit it had, not the one that a market order's protection gives it
        (REWRITTEN, MARKET, MARKET),
        (MARKET, MARKET, MARKET),
        (REWRITTEN, None, {"price": Decimal("1545.0000")}),
    ],
)
def test_the_terms_that_a_row_shows(row: dict[str, Any], wanted: dict[str, Any] | None, found: dict[str, Any]) -> None:
    assert terms_shown(an_order(), a_row(**row), wanted) == found


def test_what_is_shown_is_what_the_order_then_has() -> None:
    order, row = an_order(), a_row(quantity=12, price=Decimal("1499.95"))

    assert shows(row, modified(order, terms_shown(order, row, None)))
