"""Orders on a live stack: the example through the real command, the limits under a crowd, the sums at the end."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from live import FILLS, ORDERS, RESTS, System, a_key, until

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("live")]


def test_the_example_ends_well_line_by_line_and_each_line_has_its_story(system: System) -> None:
    key = a_key()
    ran = system.trader("order", "place-multi", str(ORDERS), "--wait", "--json", "--idempotency-key", key)

    assert ran.returncode == 0, ran.stderr
    placed = json.loads(ran.stdout)
    assert {order["state"] for order in placed["orders"]} <= {"FILLED", "OPEN", "PARTIALLY_FILLED"}
    for order in placed["orders"]:
        (row,) = system.book(order["brokerTag"])
        assert (row["facade"], row["quantity"]) == (order["broker"].lower(), order["quantity"])
    for order in (placed["orders"][1], placed["orders"][-1]):  # one that fills, one that rests
        told = system.trader("order", "explain", order["orderId"])
        assert told.returncode == 0
        for word in (
            "RECEIVED",
            "CLEARED",
            "validate ✓",
            "risk     ✓",
            "margin   ✓",
            "SENDING",
            order["brokerOrderId"],
        ):
            assert word in told.stdout
    again = system.trader("order", "place-multi", str(ORDERS), "--no-wait", "--json", "--idempotency-key", key)
    assert json.loads(again.stdout)["intentId"] == placed["intentId"]
    assert json.loads(again.stdout)["replayed"] is True
    assert all(len(system.book(order["brokerTag"])) == 1 for order in placed["orders"])
    system.assert_sound()


def test_a_rejected_line_says_why_and_was_never_sent(system: System) -> None:
    lines = [FILLS, FILLS | {"price": "1200.03", "correlationId": "off-the-tick"}]
    ran = system.trader("order", "place-multi", "-", "--json", text=json.dumps({"orders": lines}))

    assert ran.returncode == 3, ran.stderr
    taken, rejected = json.loads(ran.stdout)["orders"]
    assert (taken["state"] in ("OPEN", "FILLED"), rejected["state"]) == (True, "REJECTED")
    assert rejected["reason"]["code"] == "TICK_SIZE"
    assert "1,200.03" in rejected["reason"]["text"]
    assert system.book(rejected["brokerTag"]) == []
    assert system.events(rejected["orderId"]) == ["RECEIVED", "REJECTED"]


def test_a_limit_holds_to_the_order_against_a_crowd_and_is_free_again_at_the_end(system: System) -> None:
    line = RESTS | {"broker": "ZERODHA"}
    (one,) = system.settled(system.accepted(line))
    (account,) = system.rows("select * from accounts where id = 'ZR0001'")
    (held,) = system.rows("select blocked_paise from orders where id = %s", (one["orderId"],))
    room = 3
    system.change(
        "update accounts set limit_paise = blocked_paise + %s where id = 'ZR0001'",
        (held["blocked_paise"] * room + held["blocked_paise"] // 2,),
    )
    try:
        with ThreadPoolExecutor(16) as pool:
            orders = system.settled(*pool.map(system.accepted, [line] * 16))
        system.assert_sound()
    finally:
        system.change("update accounts set limit_paise = %s where id = 'ZR0001'", (account["limit_paise"],))

    assert [order["state"] for order in orders].count("OPEN") == room
    refused = [order for order in orders if order["state"] == "REJECTED"]
    assert len(refused) == 16 - room
    assert {order["reason"]["code"] for order in refused} == {"MARGIN_ESTIMATE"}
    resting = [one, *(order for order in orders if order["state"] == "OPEN")]
    for order in resting:
        system.fill(order["brokerTag"])
    ids = [order["orderId"] for order in resting]
    until(lambda: all(system.get(f"/v2/orders/{order_id}")["state"] == "FILLED" for order_id in ids))
    after = system.rows("select blocked_paise from orders where id = any(%s)", (ids,))
    assert [order["blocked_paise"] for order in after] == [0] * len(ids)
    system.assert_sound()  # the account's is the sum over its orders


def test_an_order_over_the_freeze_quantity_goes_out_in_slices_that_add_up(system: System) -> None:
    quantity = 3_900  # the exchange takes at most 1,800 of it in one order
    line = FILLS | {"instrument": "NFO:NIFTY-CE-ATM", "quantity": quantity, "product": "NRML", "broker": "ZERODHA"}
    line |= {"orderType": "MARKET", "price": None, "marketProtection": "2"}
    (order,) = system.filled(system.accepted(line))

    slices = system.rows("select * from orders where parent_id = %s", (order["orderId"],))
    assert len(slices) > 1
    assert sum(part["filled_quantity"] for part in slices) == quantity
    assert all(len(system.book(part["broker_tag"])) == 1 for part in slices)
    assert system.book(order["brokerTag"]) == []
    system.assert_sound()
