"""The shape of an intent: what can be said of it without looking anything up."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from domain.intents import OrderLine, PlaceRequest
from domain.orders import OrderType, Product, Side, Validity

LINE: dict[str, Any] = {
    "correlationId": "leg-1",
    "instrument": "NSE:INFY",
    "side": "BUY",
    "quantity": 10,
    "product": "CNC",
    "orderType": "LIMIT",
    "price": "1500.50",
}


def faults_of(**given: Any) -> list[str]:
    try:
        OrderLine.model_validate_json(_json({**LINE, **given}))
    except ValidationError as error:
        return [str(fault["loc"][0]) for fault in error.errors()]
    return []


def _json(value: object) -> str:
    import json

    return json.dumps(value)


def test_a_line_in_our_words() -> None:
    line = OrderLine.model_validate_json(_json(LINE))

    assert (line.side, line.product, line.order_type, line.validity) == (
        Side.BUY,
        Product.CNC,
        OrderType.LIMIT,
        Validity.DAY,
    )
    assert line.price == Decimal("1500.50")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quantity", 0),
        ("quantity", -1),
        ("quantity", 1.5),
        ("quantity", "10"),
        ("quantity", True),
        ("quantity", 10_000_001),
        ("price", "0"),
        ("price", "-1"),
        ("price", "1.00001"),
        ("price", "100000000"),
        ("price", "NaN"),
        ("price", "Infinity"),
        ("price", "1e3"),
        ("price", "1_000"),
        ("price", "१२३"),
        ("price", ""),
        ("price", " 1"),
        ("price", True),
        ("instrument", "INFY"),
        ("instrument", "nse:infy"),
        ("instrument", "NSE:" + "A" * 70),
        ("side", "buy"),
        ("product", "MTF2"),
        ("orderType", "STOP"),
        ("validity", "GTC"),
        ("correlationId", ""),
        ("correlationId", "a b"),
        ("correlationId", "x" * 65),
        ("tag", ""),
        ("tag", "caf\u00e9"),
        ("tag", "a\x00b"),
        ("disclosedQuantity", -1),
        ("marketProtection", "-2"),
        ("marketProtection", "101"),
        ("surprise", 1),
    ],
)
def test_what_is_wrong_with_a_field_is_said_of_that_field(name: str, value: Any) -> None:
    assert faults_of(**{name: value}) == [name]


@pytest.mark.parametrize("price", ["0.0001", "99999999.9999", 1500, 1500.5])
def test_prices_at_the_edge_are_taken(price: Any) -> None:
    assert faults_of(price=price) == []


def test_a_request_has_a_line_at_least_and_nothing_unknown() -> None:
    for document in ({"orders": []}, {}, {"orders": [LINE], "surprise": 1}, {"orders": [LINE], "maxUnsentSec": 0}):
        with pytest.raises(ValidationError):
            PlaceRequest.model_validate_json(_json(document))

    assert len(PlaceRequest.model_validate_json(_json({"orders": [LINE, LINE], "maxUnsentSec": 5})).orders) == 2
