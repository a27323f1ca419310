"""Modifies and cancels on a live stack: through the door or the real command, and judged by the simulator's own book."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from live import RESTS, System, a_key, until

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("live")]

BROKERS = ("UPSTOX", "ZERODHA")


def resting(system: System, *lines: dict[str, Any]) -> list[Any]:
    """These orders, once the exchange has confirmed them."""
    orders = system.settled(system.accepted(*lines))
    assert {order["state"] for order in orders} == {"OPEN"}
    return orders


def the_row(system: System, order: Any) -> Any:
    (row,) = system.book(order["brokerTag"])
    return row


@pytest.mark.parametrize("broker", BROKERS)
def test_a_resting_order_is_modified_then_cancelled_and_its_broker_shows_both(system: System, broker: str) -> None:
    (order,) = resting(system, RESTS | {"broker": broker, "quantity": 5})
    path = f"/v3/orders/{order['orderId']}"
    etag = system.http.get(f"/v2/orders/{order['orderId']}").headers["ETag"]
    headers = {"Idempotency-Key": a_key(), "If-Match": etag, "Prefer": "wait=30"}

    modified = system.http.put(path, json={"quantity": 8, "price": "976.00"}, headers=headers)
    again = system.http.put(path, json={"quantity": 8, "price": "976.00"}, headers=headers)
    stale = system.http.put(path, json={"quantity": 9}, headers={"Idempotency-Key": a_key(), "If-Match": etag})

    assert (modified.status_code, modified.json()["status"]) == (200, "DONE"), modified.text
    assert modified.json()["changes"][0]["result"] == "MODIFIED"
    assert (again.json()["intentId"], again.headers["Idempotency-Replayed"]) == (modified.json()["intentId"], "true")
    assert (stale.status_code, stale.json()["current"]["quantity"]) == (409, 8)
    shown = system.get(f"/v2/orders/{order['orderId']}")
    assert (shown["quantity"], shown["price"], shown["version"], shown["changing"]) == (8, "976.00", 2, 0)
    row = the_row(system, order)
    assert (row["quantity"], float(row["price"]), row["final"]) == (8, 976, False)

    cancelled = system.http.delete(
        f"/v2/orders/{order['orderId']}", headers={"Idempotency-Key": a_key(), "Prefer": "wait=30"}
    )

    assert (cancelled.status_code, cancelled.json()["counts"]) == (200, {"CANCELLED": 1}), cancelled.text
    assert system.get(f"/v2/orders/{order['orderId']}")["state"] == "CANCELLED"
    assert the_row(system, order)["state"] == "cancelled"
    kinds = [call["kind"] for call in system.get(f"/v2/orders/{order['orderId']}/history")["calls"]]
    assert kinds == ["PLACE", "MODIFY", "CANCEL"]
    system.assert_sound()


def test_a_filter_cancels_over_both_brokers_and_leaves_the_others_alone(system: System) -> None:
    strategy = f"s-{uuid.uuid4().hex[:8]}"
    meant = resting(system, *[RESTS | {"broker": broker, "strategy": strategy} for broker in BROKERS for _ in range(3)])
    (other,) = resting(system, RESTS)

    dry = system.trader("order", "cancel-multi", "--strategy", strategy, "--dry-run", "--json")
    ran = system.trader("order", "cancel-multi", "--strategy", strategy, "--json")
    again = system.trader("order", "cancel-multi", "--strategy", strategy, "--json")

    assert json.loads(dry.stdout)["matched"] == len(meant)
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert (document["status"], document["counts"]) == ("DONE", {"CANCELLED": len(meant)})
    assert {line["orderId"] for line in document["changes"]} == {order["orderId"] for order in meant}
    assert {the_row(system, order)["state"] for order in meant} == {"cancelled"}
    assert system.get(f"/v2/orders/{other['orderId']}")["state"] == "OPEN"
    assert (again.returncode, json.loads(again.stdout)["total"]) == (0, 0)
    system.assert_sound()


def test_what_was_filled_meanwhile_is_told_as_filled(system: System) -> None:
    first, second = resting(system, RESTS, RESTS)
    system.fill(first["brokerTag"])

    ran = system.trader("order", "cancel", first["orderId"], second["orderId"], "--json")

    assert ran.returncode == 3, ran.stderr
    told = {line["orderId"]: line for line in json.loads(ran.stdout)["changes"]}
    assert told[second["orderId"]]["result"] == "CANCELLED"
    assert told[first["orderId"]]["result"] in ("FILLED", "ALREADY_ENDED")
    until(lambda: system.get(f"/v2/orders/{first['orderId']}")["state"] == "FILLED")
    assert (the_row(system, first)["state"], the_row(system, second)["state"]) == ("complete", "cancelled")
    system.assert_sound()


def test_the_command_modifies_and_shows_the_order_before_and_after(system: System) -> None:
    (order,) = resting(system, RESTS | {"quantity": 5})

    ran = system.trader("order", "modify", order["orderId"], "--price", "977.00")
    nothing = system.trader("order", "modify", order["orderId"], "--price", "977.00", "--json")

    assert ran.returncode == 0, ran.stderr
    assert "at version 1: BUY 5 NSE:SBIN  CNC LIMIT 975.00" in ran.stderr
    assert "at version 2: BUY 5 NSE:SBIN  CNC LIMIT 977.00" in ran.stderr
    assert (nothing.returncode, json.loads(nothing.stdout)["reason"]["code"]) == (1, "NOTHING_TO_CHANGE")
    assert system.trader("order", "cancel", order["orderId"]).returncode == 0
    system.assert_sound()
