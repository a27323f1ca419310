"""What follows a switch, in a house whose settings or people get in its way: it is done whole, and ends with its switch."""

from __future__ import annotations

from typing import Any

import pytest
from house import BookedBroker, House
from switch_room import ASHA, end_of, hold, switch
from works import Works

from domain.cancels import FAIL_FAST_MAX, CancelSubmission
from domain.errors import StoreAway
from domain.switches import Key, Mode, Scope
from pipeline import aftermath, cancelling, squareoff
from pipeline.desk import Desk
from pipeline.switches import show
from store import settings, switches


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
    assert house.rows("select count(*) from intents where kind = 'CANCEL'") == [(1,)], "one request for all of them"


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
    undone = aftermath._undone

    def resumed_since(desk: Desk) -> Any:
        found = undone(desk)
        switch(works.desk, Mode.ACTIVE)
        return found

    monkeypatch.setattr(aftermath, "_undone", resumed_since)

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


def test_what_one_switch_can_not_have_done_keeps_no_other_back(
    house: House, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    (held_up,) = works.received(account="FK0001")
    (other,) = works.received(account="FK0002")
    switch(works.desk, Mode.HALTED, Scope.ACCOUNT, "FK0001")
    switch(works.desk, Mode.HALTED, Scope.ACCOUNT, "FK0002")
    accept = cancelling.accept

    def busy(desk: Desk, submission: CancelSubmission) -> Any:
        if submission.request.order_ids == (held_up,):
            raise StoreAway("the database is busy")
        return accept(desk, submission)

    monkeypatch.setattr(cancelling, "accept", busy)

    assert aftermath.carry_out(works.desk) == 1
    assert house.rows("select id from orders where cancel_requested") == [(other,)]
    monkeypatch.undo()
    assert aftermath.carry_out(works.desk) == 0


def test_what_was_not_sent_is_ended_before_anything_open_is_cancelled(
    house: House, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    works.place(account="FK0001")
    works.received(account="FK0002")
    switch(works.desk, Mode.REDUCING, Scope.ACCOUNT, "FK0001", cancel_open=True)
    switch(works.desk, Mode.HALTED, Scope.ACCOUNT, "FK0002")
    steps: list[str] = []
    accept = cancelling.accept

    def noted(desk: Desk, submission: CancelSubmission) -> Any:
        steps.append(submission.idempotency_key.split()[3])
        return accept(desk, submission)

    monkeypatch.setattr(cancelling, "accept", noted)

    assert aftermath.carry_out(works.desk) == 0
    assert steps == ["unsent", "open"]


def test_whoever_carries_out_beside_another_loses_nothing_of_what_that_has_noted(house: House, works: Works) -> None:
    works.received()
    switch(works.desk, Mode.HALTED)
    with house.store.unit() as unit:
        ((turned, _, _),) = switches.undone(unit)
    mine: dict[str, list[Any]] = {"unsent": [{"intentId": "a", "matched": 3}]}
    others: dict[str, list[Any]] = {"unsent": [{"intentId": "b", "matched": 4}], "open": [{"intentId": "c", "matched": 5}]}

    with house.store.unit() as unit:
        assert switches.follow(unit, turned, mine, None)
    with house.store.unit() as unit:
        assert switches.follow(unit, turned, others, works.desk.now())
    with house.store.unit() as unit:
        assert switches.follow(unit, turned, mine, None)

    (document,) = show(works.desk, ASHA)
    assert document["followed"] == {**others, "flatten": []}
    assert [one["intentId"] for one in mine["unsent"]] == ["a", "b"]
    assert document["carriedOutAt"] is not None


@pytest.mark.parametrize(
    ("scope", "subject"),
    [(Scope.ALL, "all"), (Scope.USER, "{user}"), (Scope.ACCOUNT, "FK0001"), (Scope.STRATEGY, "{user}:momentum")],
)
def test_users_with_live_orders_are_those_who_have_one(house: House, works: Works, scope: Scope, subject: str) -> None:
    key = Key(scope, subject.format(user=house.user_id))

    def found(*, uncancelled: bool) -> list[str]:
        with house.store.unit() as unit:
            users = switches.users_of(unit, key)
            return switches.users_with_live(unit, key, users, aftermath._first_id(works.desk), uncancelled=uncancelled)

    assert found(uncancelled=False) == []
    (order_id,) = works.received(account="FK0001", strategy="momentum")
    assert found(uncancelled=False) == [house.user_id], "not judged yet"
    works.clear()
    works.send()
    works.look()
    assert (found(uncancelled=False), found(uncancelled=True)) == ([house.user_id], [house.user_id])
    works.cancel(order_id)
    assert (found(uncancelled=False), found(uncancelled=True)) == ([house.user_id], [])
    works.settle()
    assert found(uncancelled=False) == []
