"""Lines that wait for each other on a live stack, over both brokers: legs, all or none, fail fast."""

from __future__ import annotations

import json

import pytest
from live import FILLS, PROJECT, RESTS, System, until

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("live")]

LEGS = PROJECT / "examples" / "legs.json"
SENT = {"SUBMITTED", "OPEN", "PARTIALLY_FILLED", "FILLED"}
OFF_THE_TICK = FILLS | {"price": "1200.03"}


def test_the_second_leg_of_the_example_goes_to_the_other_broker_when_the_first_is_filled(system: System) -> None:
    ran = system.trader("order", "place-multi", str(LEGS), "--wait", "--json")

    assert ran.returncode == 0, ran.stderr
    first, second = json.loads(ran.stdout)["orders"]
    assert (first["state"], first["broker"], second["broker"]) == ("FILLED", "UPSTOX", "ZERODHA")
    assert second["state"] in SENT
    assert system.events(second["orderId"])[:4] == ["RECEIVED", "CLEARED", "RELEASED", "SENDING"]
    (times,) = system.rows(
        "select f.at < s.at as in_order from order_events f, order_events s where f.order_id = %s and s.order_id = %s"
        " and f.event_type = 'FILLED' and s.event_type = 'SENDING'",
        (first["orderId"], second["orderId"]),
    )
    assert times["in_order"]
    system.assert_sound()


def test_a_leg_waits_for_one_that_rests_and_says_so(system: System) -> None:
    lines = [RESTS | {"broker": "UPSTOX"}, FILLS | {"broker": "ZERODHA", "after": "leg-0"}]
    intent_id = system.place(*lines, maxUnsentSec=600).json()["intentId"]

    def orders() -> list[dict[str, object]]:
        found: list[dict[str, object]] = system.get(f"/v2/intents/{intent_id}")["orders"]
        return found

    until(lambda: [order["state"] for order in orders()] == ["OPEN", "HELD"], told=orders)
    first, second = orders()
    assert second["work"] | {"attempts": 0, "notBefore": ""} == {  # type: ignore[operator]
        "stage": "groups",
        "state": "HELD",
        "attempts": 0,
        "notBefore": "",
        "error": "waits for line 1 (leg-0) to be filled",
    }
    assert system.book(str(second["brokerTag"])) == []

    system.fill(str(first["brokerTag"]))
    until(lambda: orders()[1]["state"] in SENT, told=orders)
    system.assert_sound()


def test_all_or_none_of_two_brokers_is_none_where_one_line_is_wrong(system: System) -> None:
    lines = [FILLS | {"broker": "UPSTOX"}, FILLS | {"broker": "ZERODHA"}]

    bad = system.place(*lines, OFF_THE_TICK, policy="ALL_OR_NONE", prefer="wait=30").json()
    good = system.place(*lines, policy="ALL_OR_NONE").json()

    assert (bad["status"], bad["total"]) == ("REJECTED", 3)
    assert [order["reason"]["code"] for order in bad["orders"]] == ["GROUP_REJECTED", "GROUP_REJECTED", "TICK_SIZE"]
    assert "line 3 (leg-2) was REJECTED: TICK_SIZE" in bad["orders"][0]["reason"]["text"]
    assert all(system.book(order["brokerTag"]) == [] for order in bad["orders"])
    settled = system.settled(good["intentId"])
    assert {order["state"] for order in settled} <= SENT
    assert all(len(system.book(order["brokerTag"])) == 1 for order in settled)
    system.assert_sound()


def test_fail_fast_sends_one_after_another_up_to_the_first_that_is_refused(system: System) -> None:
    lines = [FILLS | {"broker": "UPSTOX"}, FILLS | {"broker": "ZERODHA"}, OFF_THE_TICK, FILLS]

    intent_id = system.place(*lines, policy="FAIL_FAST").json()["intentId"]

    settled = system.settled(intent_id)
    assert [order["state"] in SENT for order in settled] == [True, True, False, False]
    assert settled[3]["reason"]["code"] == "GROUP_REJECTED"
    first, second = (system.events(order["orderId"]) for order in settled[:2])
    assert "RELEASED" not in first
    assert "RELEASED" in second
    system.assert_sound()
