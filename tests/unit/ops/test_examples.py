from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from fake_coordinator import KEY, rests
from jsonschema import Draft202012Validator

from brokers.upstox import CAPABILITIES as UPSTOX
from brokers.zerodha import CAPABILITIES as ZERODHA
from domain import reference
from domain.bands import band_of
from domain.instruments import Segment
from domain.intents import PlaceRequest

EXAMPLES = Path(__file__).parents[3] / "examples"
ORDERS = json.loads((EXAMPLES / "orders.json").read_text())
LEGS = json.loads((EXAMPLES / "legs.json").read_text())
SCHEMA = json.loads((EXAMPLES / "orders.schema.json").read_text())
WALK = Decimal("0.015")  # how far the sandbox's prices stray from the close
LATER = [date(2026, 11, 23) + timedelta(days=days) for days in range(0, 400, 27)]


def faults(change, **top):
    line = {name: value for name, value in {**ORDERS["orders"][0], **change}.items() if value is not None}
    return list(Draft202012Validator(SCHEMA).iter_errors({"orders": [line], **top}))


def test_the_orders_are_what_the_door_takes_and_what_their_schema_says():
    assert len(PlaceRequest.model_validate_json(json.dumps(ORDERS)).orders) == 5
    Draft202012Validator.check_schema(SCHEMA)
    assert not list(Draft202012Validator(SCHEMA).iter_errors(ORDERS))


def test_the_legs_are_what_the_door_takes_and_what_their_schema_says():
    assert not list(Draft202012Validator(SCHEMA).iter_errors(LEGS))
    first, second = LEGS["orders"]
    assert second["after"] == first["correlationId"]
    assert first == {**ORDERS["orders"][0], "correlationId": first["correlationId"]}  # it is filled at any hour
    assert {**second, "correlationId": "nifty-future", "after": None} == {**ORDERS["orders"][2], "after": None}


def test_the_schema_names_every_field_of_a_request_and_no_other():
    fields = {field.alias for field in PlaceRequest.model_fields.values()}

    assert set(SCHEMA["properties"]) - {"$schema"} == fields


def test_the_schema_names_every_field_of_a_line_and_no_other():
    fields = {field.alias for field in PlaceRequest.model_fields["orders"].annotation.__args__[0].model_fields.values()}

    assert set(SCHEMA["$defs"]["order"]["properties"]) == fields


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": 0},
        {"quantity": 1.5},
        {"price": None},
        {"orderType": "MARKET"},  # which has no price
        {"orderType": "SL"},  # which needs a trigger
        {"side": "LONG"},
        {"instrument": "INFY"},
        {"symbol": "INFY"},
        {"correlationId": None},
    ],
)
def test_the_schema_finds_what_is_wrong_in_an_editor(change):
    assert faults(change)


def test_the_orders_go_to_two_brokers_and_three_segments():
    instruments = reference.all_instruments(LATER[0]) | {}
    aliases = reference.aliases(LATER[0])
    keys = [aliases.get(order["instrument"], order["instrument"]) for order in ORDERS["orders"]]

    assert {order["broker"] for order in ORDERS["orders"]} == {"UPSTOX", "ZERODHA"}
    assert {instruments[key].segment for key in keys} == {Segment.CASH, Segment.EQUITY_DERIVATIVES, Segment.CURRENCY}


@pytest.mark.parametrize("day", LATER)
def test_the_orders_are_valid_on_any_day(day):
    instruments, aliases = reference.all_instruments(day), reference.aliases(day)
    for order in ORDERS["orders"]:
        instrument = instruments[aliases.get(order["instrument"], order["instrument"])]
        able = {"UPSTOX": UPSTOX, "ZERODHA": ZERODHA}[order["broker"]]
        assert instrument.exchange in able.exchanges
        assert order["quantity"] % instrument.lot_size == 0
        if "price" not in order:
            continue
        price, band = Decimal(order["price"]), band_of(instrument, instrument.close)
        assert price % instrument.tick == 0
        assert band is not None
        assert band.low <= price <= band.high
        dear, cheap = instrument.close * (1 + WALK), instrument.close * (1 - WALK)
        assert price < cheap if order["correlationId"] == "sbin-rests" else price >= dear


@pytest.mark.parametrize("script", ["place.py", "place.sh"])
def test_the_scripts_place_the_orders_once_and_tell_what_became_of_them(fake, script):
    if script == "place.sh" and shutil.which("curl") is None:
        pytest.skip("curl isn't here")
    fake.fates["sbin-rests"] = rests
    command = [sys.executable] if script == "place.py" else ["sh"]
    environment = {**os.environ, "TRADER_URL": fake.url, "TRADER_KEY": KEY}

    for _ in range(2):
        ran = subprocess.run(
            [*command, str(EXAMPLES / script)],
            env={**environment, "KEY": "the-same-key-0001"},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr

    assert len(fake.intents) == 1
    assert "the-same-key-0001" in ran.stderr
    assert "infy-delivery" in ran.stdout
