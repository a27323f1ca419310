"""The official kiteconnect trades on the simulator, unchanged but for its address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sdk_environment import run_driver, sdk_python

from brokers.simulator.server import SimulatorServer
from domain.reference import cash_instruments

pytestmark = pytest.mark.timeout(400)  # the first run makes the SDKs' environment

INFY = next(instrument for instrument in cash_instruments() if instrument.key == "NSE:INFY")
PRICE = INFY.close
RESTING = PRICE - 100 * INFY.tick


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[str, Any]]:
    sdk_python()
    with SimulatorServer() as simulator:
        simulator.control("PUT", "/settings", {"rate_limits": False, "partial_percent": 100, "trade_gap_ms": 5})
        simulator.control("PUT", "/prices/NSE:INFY", {"price": str(PRICE)})
        yield run_driver(
            "zerodha",
            {
                "url": simulator.urls["zerodha"],
                "api_key": "sim-zerodha-key",
                "api_secret": "sim-zerodha-secret",
                "symbol": "INFY",
                "resting_price": float(RESTING),
                "freeze_quantity": INFY.freeze_quantity,
            },
        )


def test_a_session_begins_with_a_checksum_and_ends_with_a_logout(seen):
    assert seen["before login"] == ["TokenException", 403]
    assert seen["session"] == ["ZR0001", "sim-zerodha-token", "datetime"]
    assert seen["profile"] == "ZR0001"
    assert seen["after logout"] == ["TokenException", 403]


def test_an_order_is_placed_modified_and_cancelled(seen):
    assert (seen["rested"]["tag"], seen["rested"]["tags"], seen["rested"]["quantity"]) == ("one", ["one"], 10)
    assert seen["modified"] is True
    cancelled = seen["cancelled"]
    assert (cancelled["quantity"], cancelled["filled_quantity"], cancelled["cancelled_quantity"]) == (25, 0, 25)


def test_the_history_has_every_state(seen):
    assert seen["history"] == [
        "PUT ORDER REQ RECEIVED",
        "VALIDATION PENDING",
        "OPEN PENDING",
        "OPEN",
        "MODIFY VALIDATION PENDING",
        "MODIFY PENDING",
        "MODIFIED",
        "OPEN",
        "CANCEL PENDING",
        "CANCELLED",
    ]


def test_refusals_arrive_as_the_clients_own_exceptions(seen):
    assert seen["cancel again"] == ["OrderException", 400]
    assert seen["cancel unknown"] == ["GeneralException", 400]
    assert seen["without protection"] == ["InputException", 400]
    assert seen["a tag of 21"] == ["InputException", 400]
    assert seen["off the tick"] == ["InputException", 400]


def test_a_market_order_fills_and_its_trades_add_up(seen):
    assert (seen["filled"]["filled_quantity"], seen["filled"]["pending_quantity"]) == (10, 0)
    assert len(seen["trades"]) >= 2
    assert sum(trade["quantity"] for trade in seen["trades"]) == 10
    assert seen["trades of the day"] == len(seen["trades"])
    assert seen["position"] == [["INFY", 10]]
    assert seen["streamed checksum"] == ""


def test_slices_carry_their_groups_tags(seen):
    count, tags = seen["slices"]
    assert count == 2
    assert tags[:2] == ["cut", "autoslice"]
    assert tags[2].startswith("autoslice:")
    assert seen["amo"] == "amo"


def test_the_book_funds_margins_and_instruments_are_read(seen):
    assert seen["book"] == [["one", "CANCELLED"], ["two", "COMPLETE"]]
    assert seen["funds"][0] == seen["funds"][1] < 10**9
    assert seen["holdings"] == []
    assert seen["basket margins"] == 2 * seen["order margins"] > 0
    assert seen["charges"] is True
    assert seen["quote"] == {"NSE:INFY": {"instrument_token": INFY.token * 256 + 1, "last_price": float(PRICE)}}
    assert seen["instrument"] == [INFY.token * 256 + 1, float(INFY.tick)]
