"""The official upstox-python-sdk trades on the simulator, unchanged but for its address."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
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
        found = run_driver(
            "upstox",
            {
                "url": simulator.urls["upstox"],
                "access_token": "sim-upstox-token",
                "instrument_key": f"NSE_EQ|{INFY.isin}",
                "resting_price": float(RESTING),
            },
        )
        yield found | {"the judge's book": simulator.control("GET", "/orders")}


def test_an_order_is_placed_modified_and_cancelled(seen):
    assert (seen["rested"]["status"], seen["rested"]["tag"], seen["rested"]["quantity"]) == ("open", "one", 10)
    assert seen["modified"] == 25
    assert (seen["cancelled"]["status"], seen["cancelled"]["quantity"]) == ("cancelled", 25)
    assert seen["v2"] == "cancelled"


def test_the_history_of_a_tag_has_every_state(seen):
    assert seen["history"] == [
        "put order req received",
        "validation pending",
        "open pending",
        "open",
        "modify validation pending",
        "modify pending",
        "modified",
        "open",
        "cancel pending",
        "cancelled",
    ]


def test_refusals_arrive_with_their_codes(seen):
    assert seen["cancel again"] == [400, "UDAPI100040"]
    assert seen["cancel unknown"] == [400, "UDAPI100010"]
    assert seen["multi with a bad line"] == [400, "UDAPI1052"]
    assert seen["dead token"] == [401, "UDAPI100050"]


def test_a_market_order_fills_and_its_trades_add_up(seen):
    assert (seen["filled"]["status"], seen["filled"]["filled_quantity"]) == ("complete", 10)
    assert len(seen["trades"]) >= 2
    assert sum(trade["quantity"] for trade in seen["trades"]) == 10
    assert seen["trades of the day"] == len(seen["trades"])
    assert seen["position"] == [f"NSE_EQ|{INFY.isin}", 10]
    assert seen["streamed"][0] == "put order req received"
    assert seen["streamed"][-1] == "complete"


def test_a_multi_place_answers_line_by_line(seen):
    assert seen["multi"] == {
        "status": "success",
        "lines": ["L0", "L1", "L2"],
        "summary": {"total": 3, "payload_error": 0, "success": 3, "error": 0},
        "errors": [],
    }
    assert seen["cancel multi"] == ["success", 1, "cancelled"]


def test_the_book_is_what_the_judge_knows(seen):
    assert seen["book"] == sorted([row["tag"], row["state"]] for row in seen["the judge's book"])
    assert [tag for tag, _ in seen["book"]] == ["multi0", "multi1", "multi2", "old", "one", "two"]


def test_funds_quotes_and_charges_are_read(seen):
    assert Decimal(str(seen["funds"])) < Decimal(10**9)
    assert seen["quote"] == [["NSE_EQ:INFY", f"NSE_EQ|{INFY.isin}"]]
    assert seen["brokerage"] is True
