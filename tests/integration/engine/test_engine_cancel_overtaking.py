"""A later request for an order whose cancel waits: for its turn, in its own time, or for an operator. It goes at once, once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from house import FREEZE, BookedBroker, House, change_engine, eventually
from switch_room import switch
from works import Works

from domain.cancels import AtOnce
from domain.errors import StoreAway
from domain.lifecycle import OrderState
from domain.outcomes import Refused
from domain.switches import Mode
from pipeline import aftermath, changes
from readmodel.changes import waited_for

ALL = {"filter": {"all": True}}


@pytest.fixture
def broker() -> BookedBroker:
    return BookedBroker()


@pytest.fixture
def works(house: House, broker: BookedBroker) -> Works:
    return Works(house, broker)


def halt(works: Works, **asked: Any) -> None:
    switch(works.desk, Mode.HALTED, cancel_open=True, **asked)
    aftermath.carry_out(works.desk)


def at_broker(house: House, *order_ids: str) -> list[str]:
    return [house.order(order_id).broker_order_id or "" for order_id in order_ids]


def parked(house: House, works: Works) -> tuple[str, list[str]]:
    """Three lines of a FAIL_FAST intent: the first one's session is dead, the others wait for it."""
    (first,) = works.place()
    others = works.place(2, account="FK0002")
    house.run("update accounts set session = 'DEAD' where id = 'FK0001'")
    works.desk.forget()
    works.cancel(first, *others, policy="FAIL_FAST")
    works.judge()
    works.ask()
    return first, others


@pytest.mark.parametrize(
    "ask",
    [
        lambda works, ids: [works.cancel(order_id) for order_id in ids],
        lambda works, ids: works.cancel(*ids),
        lambda works, ids: works.cancel(**ALL),
        lambda works, ids: [works.cancel(order_id, policy="FAIL_FAST") for order_id in ids],
        lambda works, ids: halt(works),
    ],
    ids=["each by its id", "both", "all", "each as the first line", "a halt"],
)
def test_what_waits_behind_a_line_that_hangs_goes_once_somebody_asks_for_it_by_itself(
    house: House, works: Works, broker: BookedBroker, ask: Callable[[Works, list[str]], object]
) -> None:
    first, others = parked(house, works)
    assert broker.cancels == []

    ask(works, others)
    works.judge()
    works.ask()

    assert sorted(broker.cancels) == sorted(at_broker(house, *others))
    works.round()
    works.round()
    assert house.states([first, *others]) == ["OPEN", "CANCELLED", "CANCELLED"]
    assert len(broker.cancels) == 2
    house.check()


def test_the_later_request_is_told_whose_line_it_is_and_history_that_it_was_hurried(house: House, works: Works) -> None:
    first, (second, _) = parked(house, works)
    (earlier,) = {row[0] for row in house.rows("select distinct intent_id from changes")}

    answer = works.cancel(second, reason="now")
    works.cancel(second)

    assert [(line.code, line.intent_id) for line in answer.answered] == [(AtOnce.ALREADY_CANCELLING, earlier)]
    told = "select detail ->> 'intent', detail ->> 'hurries', detail ->> 'reason' from order_events"
    assert house.rows(f"{told} where order_id = %s and event_type = 'CANCEL_REQUESTED' order by seq", second) == [
        (earlier, None, None),
        (answer.intent_id, earlier, "now"),
    ], "who asks a third time changes nothing"
    assert house.rows("select count(*) from changes where order_id = %s", second) == [(1,)]
    assert house.events(first).count("CANCEL_REQUESTED") == 1


def test_a_later_line_that_has_a_turn_of_its_own_frees_none_of_another(
    house: House, works: Works, broker: BookedBroker
) -> None:
    _, (second, third) = parked(house, works)

    works.cancel(second, third, policy="FAIL_FAST")
    works.judge()
    works.ask()

    assert broker.cancels == at_broker(house, second)


def test_a_halt_reaches_the_lines_after_one_that_fails(house: House, works: Works, broker: BookedBroker) -> None:
    ids = works.place(4)
    earlier = works.cancel(*ids, policy="FAIL_FAST")
    broker.fill("FK0001", at_broker(house, ids[0])[0], 10)

    halt(works)
    works.settle()

    assert house.states(ids) == ["FILLED", "CANCELLED", "CANCELLED", "CANCELLED"]
    assert [result for _, result in works.results(earlier)] == ["FILLED", "CANCELLED", "CANCELLED", "CANCELLED"]
    house.check()


def test_a_freed_line_that_fails_still_ends_those_after_it(house: House, works: Works, broker: BookedBroker) -> None:
    ids = works.place(4)
    earlier = works.cancel(*ids, policy="FAIL_FAST")
    second = at_broker(house, ids[1])[0]
    broker.on_cancel = lambda number: Refused("NO", "not this one") if number == second else None

    works.cancel(ids[1])
    works.settle()

    assert [result for _, result in works.results(earlier)] == ["CANCELLED", "REFUSED", "SKIPPED", "SKIPPED"]
    assert house.states(ids) == ["CANCELLED", "OPEN", "OPEN", "OPEN"]


def test_a_hard_cancel_takes_a_soft_one_out_of_its_queue(house: House, works: Works, broker: BookedBroker) -> None:
    (order_id,) = works.place()
    soft = works.cancel(order_id, mode="SOFT")
    works.judge()
    assert house.rows("select stage from commands where seq = 1") == [("dispatch.fake.soft.cancel",)]

    hard = works.cancel(order_id)
    works.judge()

    assert house.rows("select stage from commands where seq = 1") == [("dispatch.fake.cancel",)]
    with house.store.engine.connect() as connection:
        assert waited_for(connection, [soft.intent_id, hard.intent_id]) == {hard.intent_id}
    works.settle()
    assert (len(broker.cancels), works.results(soft)) == (1, [(0, "CANCELLED")])
    with house.store.engine.connect() as connection:
        assert waited_for(connection, [soft.intent_id, hard.intent_id]) == set()


def test_a_soft_cancel_that_is_urged_while_it_is_claimed_leaves_its_queue_as_well(
    house: House, works: Works, broker: BookedBroker
) -> None:
    (order_id,) = works.place()
    works.cancel(order_id, mode="SOFT")
    works.judge()
    with house.store.unit() as unit:  # a worker has it in hand
        unit.rows("select 1 from commands where seq = 1 for update")
        works.cancel(order_id)
    assert house.rows("select stage from commands where seq = 1") == [("dispatch.fake.soft.cancel",)]

    works.softly.pump("-")
    eventually(lambda: works.softly.is_idle)

    assert (house.rows("select stage from commands where seq = 1"), broker.cancels) == ([("cancel",)], [])
    works.settle()
    assert house.order(order_id).state is OrderState.CANCELLED


def test_a_cancel_that_is_urged_while_its_answer_is_written_down_stays_urged(
    house: House, works: Works, broker: BookedBroker
) -> None:
    (order_id,) = works.place()
    works.cancel(order_id, mode="SOFT")
    works.judge()
    answered, go_on = threading.Event(), threading.Event()

    def answer(_: str) -> Refused:
        answered.set()
        assert go_on.wait(10)
        return Refused("NO", "not now")

    broker.on_cancel = answer
    works.softly.pump("-")
    assert answered.wait(10)
    with house.store.unit() as unit:  # a later request, not yet committed
        unit.rows("select 1 from orders where id = %s for no key update", (order_id,))
        unit.run("""update changes set wanted = '{"mode": "SOFT", "urged_by": "i2"}'""")
        go_on.set()
        eventually(lambda: house.rows("select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%%orders%%'"))
    eventually(lambda: works.softly.is_idle)

    assert house.rows("select wanted ->> 'urged_by', told from changes") == [("i2", "REFUSED")]


def stick(house: House, order_id: str) -> None:
    house.run(
        "update commands set state = 'STUCK', live = false, attempts = 10, deaths = 3, error = 'not today', buried_at = now()"
        " where seq = 1 and order_id = %s",
        order_id,
    )


@pytest.mark.parametrize("ask", [lambda works, id_: works.cancel(id_), lambda works, id_: halt(works)], ids=["a cancel", "a halt"])
def test_a_stuck_cancel_is_taken_up_again(
    house: House, works: Works, broker: BookedBroker, ask: Callable[[Works, str], object]
) -> None:
    (order_id,) = works.place()
    works.cancel(order_id)
    stick(house, order_id)

    ask(works, order_id)

    shown = "select state, live, attempts, deaths, error, buried_at from commands where seq = 1"
    assert house.rows(shown) == [("READY", True, 0, 0, None, None)]
    works.settle()
    assert (house.order(order_id).state, len(broker.cancels)) == (OrderState.CANCELLED, 1)
    house.check()


def test_a_halt_takes_up_the_stuck_cancel_of_a_slice(house: House, works: Works, broker: BookedBroker) -> None:
    (order_id,) = works.place(quantity=FREEZE + 1000)
    works.cancel(order_id)
    ((part,), _) = house.rows("select id from orders where parent_id = %s order by id", order_id)
    stick(house, part)

    halt(works)
    works.settle()

    assert house.states([order_id, part]) == ["CANCELLED", "CANCELLED"]
    house.check()


def test_the_slices_of_an_order_are_hurried_with_it(house: House, works: Works, broker: BookedBroker) -> None:
    (order_id,) = works.place(quantity=FREEZE + 1000)
    (hanging,) = works.place(account="FK0002")
    house.run("update accounts set session = 'DEAD' where id = 'FK0002'")
    works.desk.forget()
    works.cancel(hanging, order_id, policy="FAIL_FAST")
    works.judge()

    works.cancel(order_id)
    for _ in range(4):
        works.round()

    assert house.order(order_id).state is OrderState.CANCELLED
    assert len(broker.cancels) == 2


def test_a_stuck_cancel_that_an_operator_has_in_hand_is_no_ones_to_promise(house: House, works: Works) -> None:
    (order_id,) = works.place()
    works.cancel(order_id)
    stick(house, order_id)
    with house.store.unit() as unit:
        unit.rows("select 1 from commands where seq = 1 for update")
        with pytest.raises(StoreAway):
            works.cancel(order_id)
    assert house.rows("select count(*) from intents where kind = 'CANCEL'") == [(1,)]

    works.cancel(order_id)

    assert house.rows("select state from commands where seq = 1") == [("READY",)]


def test_a_line_in_another_hand_sees_what_was_settled_meanwhile(
    house: House, works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read how far its intent is; another worker settles all lines before it, and passes over it."""
    ids = works.place(20)
    works.cancel(*ids, policy="FAIL_FAST")
    works.judge()
    last = ids[-1]
    house.run("update commands set due_at = now() where seq = 1 and order_id = %s", last)
    slow, has_read, go_on = change_engine(house.desk(works.broker)), threading.Event(), threading.Event()
    read = changes.lines_of

    def slowly(*given: Any) -> Any:
        lines = read(*given)
        if threading.current_thread().name.startswith("slow"):
            has_read.set()
            assert go_on.wait(10)
        return lines

    monkeypatch.setattr(changes, "lines_of", slowly)
    with ThreadPoolExecutor(1, thread_name_prefix="slow") as slow_thread, ThreadPoolExecutor(1) as thread:
        reading = slow_thread.submit(slow.run, "cancel", "-")
        assert has_read.wait(10)
        house.run("update orders set state = 'FILLED', filled_quantity = quantity where id = any(%s)", ids[:-1])
        house.run("update commands set due_at = now() where seq = 1 and order_id = any(%s)", ids[:-1])
        settling = thread.submit(works.judge)
        eventually(lambda: settling.done() or house.rows("select 1 from pg_stat_activity where wait_event_type = 'Lock'"))
        go_on.set()
        reading.result(10)
        settling.result(10)

    waits = "select extract(epoch from due_at - now())::float from commands where seq = 1 and done_at is null"
    assert all(wait_s < 0.5 for (wait_s,) in house.rows(waits))
    works.judge()
    assert house.rows("select result from changes where order_id = %s", last) == [("SKIPPED",)]
