"""Switches: after a halt nothing is sent, what was not sent ends, and what follows is carried out once."""

from __future__ import annotations

import threading
import time

import pytest
from house import BookedBroker, FakeBroker, House, eventually
from switch_room import ASHA, end_of, hold, switch
from works import Works

from domain.lifecycle import OrderState
from domain.outcomes import Accepted, NotSent
from domain.switches import Mode, Scope
from domain.verdicts import Reject
from ops import clock
from pipeline import aftermath
from pipeline.desk import Desk
from pipeline.preview import preview
from pipeline.sweep import Sweep
from pipeline.switches import show


@pytest.fixture
def broker() -> BookedBroker:
    return BookedBroker()


@pytest.fixture
def works(house: House, broker: BookedBroker) -> Works:
    return Works(house, broker)


SCOPES = [
    (Scope.ALL, "all"),
    (Scope.USER, "{user}"),
    (Scope.ACCOUNT, "FK0001"),
    (Scope.STRATEGY, "{user}:momentum"),
]


@pytest.mark.parametrize(("scope", "subject"), SCOPES)
def test_a_halt_is_told_where_an_order_is_judged_with_its_scope_and_reason(
    house: House, works: Works, scope: Scope, subject: str
) -> None:
    switch(works.desk, Mode.HALTED, scope, subject.format(user=house.user_id))

    (order_id,) = works.received(strategy="momentum")
    (other,) = works.received(strategy="other", account="FK0002")
    works.clear()

    order = house.order(order_id)
    assert (order.state, order.reason_code) == ("REJECTED", "HALTED")
    assert order.reason is not None
    assert order.reason.endswith("by asha: enough")
    if scope in (Scope.ACCOUNT, Scope.STRATEGY):
        assert house.order(other).state is OrderState.RECEIVED
        assert subject.partition(":")[2] in order.reason
    house.check()


@pytest.mark.parametrize(("scope", "subject"), SCOPES)
def test_what_was_cleared_before_is_not_sent_after_a_halt(
    house: House, works: Works, broker: BookedBroker, scope: Scope, subject: str
) -> None:
    (order_id,) = works.received(strategy="momentum")
    works.clear()
    switch(works.desk, Mode.HALTED, scope, subject.format(user=house.user_id))

    works.send()

    assert end_of(house, order_id) == ("REJECTED", "HALTED")
    assert broker.calls == []
    house.check()


def test_a_strategy_of_another_user_is_let_through(house: House, works: Works) -> None:
    switch(works.desk, Mode.HALTED, Scope.STRATEGY, f"{house.user_id}:momentum")

    (order_id,) = works.place(strategy="other")

    assert house.order(order_id).state is OrderState.OPEN


def test_a_resumed_switch_lets_everything_through_again(house: House, works: Works) -> None:
    switch(works.desk, Mode.HALTED)
    switch(works.desk, Mode.ACTIVE)

    (order_id,) = works.place()

    assert house.order(order_id).state is OrderState.OPEN


def test_a_halt_survives_every_process(house: House, works: Works) -> None:
    switch(works.desk, Mode.HALTED)
    again = Works(house, BookedBroker())

    (order_id,) = again.received()
    again.clear()

    assert end_of(house, order_id) == ("REJECTED", "HALTED")


def test_a_preview_says_what_the_switches_forbid(house: House, works: Works) -> None:
    switch(works.desk, Mode.HALTED, Scope.ACCOUNT, "FK0001")

    shown = preview(works.desk, house.user_id, house.submission(1).request)

    (line,) = shown.lines
    assert isinstance(line.verdict, Reject)
    assert line.verdict.code == "HALTED"
    assert line.parts == ()


def test_what_was_not_sent_ends_and_what_is_at_the_broker_stays(house: House, works: Works, broker: BookedBroker) -> None:
    (resting,) = works.place()
    waiting, cleared = works.received(), works.received()
    house.run("update commands set due_at = now() + interval '1 hour' where order_id = %s", waiting[0])
    works.clear()

    told = switch(works.desk, Mode.HALTED)
    assert aftermath.carry_out(works.desk) == 0
    works.judge()

    assert [end_of(house, ids[0]) for ids in (waiting, cleared)] == [("CANCELLED", "HALTED")] * 2
    assert house.order(resting).state is OrderState.OPEN
    assert told["carriedOutAt"] is None
    (document,) = show(works.desk, ASHA)
    assert document["carriedOutAt"] is not None
    assert [step["matched"] for step in document["followed"]["unsent"]] == [2]
    house.check()


def test_what_comes_back_unsent_is_not_sent_again(house: House) -> None:
    broker = FakeBroker(lambda line: NotSent("connection refused", retry_after_s=0.01))
    works = Works(house, broker)
    (order_id,) = works.received()
    works.clear()
    works.send()
    switch(works.desk, Mode.HALTED)
    aftermath.carry_out(works.desk)
    broker.answer = lambda line: Accepted("B1")
    sent = len(broker.calls)

    house.due_now()
    works.outcomes.run("persist", "-")
    works.judge()
    house.due_now()
    works.send()

    assert house.order(order_id).reason_code in ("HALTED", "CANCELLED_UNSENT")
    assert len(broker.calls) == sent
    house.check()


def test_the_clock_carries_out_what_nobody_has_and_its_sweep_waits_for_none_of_it(
    house: House, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    (order_id,) = works.received()
    switch(works.desk, Mode.HALTED)
    stopping, go_on = threading.Event(), threading.Event()
    sweeps: list[float] = []
    carry_out = clock.carry_out

    def slowly(desk: Desk) -> int:
        assert go_on.wait(10)
        return carry_out(desk)

    monkeypatch.setattr(clock, "TICK_S", 0.05)
    monkeypatch.setattr(clock, "carry_out", slowly)
    monkeypatch.setattr(Sweep, "run", lambda self: sweeps.append(time.monotonic()))
    ticking = threading.Thread(target=clock.tick_until, args=(stopping, works.desk))
    ticking.start()
    try:
        eventually(lambda: len(sweeps) > 3)
        go_on.set()
        eventually(lambda: house.rows("select 1 from orders where cancel_requested"))
    finally:
        go_on.set()
        stopping.set()
        ticking.join(10)
    works.judge()

    assert end_of(house, order_id) == ("CANCELLED", "HALTED")


def test_what_was_done_and_not_noted_is_not_done_again(
    house: House, works: Works, broker: BookedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(works, broker, 100)
    works.received(3)
    switch(works.desk, Mode.HALTED, flatten=True)
    monkeypatch.setattr(aftermath, "_note", lambda *_given, **_named: False)
    for _ in range(2):
        aftermath.carry_out(works.desk)
        works.judge()
    monkeypatch.undo()

    aftermath.carry_out(works.desk)
    aftermath.carry_out(works.desk)

    assert house.rows("select kind, count(*) from intents where idempotency_key like 'switch%%' group by 1 order by 1") == [
        ("CANCEL", 1),
        ("PLACE", 1),
    ]
    assert house.rows("select count(*) from switches where carried_out_at is null") == [(0,)]


def test_cancels_pass_in_every_mode(house: House, works: Works, broker: BookedBroker) -> None:
    resting = works.place(2)
    switch(works.desk, Mode.HALTED)

    works.cancel(*resting)
    works.settle()

    assert [house.order(order_id).state for order_id in resting] == [OrderState.CANCELLED] * 2
    house.check()


def test_open_orders_of_the_scope_are_cancelled_where_asked(house: House, works: Works, broker: BookedBroker) -> None:
    (resting,) = works.place()
    (other,) = works.place(account="FK0002")
    switch(works.desk, Mode.HALTED, Scope.ACCOUNT, "FK0001", cancel_open=True)

    aftermath.carry_out(works.desk)
    works.settle()

    assert house.order(resting).state is OrderState.CANCELLED
    assert house.order(other).state is OrderState.OPEN
    house.check()
