"""What follows a switch, in a house whose settings or people get in its way: it is done whole, and ends with its switch."""

from __future__ import annotations

import pytest
from house import BookedBroker, House
from switch_room import switch
from works import Works

from domain.cancels import FAIL_FAST_MAX
from domain.switches import Mode
from pipeline import aftermath
from store import settings


@pytest.fixture
def broker() -> BookedBroker:
    return BookedBroker()


@pytest.fixture
def works(house: House, broker: BookedBroker) -> Works:
    return Works(house, broker)


@pytest.fixture
def one_after_another(works: Works) -> None:
    """What the administrator wants of cancels that say nothing of it."""
    with works.house.store.unit() as unit:
        settings.change(unit, "cancel_policy", "FAIL_FAST", by="test")
    works.desk.forget()


@pytest.mark.usefixtures("one_after_another")
def test_a_halt_ends_more_unsent_orders_than_can_go_one_after_another(house: House, works: Works) -> None:
    ids = [order_id for number in (20, 6) for order_id in house.accept_many(number, 20)]
    assert len(ids) > FAIL_FAST_MAX

    switch(works.desk, Mode.HALTED)
    assert aftermath.carry_out(works.desk) == 0
    works.judge()

    assert house.rows("select state, reason_code, count(*) from orders group by 1, 2") == [("CANCELLED", "HALTED", len(ids))]
    assert house.rows("select distinct source from order_events where event_type = 'CANCEL_REQUESTED'") == [("OPERATOR",)]


@pytest.mark.usefixtures("one_after_another")
def test_a_halt_cancels_open_orders_whatever_comes_of_the_others(
    house: House, works: Works, broker: BookedBroker
) -> None:
    ids = works.place(3)
    broker.fill("FK0001", house.order(ids[0]).broker_order_id or "", 10)

    switch(works.desk, Mode.HALTED, cancel_open=True)
    assert aftermath.carry_out(works.desk) == 0
    works.settle()

    assert house.states(ids) == ["FILLED", "CANCELLED", "CANCELLED"]
