"""Switches that close positions: under REDUCING never more than the position is sent, and a flatten closes what is left."""

from __future__ import annotations

import pytest
from house import BookedBroker, House
from modify_works import ModifiableBroker, ModifyWorks
from switch_room import ASHA, MIS, end_of, hold, switch
from works import Works

from domain.lifecycle import OrderState
from domain.switches import Mode, Scope
from pipeline import aftermath
from pipeline.switches import show


@pytest.fixture
def broker() -> BookedBroker:
    return BookedBroker()


@pytest.fixture
def works(house: House, broker: BookedBroker) -> Works:
    return Works(house, broker)


@pytest.mark.parametrize("mode", [Mode.REDUCING, Mode.HALTED])
def test_flatten_cancels_then_closes_what_is_left_and_its_orders_pass(
    house: House, works: Works, broker: BookedBroker, mode: Mode
) -> None:
    hold(works, broker, 100)
    works.place(quantity=30, side="SELL", **MIS)
    works.place(quantity=50, **MIS)

    switch(works.desk, mode, Scope.USER, house.user_id, flatten=True)
    assert aftermath.carry_out(works.desk) == 1, "orders may still move the position"
    works.settle()
    assert aftermath.carry_out(works.desk) == 0
    works.clear()
    works.send()

    (closing,) = broker.calls[-1]
    assert (closing.order.side, closing.order.quantity, closing.order.order_type) == ("SELL", 100, "MARKET")
    (document,) = show(works.desk, ASHA)
    assert [step["orders"] for step in document["followed"]["flatten"]] == [1]
    house.check()


def test_a_closing_order_never_opens_anything_under_a_halt(house: House, works: Works, broker: BookedBroker) -> None:
    hold(works, broker, 100)
    switch(works.desk, Mode.HALTED, flatten=True)
    aftermath.carry_out(works.desk)
    (closing,) = house.rows("select id, quantity from orders where state = 'RECEIVED'")
    house.run("update orders set filled_quantity = 40 where state = 'FILLED'")  # the position is smaller than it was

    works.clear()

    assert end_of(house, closing[0]) == ("REJECTED", "REDUCING_ONLY")


def test_reducing_lets_through_what_closes_and_nothing_that_opens(
    house: House, works: Works, broker: BookedBroker
) -> None:
    hold(works, broker, 100)
    switch(works.desk, Mode.REDUCING, Scope.ACCOUNT, "FK0001")

    (bought,) = works.received(quantity=10, **MIS)
    (too_much,) = works.received(quantity=101, side="SELL", **MIS)
    (other_product,) = works.received(quantity=10, side="SELL", product="MTF")
    (other_instrument,) = works.received(quantity=10, side="SELL", instrument="NSE:TCS", price="3000.00", **MIS)
    (delivery_sold,) = works.received(quantity=10, side="SELL")
    (delivery_bought,) = works.received(quantity=10)
    (closing,) = works.received(quantity=100, side="SELL", **MIS)
    works.clear()

    for order_id in (bought, too_much, other_product, other_instrument, delivery_bought):
        assert end_of(house, order_id) == ("REJECTED", "REDUCING_ONLY")
    assert house.order(too_much).reason == (
        "the position in NSE:INFY MIS at FK0001 is 100: at most 100 can be closed, not 101;"
        " account FK0001 is REDUCING (enough, by asha)"
    )
    works.send()
    works.look()
    assert [house.order(order_id).state for order_id in (delivery_sold, closing)] == [OrderState.OPEN] * 2
    house.check()


def test_what_orders_under_way_may_take_cannot_be_taken_again(house: House, works: Works, broker: BookedBroker) -> None:
    hold(works, broker, 100)
    works.place(quantity=60, side="SELL", **MIS)
    switch(works.desk, Mode.REDUCING)

    (first,) = works.received(quantity=40, side="SELL", **MIS)
    (second,) = works.received(quantity=1, side="SELL", **MIS)
    works.clear()

    assert house.order(first).state is OrderState.RECEIVED
    assert end_of(house, second) == ("REJECTED", "REDUCING_ONLY")
    assert "of which orders under way may sell 100: at most 0 can be closed" in (house.order(second).reason or "")


def test_what_was_cleared_before_is_held_to_the_position_at_the_gate(
    house: House, works: Works, broker: BookedBroker
) -> None:
    hold(works, broker, 100)
    sold = [works.received(quantity=100, side="SELL", **MIS)[0] for _ in range(3)]
    (bought,) = works.received(quantity=10, **MIS)
    works.clear()
    switch(works.desk, Mode.REDUCING)

    works.send()
    works.look()

    assert sorted(end_of(house, order_id) for order_id in sold) == [
        ("OPEN", None),
        ("REJECTED", "REDUCING_ONLY"),
        ("REJECTED", "REDUCING_ONLY"),
    ]
    assert end_of(house, bought) == ("REJECTED", "REDUCING_ONLY")
    house.check()


def test_a_short_position_is_closed_by_buying(house: House, works: Works, broker: BookedBroker) -> None:
    hold(works, broker, 50, side="SELL")
    switch(works.desk, Mode.REDUCING)

    (sold,) = works.received(quantity=1, side="SELL", **MIS)
    (bought,) = works.received(quantity=50, **MIS)
    works.clear()

    assert end_of(house, sold) == ("REJECTED", "REDUCING_ONLY")
    assert house.order(bought).state is OrderState.RECEIVED


def test_under_reducing_only_what_closes_a_position_gets_other_terms(house: House) -> None:
    broker = ModifiableBroker()
    works = ModifyWorks(house, broker)
    (bought,) = works.place(quantity=100, **MIS)
    broker.trade(house.order(bought).broker_order_id or "", 100)
    works.look()
    (opening,) = works.place(quantity=10, **MIS)
    (closing,) = works.place(quantity=100, side="SELL", **MIS)
    switch(works.desk, Mode.REDUCING)

    dearer = works.modify(opening, price="1101.00")
    smaller = works.modify(closing, price="1099.00")
    works.settle()

    assert (works.result(dearer), works.change_of(dearer).reason_code) == ("REFUSED", "REDUCING_ONLY")
    assert works.result(smaller) == "MODIFIED"
    house.check()
