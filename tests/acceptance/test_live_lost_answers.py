"""Broker calls that end badly on a live stack: what may have been taken is looked for, and never sent again."""

from __future__ import annotations

import pytest
from live import FILLS, System, a_key, until

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("live")]

TAKEN = [
    ("upstox", "drop_after"),
    ("upstox", "html"),
    ("upstox", "error_after"),
    ("zerodha", "timed_out"),
    ("zerodha", "reset_after"),
    ("zerodha", "no_id"),
]
NOT_TAKEN = [("upstox", "rate_limited"), ("zerodha", "rate_limited")]


@pytest.mark.parametrize(("broker", "kind"), TAKEN)
def test_an_order_whose_answer_was_lost_is_adopted_and_is_there_once(system: System, broker: str, kind: str) -> None:
    key, line = a_key(), FILLS | {"broker": broker.upper()}
    with system.fault(kind=kind, facade=broker, endpoint="place"):
        intent_id = system.accepted(line, key=key)
        repeats = [system.place(line, key=key) for _ in range(10)]
        (order,) = system.filled(intent_id)

    assert {(answer.status_code, answer.json()["intentId"]) for answer in repeats} == {(202, intent_id)}
    told = system.events(order["orderId"])
    assert told[:4] == ["RECEIVED", "CLEARED", "SENDING", "UNKNOWN"]
    assert told.count("SENDING") == 1
    assert len(system.book(order["brokerTag"])) == 1
    system.assert_sound()


def test_many_lines_of_one_lost_call_are_each_adopted(system: System) -> None:
    with system.fault(kind="drop_after", facade="upstox", endpoint="multi"):
        orders = system.filled(system.accepted(*[FILLS] * 5))

    assert all("UNKNOWN" in system.events(order["orderId"]) for order in orders)
    assert all(len(system.book(order["brokerTag"])) == 1 for order in orders)
    system.assert_sound()


def test_an_order_that_shows_late_is_adopted_when_it_shows(system: System) -> None:
    system.control(
        "POST",
        "/faults",
        [
            {"kind": "late_visibility", "facade": "upstox", "endpoint": "place", "seconds": 4},
            {"kind": "drop_after", "facade": "upstox", "endpoint": "place"},
        ],
    )
    (order,) = system.filled(system.accepted(FILLS))

    assert system.events(order["orderId"]).count("SENDING") == 1
    assert len(system.book(order["brokerTag"])) == 1


def test_what_the_broker_never_took_stays_unknown_and_is_not_sent_again(system: System) -> None:
    with system.fault(kind="drop_before", facade="zerodha", endpoint="place"):
        intent_id = system.accepted(FILLS | {"broker": "ZERODHA"})
        (order,) = until(
            lambda: [o for o in system.get(f"/v2/intents/{intent_id}")["orders"] if o["state"] == "UNKNOWN"]
        )
    sent, read = system.answered("place"), system.answered("book")

    until(lambda: system.answered("book") >= read + 3)  # its book was read, again and again

    assert system.get(f"/v2/orders/{order['orderId']}")["state"] == "UNKNOWN"
    assert system.answered("place") == sent
    assert system.book(order["brokerTag"]) == []
    (held,) = system.rows("select blocked_paise from orders where id = %s", (order["orderId"],))
    assert held["blocked_paise"] > 0
    system.assert_sound()


@pytest.mark.parametrize(("broker", "kind"), NOT_TAKEN)
def test_what_was_provably_not_sent_is_sent_again(system: System, broker: str, kind: str) -> None:
    with system.fault(kind=kind, facade=broker, endpoint="place"):
        (order,) = system.filled(system.accepted(FILLS | {"broker": broker.upper()}))

    assert system.events(order["orderId"])[2:5] == ["SENDING", "NOT_SENT", "SENDING"]
    assert len(system.book(order["brokerTag"])) == 1


def test_what_the_broker_refuses_is_rejected_in_its_words(system: System) -> None:
    with system.fault(
        kind="refused", facade="upstox", endpoint="place", code="UDAPI1052", message="The order quantity is not right"
    ):
        (order,) = system.settled(system.accepted(FILLS))

    assert (order["state"], order["reason"]["code"]) == ("REJECTED", "BROKER_REFUSED")
    assert "The order quantity is not right" in order["reason"]["text"]
    assert system.book(order["brokerTag"]) == []
