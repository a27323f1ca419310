"""Switches for tests: turned by an operator or the user itself, and a position to close."""

from __future__ import annotations

from typing import Any

from house import BookedBroker, House
from works import Works

from domain.lifecycle import OrderState
from domain.switches import Mode, Scope
from pipeline.desk import Desk
from pipeline.switches import By, Turn, turn

ASHA = By(name="asha", user_id=None, is_operator=True)
MIS = {"product": "MIS"}


def trader(house: House) -> By:
    return By(name="ravi", user_id=house.user_id, is_operator=False)


def switch(
    desk: Desk, mode: Mode, scope: Scope = Scope.ALL, subject: str = "all", *, by: By = ASHA, **asked: Any
) -> dict[str, Any]:
    return turn(desk, scope, subject, Turn(mode=mode, **{"reason": "enough", **asked}), by)


def end_of(house: House, order_id: str) -> tuple[str, str | None]:
    order = house.order(order_id)
    return order.state.value, order.reason_code


def hold(works: Works, broker: BookedBroker, quantity: int, **terms: Any) -> None:
    """A position: bought, and told by the broker's book."""
    (order_id,) = works.place(quantity=quantity, **MIS, **terms)
    broker.fill("FK0001", works.house.order(order_id).broker_order_id or "", quantity)
    works.look()
    assert works.house.order(order_id).state is OrderState.FILLED
