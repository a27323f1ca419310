"""kill -9 of each process of a live stack with orders in flight: nothing is lost, nothing is there twice."""

from __future__ import annotations

import pytest
from live import FILLS, System, until

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("live")]
SLOW_S = 1.5  # what the brokers' answers take meanwhile
PROCESSES = ("web", "clock", "intake", "outcome", "listen", "dispatch-upstox", "dispatch-zerodha")


@pytest.mark.parametrize("process", PROCESSES)
def test_orders_in_flight_survive_the_death_of(system: System, process: str) -> None:
    many = [FILLS] * 4 + [FILLS | {"broker": "ZERODHA"}] * 2
    with (
        system.fault(kind="latency_after", endpoint="place", seconds=SLOW_S, count=None),
        system.fault(kind="latency_after", endpoint="multi", seconds=SLOW_S, count=None),
    ):
        first = system.accepted(*many)
        until(lambda: the_brokers_have(system, first))  # and have not said so yet
        second = system.accepted(*many[2:])
        if process.startswith("dispatch"):
            # Killed between the attempt and its bytes, an order was not sent, and nothing proves that yet.
            until(lambda: the_brokers_have(system, second))
        system.stack.kill(process)
        third = system.accepted(FILLS, FILLS | {"broker": "ZERODHA"})
        system.stack.wait_ready(process)

    orders = system.filled(first, second, third)

    assert [len(system.book(order["brokerTag"])) for order in orders] == [1] * 12
    system.assert_sound()


def the_brokers_have(system: System, intent_id: str) -> bool:
    return all(system.book(order["brokerTag"]) for order in system.get(f"/v2/intents/{intent_id}")["orders"])
