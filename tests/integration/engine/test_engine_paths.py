"""Every way an order can take: at each end its row is what its events say, and its account holds what is live."""

from __future__ import annotations

from typing import Any

import pytest
from house import FakeBroker, House, intake_engine

from domain.outcomes import Accepted, NotSent, Refused, Unknown


def walk(house: House, broker: FakeBroker, lines: int = 1) -> list[str]:
    """From the door to the first outcome; gives the order ids."""
    desk = house.desk(broker)
    ids = [line.order_id for line in house.accept(lines, desk=desk).lines]
    intake_engine(desk).run("validate")
    house.dispatcher(desk).pump()
    house.settled(ids)
    return ids


@pytest.mark.parametrize(
    ("outcome", "state", "command"),
    [
        (Accepted("B1"), "SUBMITTED", "DONE"),
        (Refused("RMS", 'margin ₹1,00,000 \\ "short"'), "REJECTED", "DONE"),
        (NotSent("no connection"), "RECEIVED", "READY"),
        (Unknown("no whole answer in time"), "UNKNOWN", "UNKNOWN"),
    ],
)
def test_an_outcome_becomes_the_state(house: House, outcome: Any, state: str, command: str) -> None:
    (order_id,) = walk(house, FakeBroker(lambda _: outcome))

    assert house.order(order_id).state == state
    assert house.command(order_id).state == command
    house.check()
