"""Switches: after a halt nothing is sent, under REDUCING never more than the position, and what follows is carried out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from house import BookedBroker, FakeBroker, House, change_engine, eventually, intake_engine, outcome_engine
from modify_works import ModifiableBroker, ModifyWorks
from works import Works

from brokers.base import Line
from domain.errors import KeyReused, NotAllowed, NotFound, StaleDocument
from domain.ids import new_id
from domain.lifecycle import OrderState
from domain.outcomes import Accepted, NotSent, Outcome
from domain.switches import Mode, Scope
from domain.verdicts import Reject
from pipeline import aftermath
from pipeline.desk import Desk
from pipeline.preview import preview
from pipeline.switches import By, Turn, show, turn
from store import settings
from store.acts import Once

ASHA = By(name="asha", user_id=None, is_operator=True)
MIS = {"product": "MIS"}


@pytest.fixture
def broker() -> BookedBroker:
    return BookedBroker()


@pytest.fixture
def works(house: House, broker: BookedBroker) -> Works:
    return Works(house, broker)


def trader(house: House) -> By:
    return By(name="ravi", user_id=house.user_id, is_operator=False)


def switch(
    desk: Desk, mode: Mode, scope: Scope = Scope.ALL, subject: str = "all", *, by: By = ASHA, **asked: Any
) -> dict[str, Any]:
    return turn(desk, scope, subject, Turn(mode=mode, reason="enough", **asked), by)


def end_of(house: House, order_id: str) -> tuple[str, str | None]:
    order = house.order(order_id)
    return order.state.value, order.reason_code


def hold(works: Works, broker: BookedBroker, quantity: int, **terms: Any) -> None:
    """A position: bought, and told by the broker's book."""
    (order_id,) = works.place(quantity=quantity, **MIS, **terms)
    broker.fill("FK0001", works.house.order(order_id).broker_order_id or "", quantity)
    works.look()
    assert works.house.order(order_id).state is OrderState.FILLED


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


def test_the_sweep_carries_out_what_nobody_has(house: House, works: Works) -> None:
    from pipeline.sweep import Sweep

    (order_id,) = works.received()
    switch(works.desk, Mode.HALTED)
    sweep = Sweep(works.desk)

    sweep.run()
    works.judge()

    assert end_of(house, order_id) == ("CANCELLED", "HALTED")
    sweep.close()


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


def test_a_preview_says_what_the_switches_forbid(house: House, works: Works) -> None:
    switch(works.desk, Mode.HALTED, Scope.ACCOUNT, "FK0001")

    shown = preview(works.desk, house.user_id, house.submission(1).request)

    (line,) = shown.lines
    assert isinstance(line.verdict, Reject)
    assert line.verdict.code == "HALTED"
    assert line.parts == ()


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


@contextmanager
def running(*loops: Callable[[], object]) -> Iterator[None]:
    """Each in a thread of its own, again and again."""
    over = threading.Event()
    errors: list[BaseException] = []

    def run(loop: Callable[[], object]) -> None:
        while not over.wait(0.002):
            try:
                loop()
            except BaseException as error:  # noqa: BLE001 - told by the test
                errors.append(error)
                return

    threads = [threading.Thread(target=run, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(20)
    assert errors == []


def test_64_orders_at_once_never_close_more_than_the_position(house: House, broker: BookedBroker) -> None:
    works = Works(house, broker)
    hold(works, broker, 100)
    switch(works.desk, Mode.REDUCING)
    desks = [house.desk(broker) for _ in range(4)]
    house.accept_many(64, quantity=7, side="SELL", **MIS)
    engines = [intake_engine(desk) for desk in desks]
    dispatchers = [house.dispatcher(desk) for desk in desks]

    with running(*(lambda e=e: e.run("validate", "-") for e in engines), *(lambda d=d: d.pump("-") for d in dispatchers)):
        eventually(lambda: not house.rows("select 1 from commands where stage <> 'notify' and stage <> 'persist' limit 1"))
        eventually(lambda: not any(dispatcher._busy for dispatcher in dispatchers))

    sold = sum(line.order.quantity for call in broker.calls for line in call if line.order.side == "SELL")
    assert sold == 98
    assert house.rows("select count(*) from orders where reason_code = 'REDUCING_ONLY'") == [(64 - 14,)]
    house.check()


def test_64_cleared_orders_never_close_more_than_the_position_at_the_gate(house: House, broker: BookedBroker) -> None:
    works = Works(house, broker)
    hold(works, broker, 100)
    house.accept_many(64, quantity=7, side="SELL", **MIS)
    works.clear()
    switch(works.desk, Mode.REDUCING)
    dispatchers = [house.dispatcher(house.desk(broker)) for _ in range(4)]

    with running(*(lambda d=d: d.pump("-") for d in dispatchers)):
        eventually(lambda: not house.rows("select 1 from commands where stage like 'dispatch%%' limit 1"))
        eventually(lambda: not any(dispatcher._busy for dispatcher in dispatchers))

    sold = sum(line.order.quantity for call in broker.calls for line in call if line.order.side == "SELL")
    assert sold == 98
    house.check()


def crowd() -> float:
    """How many share a processor here: a second of a machine that others use, too, is longer."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class TimedBroker(FakeBroker):
    """Knows when each order came."""

    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self.came: dict[str, float] = {}
        self._pause_s = pause_s

    def place(self, session: Any, lines: Sequence[Line], **given: Any) -> Sequence[Outcome]:
        for line in lines:
            self.came[line.order.id] = time.monotonic()
        threading.Event().wait(self._pause_s)
        return super().place(session, lines, **given)


def test_a_halt_under_load_stops_everything_within_a_second(house: House) -> None:
    """Judged by the broker: at the answer whoever is to come has an attempt already, and comes at once."""
    broker = TimedBroker(0.01)
    desks = [house.desk(broker) for _ in range(4)]
    with house.store.unit() as unit:
        settings.change(unit, "orders_per_s_max", None, by="test")
    house.accept_many(30, 20)
    engines = [intake_engine(desk) for desk in desks[:2]]
    cancels = change_engine(desks[2])
    dispatchers = [house.dispatcher(desk) for desk in desks[2:]]
    outcomes = outcome_engine(desks[3])

    with running(
        *(lambda e=e: e.run("validate", "-") for e in engines),
        lambda: cancels.run("cancel", "-"),
        *(lambda d=d: d.pump("-") for d in dispatchers),
        lambda: outcomes.run("persist", "-"),
    ):
        eventually(lambda: len(broker.came) >= 100)
        switch(house.desk(), Mode.HALTED)
        answered = time.monotonic()
        begun = {row[0] for row in house.rows("select order_id from attempts")}
        aftermath.carry_out(house.desk())
        eventually(lambda: not house.rows("select 1 from orders where state in ('RECEIVED', 'HELD') limit 1"))
        took_s = time.monotonic() - answered
        eventually(lambda: not any(dispatcher._busy for dispatcher in dispatchers))

    assert len(begun) < 600, "the halt came while there was work"
    assert set(broker.came) <= begun
    late_s = max((came - answered for came in broker.came.values()), default=0.0)
    print(f"no unsent order left {took_s:.3f} s after the answer; the last call began {late_s * 1000:.0f} ms after it")
    assert took_s < 1.0 * crowd()
    assert late_s < 0.25 * crowd()
    house.check()


def test_whoever_sends_is_done_before_the_answer_of_a_halt(house: House) -> None:
    """A gate that has let an order pass is waited for; the halt's answer comes after its attempt is committed."""
    works = Works(house, BookedBroker())
    works.received()
    works.clear()
    passed, go_on = threading.Event(), threading.Event()
    dispatcher = house.dispatcher(works.desk)
    prepare = dispatcher._prepare

    def slowly(*given: Any) -> Any:
        passed.set()
        assert go_on.wait(2)
        return prepare(*given)

    dispatcher._prepare = slowly  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as threads:
        sending = threads.submit(dispatcher.pump, "-")
        assert passed.wait(5)
        halting = threads.submit(switch, house.desk(), Mode.HALTED)
        eventually(
            lambda: house.rows("select 1 from pg_locks where locktype = 'advisory' and classid = 7302 and not granted")
        )
        assert not halting.done()
        go_on.set()
        assert sending.result(5) == 1
        halting.result(5)
    assert house.rows("select count(*) from attempts") == [(1,)]


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


# Who may, and what is written down of it.


def test_a_trader_turns_its_own_and_nobody_elses(house: House, works: Works) -> None:
    own = trader(house)
    stranger = new_id()
    house.run("insert into users (id, name) values (%s, %s)", stranger, f"stranger {stranger}")
    try:
        assert switch(works.desk, Mode.HALTED, Scope.USER, "me", by=own)["subject"] == house.user_id
        assert switch(works.desk, Mode.HALTED, Scope.ACCOUNT, "FK0001", by=own)["mode"] == "HALTED"
        strategy = switch(works.desk, Mode.HALTED, Scope.STRATEGY, "momentum", by=own)
        assert strategy["subject"] == f"{house.user_id}:momentum"
        for scope, subject in ((Scope.USER, stranger), (Scope.ACCOUNT, "UP9999"), (Scope.STRATEGY, f"{stranger}:momentum")):
            with pytest.raises(NotFound):
                switch(works.desk, Mode.HALTED, scope, subject, by=own)
        with pytest.raises(NotAllowed):
            switch(works.desk, Mode.HALTED, by=own)
        assert switch(works.desk, Mode.HALTED, Scope.USER, f"stranger {stranger}")["subject"] == stranger
        assert {one["subject"] for one in show(works.desk, own)} == {house.user_id, "FK0001", f"{house.user_id}:momentum"}
        assert len(show(works.desk, ASHA)) == 4
    finally:
        house.run("delete from users where id = %s", stranger)


def test_what_an_operator_has_set_a_trader_may_tighten_and_not_loosen(house: House, works: Works) -> None:
    own = trader(house)
    switch(works.desk, Mode.REDUCING, Scope.USER, house.user_id)
    with pytest.raises(NotAllowed):
        switch(works.desk, Mode.ACTIVE, Scope.USER, "me", by=own)

    assert switch(works.desk, Mode.HALTED, Scope.USER, "me", by=own)["byOperator"]
    with pytest.raises(NotAllowed):
        switch(works.desk, Mode.ACTIVE, Scope.USER, "me", by=own)
    switch(works.desk, Mode.ACTIVE, Scope.USER, house.user_id)
    assert not switch(works.desk, Mode.HALTED, Scope.USER, "me", by=own)["byOperator"]
    assert switch(works.desk, Mode.ACTIVE, Scope.USER, "me", by=own)["version"] == 5


def test_every_change_is_in_the_audit_log_with_what_it_was_before(house: House, works: Works) -> None:
    switch(works.desk, Mode.REDUCING, Scope.ACCOUNT, "FK0001")
    switch(works.desk, Mode.HALTED, Scope.ACCOUNT, "FK0001", flatten=True)

    told = house.rows("select actor, action, subject, detail from audit_log order by id")

    assert [row[:3] for row in told] == [
        ("asha", "switch.reduce", "ACCOUNT/FK0001"),
        ("asha", "switch.halt", "ACCOUNT/FK0001"),
    ]
    assert told[1][3] == {
        "from": "REDUCING",
        "to": "HALTED",
        "version": 2,
        "reason": "enough",
        "via": "command",
        "cancelOpen": True,
        "flatten": True,
    }


def test_a_repeat_gets_the_first_answer_and_another_request_with_its_key_is_refused(house: House, works: Works) -> None:
    once = replace(ASHA, once=Once(house.user_id, "the same key, twice", b"f" * 32))
    first = switch(works.desk, Mode.HALTED, by=once)

    again = switch(works.desk, Mode.HALTED, by=once)

    assert again == {**first, "replayed": True}
    assert house.rows("select version from switches") == [(1,)]
    with pytest.raises(KeyReused):
        switch(works.desk, Mode.ACTIVE, by=replace(ASHA, once=Once(house.user_id, "the same key, twice", b"g" * 32)))


def test_a_stale_version_changes_nothing(house: House, works: Works) -> None:
    switch(works.desk, Mode.HALTED)

    with pytest.raises(StaleDocument) as stale:
        switch(works.desk, Mode.ACTIVE, version=0)

    assert (stale.value.expected, stale.value.found) == (0, 1)
    assert house.rows("select mode from switches") == [("HALTED",)]
