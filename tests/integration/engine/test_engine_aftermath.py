"""What follows a switch, in a house whose settings or people get in its way: it is done whole, and ends with its switch."""

from __future__ import annotations

from typing import Any

import pytest
from house import BookedBroker, House
from switch_room import ASHA, end_of, hold, switch
from works import Works

from domain.cancels import FAIL_FAST_MAX
from domain.switches import Mode
from pipeline import aftermath, cancelling, squareoff
from pipeline.switches import show
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


@pytest.mark.parametrize("stage", ["intake", "the last gate"])
def test_whoever_has_an_unsent_order_in_hand_tells_it_halted_as_well(
    house: House, works: Works, broker: BookedBroker, stage: str
) -> None:
    (order_id,) = works.received()
    if stage != "intake":
        works.clear()
    switch(works.desk, Mode.HALTED)
    aftermath.carry_out(works.desk)

    works.clear()
    works.send()

    assert end_of(house, order_id) == ("CANCELLED", "HALTED")
    assert (house.order(order_id).reason or "").endswith("by asha: enough")
    works.settle()
    assert house.rows("select result from changes") == [("CANCELLED",)]
    house.check()


def test_a_switch_that_is_resumed_midway_cancels_no_more(
    house: House, works: Works, broker: BookedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (resting,) = works.place()
    (unsent,) = works.received()
    switch(works.desk, Mode.HALTED, cancel_open=True)
    accept = cancelling.accept

    def resumed_meanwhile(*given: Any) -> Any:
        accepted = accept(*given)
        switch(works.desk, Mode.ACTIVE)
        return accepted

    monkeypatch.setattr(cancelling, "accept", resumed_meanwhile)
    aftermath.carry_out(works.desk)
    works.settle()

    assert end_of(house, unsent) == ("CANCELLED", "HALTED")
    assert house.states([resting]) == ["OPEN"]
    (document,) = show(works.desk, ASHA)
    assert (document["mode"], document["followed"]["unsent"]) == ("ACTIVE", [])


def test_a_switch_that_is_resumed_before_its_turn_comes_does_nothing(
    house: House, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    works.received()
    switch(works.desk, Mode.HALTED)
    carried_out = aftermath._carried_out

    def resumed_before(*given: Any) -> bool:
        switch(works.desk, Mode.ACTIVE)
        return carried_out(*given)

    monkeypatch.setattr(aftermath, "_carried_out", resumed_before)

    assert aftermath.carry_out(works.desk) == 0
    assert house.rows("select count(*) from orders where cancel_requested") == [(0,)]


def test_a_switch_that_is_resumed_midway_closes_no_more_positions(
    house: House, works: Works, broker: BookedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(works, broker, 100)
    switch(works.desk, Mode.HALTED, flatten=True)
    closed: list[str] = []
    accept = squareoff.accept

    def resumed_meanwhile(desk: Any, asked: squareoff.Asked, *given: Any, **named: Any) -> Any:
        closed.append(asked.user_id)
        switch(works.desk, Mode.ACTIVE)
        return accept(desk, asked, *given, **named)

    monkeypatch.setattr(squareoff, "accept", resumed_meanwhile)
    monkeypatch.setattr(aftermath, "_users", lambda *_: [house.user_id, "01234567-0000-7000-8000-00000000000a"])
    aftermath.carry_out(works.desk)

    assert closed == [house.user_id]
