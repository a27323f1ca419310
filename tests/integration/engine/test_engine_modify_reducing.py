"""Modifies under a REDUCING switch: an order gets new terms only where nothing can turn its position over by them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
from house import House
from modify_works import PRICE, ModifiableBroker, ModifyWorks, switch

from domain.reducing import Place, Standing
from store import standings
from store.unit import Unit

MIS = {"product": "MIS"}


@pytest.fixture
def broker() -> ModifiableBroker:
    return ModifiableBroker()


@pytest.fixture
def works(house: House, broker: ModifiableBroker) -> ModifyWorks:
    return ModifyWorks(house, broker)


def fill(works: ModifyWorks, order_id: str, quantity: int) -> None:
    """So much of it, and it is known."""
    works.broker.trade(works.broker_id(order_id), quantity)
    works.look()


def hold(works: ModifyWorks, quantity: int) -> None:
    """A position that was bought today."""
    (order_id,) = works.place(quantity=quantity, **MIS)
    fill(works, order_id, quantity)


@pytest.mark.parametrize(("quantity", "result"), [(12, "REFUSED"), (8, "MODIFIED")])
def test_while_positions_are_reduced_no_order_gets_larger(
    house: House, works: ModifyWorks, quantity: int, result: str
) -> None:
    (order_id,) = works.place(quantity=10)
    switch(house, "REDUCING")

    answer = works.modify(order_id, quantity=quantity)
    works.settle()

    assert works.result(answer) == result
    assert works.change_of(answer).reason_code == ("REDUCING_ONLY" if result == "REFUSED" else None)


@pytest.mark.parametrize("judged_before", [True, False], ids=["at the gate", "where it is judged"])
@pytest.mark.parametrize(("beside", "result"), [(50, "REFUSED"), (None, "MODIFIED")])
def test_what_an_order_has_filled_is_no_room_for_the_rest_of_it(
    house: House, works: ModifyWorks, broker: ModifiableBroker, judged_before: bool, beside: int | None, result: str
) -> None:
    """Of 100 it has sold 60: 40 are held, and what is under way beside it leaves none of them."""
    hold(works, 100)
    (order_id,) = works.place(quantity=100, side="SELL", **MIS)
    if beside:
        works.place(quantity=beside, side="SELL", **MIS)
    fill(works, order_id, 60)
    answer = works.modify(order_id, price="1099.00")
    if judged_before:
        works.judge()
    switch(house, "REDUCING")

    works.settle()

    assert works.result(answer) == result
    assert len(broker.asked) == (result == "MODIFIED")
    if result == "REFUSED":
        assert works.change_of(answer).reason_code == "REDUCING_ONLY"
        said = "is 40, of which orders under way may sell 50: at most 0 can be closed, not 40"
        assert said in (works.change_of(answer).reason or "")
    house.check()


@pytest.mark.parametrize("together", [True, False])
def test_orders_that_close_too_much_between_them_are_refused_in_whatever_company(
    house: House, works: ModifyWorks, broker: ModifiableBroker, together: bool
) -> None:
    hold(works, 100)
    closing = works.place(2, quantity=60, side="SELL", **MIS)
    switch(house, "REDUCING")

    told = []
    for order_id in closing:
        told.append(works.modify(order_id, price="1099.00"))
        if not together:
            works.settle()
    works.settle()

    assert [works.change_of(answer).reason_code for answer in told] == ["REDUCING_ONLY"] * 2
    assert broker.asked == []
    house.check()


def test_positions_are_read_under_the_locks_of_their_accounts(
    house: House, works: ModifyWorks, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(works, 100)
    (order_id,) = works.place(quantity=100, side="SELL", **MIS)
    switch(house, "REDUCING")
    read, are_locked = standings.read, list[bool]()

    def look(unit: Unit, places: Collection[Place], *given: Any, **named: Any) -> dict[Place, Standing]:
        if places:
            are_locked.append(not house.rows("select 1 from accounts where id = 'FK0001' for update skip locked"))
        return read(unit, places, *given, **named)

    monkeypatch.setattr(standings, "read", look)
    answer = works.modify(order_id, price="1099.00")
    works.settle()

    assert works.result(answer) == "MODIFIED"
    assert are_locked == [True, True], "where it is judged, and where its call begins"


def test_what_a_modify_may_have_made_larger_is_under_way(house: House, works: ModifyWorks) -> None:
    hold(works, 100)
    (order_id,) = works.place(quantity=10, side="SELL", **MIS)
    works.lose(order_id, quantity=40)
    switch(house, "REDUCING")

    (fits,) = works.received(quantity=60, side="SELL", price=PRICE, **MIS)
    (too_much,) = works.received(quantity=1, side="SELL", price=PRICE, **MIS)
    works.clear()

    assert house.order(fits).state == "RECEIVED"
    assert house.order(too_much).reason_code == "REDUCING_ONLY"
    assert "may sell 100: at most 0 can be closed" in (house.order(too_much).reason or "")
