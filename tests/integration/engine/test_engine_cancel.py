"""Cancels: whatever state an order is in, it is told cancelled only where nothing of it lives, and asked for once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from house import FREEZE, BookedBroker, House, eventually
from works import Works

from domain.cancels import AtOnce
from domain.errors import KeyReused, KeySpent, Malformed, SoftCancelDisabled
from domain.lifecycle import OrderState
from domain.outcomes import Accepted, NotSent, Refused, Unknown, Unreadable
from store import settings

LOST = Unknown("no whole answer in time")
ALL = {"filter": {"all": True}}


@pytest.fixture
def broker() -> BookedBroker:
    return BookedBroker()


@pytest.fixture
def works(house: House, broker: BookedBroker) -> Works:
    return Works(house, broker)


def change(works: Works, name: str, value: object) -> None:
    with works.house.store.unit() as unit:
        settings.change(unit, name, value, by="test")
    works.desk.forget()


def test_a_resting_order_is_cancelled_once_its_book_says_so(house: House, works: Works, broker: BookedBroker) -> None:
    (order_id,) = works.place()

    answer = works.cancel(order_id)
    works.judge()
    works.ask()
    assert works.results(answer) == [(0, None)], "an answer is no proof"
    assert house.order(order_id).state is OrderState.OPEN
    works.settle()

    assert works.results(answer) == [(0, "CANCELLED")]
    assert house.order(order_id).state is OrderState.CANCELLED
    assert len(broker.cancels) == 1
    assert "CANCEL_REQUESTED" in house.events(order_id)
    house.check()


@pytest.mark.parametrize("stage", ["validate", "risk", "margin", "route"])
def test_what_no_broker_has_heard_of_ends_in_any_stage_of_the_intake(
    house: House, works: Works, broker: BookedBroker, stage: str
) -> None:
    (order_id,) = works.received()
    house.run("update commands set stage = %s", stage)

    answer = works.cancel(order_id, code="HALTED", reason="the account is halted")
    works.judge()

    order = house.order(order_id)
    assert (order.state, order.reason_code, order.reason) == (OrderState.CANCELLED, "HALTED", "the account is halted")
    assert works.results(answer) == [(0, "CANCELLED")]
    works.settle()
    assert broker.calls == []
    house.check()


def test_the_intake_sees_the_request_before_the_cancel_stage_does(
    house: House, works: Works, broker: BookedBroker
) -> None:
    (order_id,) = works.received()
    answer = works.cancel(order_id)

    works.clear()

    assert house.order(order_id).state is OrderState.CANCELLED
    works.settle()
    assert (works.results(answer), broker.calls) == ([(0, "CANCELLED")], [])
    house.check()


def test_what_waits_at_dispatch_for_its_turn_is_not_sent(house: House, works: Works, broker: BookedBroker) -> None:
    ids = works.received(2)
    works.clear()
    answer = works.cancel(*ids)

    works.send()  # the last gate
    works.settle()

    assert house.states(ids) == ["CANCELLED", "CANCELLED"]
    assert (works.results(answer), broker.calls) == ([(0, "CANCELLED"), (1, "CANCELLED")], [])
    assert house.rows("select distinct blocked_paise, open_orders from accounts") == [(0, 0)]
    house.check()


def test_a_stuck_order_that_was_never_sent_is_cancelled(house: House, works: Works) -> None:
    (order_id,) = works.received()
    house.run("update commands set state = 'STUCK', live = false, stage = 'risk', error = 'not today'")

    answer = works.cancel(order_id)
    works.settle()

    assert house.order(order_id).state is OrderState.CANCELLED
    assert house.command(order_id).state == "DONE"
    assert works.results(answer) == [(0, "CANCELLED")]


def test_a_placement_in_another_hand_is_left_to_it(house: House, works: Works) -> None:
    """The cancel stage holds the order, the other worker the command: neither waits for the other."""
    (order_id,) = works.received()
    works.clear()
    answer = works.cancel(order_id)

    with house.store.unit() as unit:
        unit.rows("select 1 from commands where order_id = %s and seq = 0 for update", (order_id,))
        works.judge()
        assert works.results(answer) == [(0, None)]
    works.settle()

    assert works.results(answer) == [(0, "CANCELLED")]
    assert house.rows("select deadlocks from pg_stat_database where datname = current_database()") == [(0,)]


def test_a_cancel_during_the_call_goes_out_once_its_outcome_is_known(house: House, broker: BookedBroker) -> None:
    works: Works
    answers = []

    def answer(line: object) -> Accepted:
        answers.append(works.cancel(line.order.id))  # type: ignore[attr-defined]
        works.judge()
        return Accepted(f"B-{line.order.broker_tag}")  # type: ignore[attr-defined]

    broker.answer = answer
    works = Works(house, broker)
    (order_id,) = works.received()
    works.clear()
    works.send()
    assert (house.order(order_id).state, broker.cancels) == (OrderState.SUBMITTED, [])

    works.judge()
    works.ask()

    assert len(broker.cancels) == 1
    works.settle()
    assert works.results(answers[0]) == [(0, "CANCELLED")]
    house.check()


def test_an_unknown_order_is_not_told_cancelled_until_it_is_found_and_cancelled(
    house: House, works: Works, broker: BookedBroker
) -> None:
    broker.answer = lambda line: LOST
    (order_id,) = works.place()
    answer = works.cancel(order_id)
    for _ in range(5):
        works.judge()
        works.ask()
    assert (works.results(answer), broker.cancels) == ([(0, None)], [])
    assert house.order(order_id).state is OrderState.UNKNOWN

    broker.rest("FK0001", broker.calls[0][0])  # it was taken after all
    works.settle()

    assert works.results(answer) == [(0, "CANCELLED")]
    assert house.order(order_id).state is OrderState.CANCELLED
    house.check()


def test_an_unknown_order_that_is_proven_absent_is_never_sent_again(
    house: House, works: Works, broker: BookedBroker
) -> None:
    broker.answer = lambda line: LOST
    (order_id,) = works.place()
    answer = works.cancel(order_id)

    works.settle()

    order = house.order(order_id)
    assert (order.state, order.reason_code) == (OrderState.CANCELLED, "CANCELLED_UNSENT")
    assert (works.results(answer), len(broker.calls)) == ([(0, "CANCELLED")], 1)
    assert house.events(order_id)[-2:] == ["PROVEN_ABSENT", "CANCELLED"]
    house.check()


def test_what_was_not_sent_is_not_sent_again(house: House, broker: BookedBroker) -> None:
    works: Works
    answers = []

    def answer(line: object) -> NotSent:
        answers.append(works.cancel(line.order.id))  # type: ignore[attr-defined]
        return NotSent("the connection was refused")

    broker.answer = answer
    works = Works(house, broker)
    (order_id,) = works.place()

    assert house.order(order_id).state is OrderState.CANCELLED
    works.settle()
    assert (works.results(answers[0]), len(broker.calls)) == ([(0, "CANCELLED")], 1)
    house.check()


def test_filled_meanwhile_is_told_as_filled(house: House, works: Works, broker: BookedBroker) -> None:
    (order_id,) = works.place()
    answer = works.cancel(order_id)

    def fill(broker_order_id: str) -> Refused:
        broker.fill("FK0001", broker_order_id, 10)
        return Refused("OVER", "this order is filled")

    broker.on_cancel = fill

    works.settle()

    assert works.results(answer) == [(0, "FILLED")]
    assert (house.order(order_id).state, house.order(order_id).filled_quantity) == (OrderState.FILLED, 10)
    assert len(broker.cancels) == 1
    house.check()


def test_a_refused_cancel_of_an_order_that_lives_on_may_be_asked_for_again(
    house: House, works: Works, broker: BookedBroker
) -> None:
    (order_id,) = works.place()
    broker.on_cancel = lambda _: Refused("NO", "not in the last minutes")

    first = works.cancel(order_id)
    works.settle()

    assert works.results(first) == [(0, "REFUSED")]
    assert house.rows("select reason_code, reason from changes") == [
        ("BROKER_REFUSED", "fake: not in the last minutes (NO)")
    ]
    order = house.order(order_id)
    assert (order.state, order.cancel_requested, order.changing) == (OrderState.OPEN, False, 0)
    assert house.events(order_id)[-1] == "CANCEL_REFUSED"

    broker.on_cancel = lambda _: None
    second = works.cancel(order_id)
    works.settle()
    assert works.results(second) == [(0, "CANCELLED")]
    house.check()


def test_a_lost_answer_is_asked_again_only_after_a_later_read_of_the_book(
    house: House, works: Works, broker: BookedBroker
) -> None:
    (order_id,) = works.place()
    broker.on_cancel = lambda _: LOST
    answer = works.cancel(order_id)
    works.judge()
    works.ask()
    broker.books["FK0001"], kept = Unreadable("no answer"), broker.books["FK0001"]
    for _ in range(5):
        works.round()
    assert (len(broker.cancels), works.results(answer)) == (1, [(0, None)]), (
        "success is told of no book that can't be read"
    )

    broker.books["FK0001"] = kept
    broker.on_cancel = lambda _: None
    works.settle()

    assert (len(broker.cancels), works.results(answer)) == (2, [(0, "CANCELLED")])
    assert house.order(order_id).state is OrderState.CANCELLED
    house.check()


def test_a_lost_answer_to_a_cancel_that_took_effect_is_not_asked_again(
    house: House, works: Works, broker: BookedBroker
) -> None:
    (order_id,) = works.place()

    def end(broker_order_id: str) -> Unknown:
        broker.end("FK0001", broker_order_id, OrderState.CANCELLED)
        return LOST

    broker.on_cancel = end
    answer = works.cancel(order_id)

    works.settle()

    assert (len(broker.cancels), works.results(answer)) == (1, [(0, "CANCELLED")])
    assert house.order(order_id).state is OrderState.CANCELLED


def test_what_a_broker_did_not_hear_is_asked_again(house: House, works: Works, broker: BookedBroker) -> None:
    (order_id,) = works.place()
    said = iter([NotSent("refused", retry_after_s=1.0), NotSent("refused"), None])
    broker.on_cancel = lambda _: next(said)
    answer = works.cancel(order_id)

    works.settle()

    assert (len(broker.cancels), works.results(answer)) == (3, [(0, "CANCELLED")])
    assert house.rows("select number, outcome from attempts where kind = 'CANCEL' order by number") == [
        (1_000_001, "NOT_SENT"),
        (1_000_002, "NOT_SENT"),
        (1_000_003, "ACCEPTED"),
    ]


def test_a_dead_session_is_waited_for_and_told(house: House, works: Works, broker: BookedBroker) -> None:
    (order_id,) = works.place()
    house.run("update accounts set session = 'DEAD'")
    works.desk.forget()
    answer = works.cancel(order_id)
    works.judge()
    works.ask()
    assert house.rows("select told_detail from changes") == [("the session of FK0001 is dead",)]
    assert broker.cancels == []

    house.run("update accounts set session = 'ALIVE'")
    works.desk.forget()
    works.settle()

    assert works.results(answer) == [(0, "CANCELLED")]


def test_a_session_that_its_broker_calls_dead_is_marked(house: House, works: Works, broker: BookedBroker) -> None:
    works.cancel(*works.place())
    broker.on_cancel = lambda _: NotSent("log in first", session_dead=True)

    works.judge()
    works.ask()

    assert house.rows("select session from accounts where id = 'FK0001'") == [("DEAD",)]


def test_a_second_delivery_does_nothing(house: House, works: Works, broker: BookedBroker) -> None:
    (order_id,) = works.place()
    answer = works.cancel(order_id)

    for _ in range(3):
        works.judge()
        works.ask()
    works.settle()
    works.judge()
    works.ask()

    assert (len(broker.cancels), works.results(answer)) == (1, [(0, "CANCELLED")])


# Accepting.


def test_a_repeated_key_gives_the_first_answer_until_it_is_spent(house: House, works: Works) -> None:
    (order_id,) = works.place()
    first = works.cancel(order_id, key="one-key-for-one-cancel")

    second = works.cancel(order_id, key="one-key-for-one-cancel")

    assert (second.intent_id, second.matched, second.answered, second.replayed) == (first.intent_id, 1, (), True)
    assert second.accepted_at == first.accepted_at
    with pytest.raises(KeyReused):
        works.cancel(order_id, key="one-key-for-one-cancel", fingerprint=b"d" * 32)
    works.ahead += timedelta(seconds=301)
    assert works.cancel(order_id, key="one-key-for-one-cancel").replayed, "a line of it is under way"
    works.settle()
    with pytest.raises(KeySpent) as spent:
        works.cancel(order_id, key="one-key-for-one-cancel")
    assert spent.value.intent_id == first.intent_id
    assert house.rows("select count(*) from changes") == [(1,)]


def test_a_key_that_placed_orders_cancels_none(house: House, works: Works) -> None:
    house.accept(1, key="one-key-for-all-requests", fingerprint=b"c" * 32)

    with pytest.raises(KeyReused):
        works.cancel(**ALL, key="one-key-for-all-requests")


def test_each_line_that_needs_no_work_is_answered_at_once(house: House, works: Works, broker: BookedBroker) -> None:
    live, ended, cancelling = works.place(3)
    broker.fill("FK0001", f"B-{house.order(ended).broker_tag}", 10)
    works.look()
    earlier = works.cancel(cancelling)
    unknown = "01234567-0000-7000-8000-000000000000"

    answer = works.cancel(unknown, ended, live, cancelling)

    assert answer.matched == 1
    assert [(line.line, line.code, line.state) for line in answer.answered] == [
        (0, AtOnce.NOT_FOUND, None),
        (1, AtOnce.ALREADY_ENDED, OrderState.FILLED),
        (3, AtOnce.ALREADY_CANCELLING, OrderState.OPEN),
    ]
    assert answer.answered[2].intent_id == earlier.intent_id
    assert works.results(answer) == [(2, None)]
    works.settle()
    assert works.results(answer) == [(2, "CANCELLED")]


def test_anothers_orders_are_not_there(house: House, works: Works) -> None:
    ids = works.place(2)
    house.run("update orders set user_id = '01234567-0000-7000-8000-00000000000a' where id = %s", ids[0])

    answer = works.cancel(*ids)

    assert answer.matched == 1
    assert [(line.order_id, line.code, line.state) for line in answer.answered] == [(ids[0], AtOnce.NOT_FOUND, None)]
    assert works.cancel(**ALL).matched == 0, "the other one is being cancelled, the foreign one is not there"
    assert house.rows("select count(*) from changes where order_id = %s", ids[0]) == [(0,)]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"all": True}, [0, 1, 2, 3]),
        ({"tag": "red"}, [0, 1]),
        ({"strategy": "s1"}, [1]),
        ({"account": "FK0002"}, [2]),
        ({"broker": "FAKE"}, [0, 1, 2, 3]),
        ({"broker": "OTHER"}, []),
        ({"instrument": "NSE:TCS"}, [3]),
        ({"segment": "CASH"}, [0, 1, 2, 3]),
        ({"segment": "FO"}, []),
        ({"tag": "red", "strategy": "s1"}, [1]),
    ],
)
def test_a_filter_means_the_live_orders_of_which_all_of_it_holds(
    house: House, works: Works, broker: BookedBroker, wanted: dict[str, object], numbers: list[int]
) -> None:
    ids = [
        *works.place(tag="red"),
        *works.place(tag="red", strategy="s1"),
        *works.place(account="FK0002"),
        *works.place(instrument="NSE:TCS"),
    ]
    (over,) = works.place(tag="red", strategy="s1", account="FK0003")
    broker.fill("FK0003", f"B-{house.order(over).broker_tag}", 10)
    works.look()
    with works.desk.store.unit() as unit:
        foretold = works.matching(unit, filter=wanted)

    answer = works.cancel(filter=wanted)

    meant = [row[0] for row in house.rows("select order_id from changes order by line")]
    assert (answer.matched, meant) == (len(numbers), [ids[number] for number in numbers])
    assert (foretold.matched, [order.order_id for order in foretold.orders]) == (answer.matched, meant)


def test_an_intents_orders_are_meant_by_its_id(house: House, works: Works) -> None:
    wanted, _ = works.place(2), works.place(1)

    answer = works.cancel(filter={"intentId": house.order(wanted[0]).intent_id})

    assert answer.matched == 2


def test_a_dry_run_pages_and_marks_nothing(house: House, works: Works) -> None:
    ids = works.place(5)
    with works.desk.store.unit() as unit:
        first = works.matching(unit, **ALL, limit=3)
        second = works.matching(unit, **ALL, limit=3, after=first.last)
        named = works.matching(unit, *ids[:2])

    assert [order.order_id for order in (*first.orders, *second.orders)] == ids
    assert (first.matched, second.matched, second.last, named.matched) == (5, 5, None, 2)
    assert house.rows("select count(*) from orders where cancel_requested") == [(0,)]


def test_soft_is_marked_now_and_asked_for_apart(house: House, works: Works, broker: BookedBroker) -> None:
    resting, waiting = works.place(1)[0], works.received(1)[0]

    answer = works.cancel(resting, waiting, mode="SOFT")
    works.judge()

    assert house.order(waiting).state is OrderState.CANCELLED
    assert house.rows("select stage from commands where order_id = %s and seq = 1", resting) == [
        ("dispatch.fake.soft.cancel",)
    ]
    assert not works.softly._portions._urgent
    assert works.changer._portions._urgent
    works.settle()
    assert works.results(answer) == [(0, "CANCELLED"), (1, "CANCELLED")]


def test_soft_is_refused_where_it_is_switched_off(house: House, works: Works) -> None:
    (order_id,) = works.place()
    first = works.cancel(order_id, mode="SOFT", key="one-key-for-one-cancel")
    change(works, "async_cancel_enabled", value=False)

    with pytest.raises(SoftCancelDisabled):
        works.cancel(order_id, mode="SOFT", key="another-key-for-a-cancel")

    assert house.rows("select count(*) from intents where kind = 'CANCEL'") == [(1,)], "it has used no key"
    assert works.cancel(order_id, mode="SOFT", key="one-key-for-one-cancel").intent_id == first.intent_id


# One after another.


def test_fail_fast_asks_for_one_line_after_another(house: House, works: Works, broker: BookedBroker) -> None:
    ids = works.place(3)
    answer = works.cancel(*ids, policy="FAIL_FAST")
    works.judge()
    works.ask()
    assert len(broker.cancels) == 1

    works.settle()

    assert works.results(answer) == [(0, "CANCELLED"), (1, "CANCELLED"), (2, "CANCELLED")]
    assert broker.cancels == [f"B-{house.order(order_id).broker_tag}" for order_id in ids]


def test_fail_fast_stops_at_the_first_line_that_is_not_cancelled(
    house: House, works: Works, broker: BookedBroker
) -> None:
    ids = works.place(4)
    (unsent,) = works.received()
    second = f"B-{house.order(ids[1]).broker_tag}"
    broker.on_cancel = lambda number: Refused("NO", "not this one") if number == second else None

    answer = works.cancel(*ids, unsent, policy="FAIL_FAST")
    works.settle()

    assert [result for _, result in works.results(answer)] == [
        "CANCELLED",
        "REFUSED",
        "SKIPPED",
        "SKIPPED",
        "CANCELLED",
    ]
    assert len(broker.cancels) == 2
    assert house.states(ids) == ["CANCELLED", "OPEN", "OPEN", "OPEN"]
    assert [house.order(id_).cancel_requested for id_ in ids] == [True, False, False, False]
    assert house.events(ids[2])[-1] == "CANCEL_WITHDRAWN"
    house.check()
    assert works.cancel(ids[2]).matched == 1


def test_fail_fast_stops_at_what_was_filled_meanwhile(house: House, works: Works, broker: BookedBroker) -> None:
    ids = works.place(3)
    broker.fill("FK0001", f"B-{house.order(ids[0]).broker_tag}", 10)

    answer = works.cancel(*ids, policy="FAIL_FAST")
    works.settle()

    assert [result for _, result in works.results(answer)] == ["FILLED", "SKIPPED", "SKIPPED"]


def test_fail_fast_stops_at_a_line_that_is_answered_at_once(house: House, works: Works) -> None:
    change(works, "cancel_policy", "FAIL_FAST")
    ids = works.place(2)

    answer = works.cancel(ids[0], "01234567-0000-7000-8000-000000000000", ids[1])
    works.settle()

    assert answer.matched == 1
    assert [(line.line, line.code) for line in answer.answered] == [(1, AtOnce.NOT_FOUND), (2, AtOnce.SKIPPED)]
    assert house.states(ids) == ["CANCELLED", "OPEN"]
    assert not house.order(ids[1]).cancel_requested


def test_lines_that_wait_for_their_turn_look_the_less_often_the_further_back_they_are(
    house: House, works: Works
) -> None:
    ids = house.accept_many(20, 20)
    works.clear()
    unsent = "select 1 from commands where seq = 0 and done_at is null limit 1"
    eventually(lambda: (works.send(), not house.rows(unsent))[1], 60)
    works.look()
    works.cancel(*ids, policy="FAIL_FAST")

    works.judge()

    due = house.rows(
        "select h.line, extract(epoch from c.due_at - h.asked_at)::float from changes h join commands c"
        " on c.order_id = h.order_id and c.seq = h.seq where c.stage = 'cancel' order by h.line"
    )
    assert [line for line, _ in due] == list(range(1, 400))
    assert all(due_s >= min(60, line) - 0.5 for line, due_s in due)


def test_too_many_lines_for_fail_fast_are_refused(house: House, works: Works) -> None:
    change(works, "cancel_policy", "FAIL_FAST")
    house.accept_many(26, 20)

    with pytest.raises(Malformed) as refused:
        works.cancel(**ALL)

    assert refused.value.faults[0].pointer == "/policy"
    assert house.rows("select count(*) from intents where kind = 'CANCEL'") == [(0,)]


# Slices.


def test_an_orders_slices_are_cancelled_each_and_its_line_is_their_sum(
    house: House, works: Works, broker: BookedBroker
) -> None:
    (order_id,) = works.place(quantity=2 * FREEZE + 1000)
    slices = [row[0] for row in house.rows("select id from orders where parent_id = %s order by id", order_id)]
    broker.fill("FK0001", f"B-{house.order(slices[0]).broker_tag}", FREEZE)
    works.look()

    answer = works.cancel(**ALL)
    assert answer.matched == 1
    works.settle()

    assert works.results(answer) == [(0, "CANCELLED")] * 3, "the order's own and its two live slices'"
    assert house.states([order_id, *slices]) == ["CANCELLED", "FILLED", "CANCELLED", "CANCELLED"]
    assert house.order(order_id).filled_quantity == FREEZE
    assert len(broker.cancels) == 2
    house.check()


def test_an_order_with_a_slice_that_is_refused_lives_on(house: House, works: Works, broker: BookedBroker) -> None:
    (order_id,) = works.place(quantity=FREEZE + 1000)
    (first, second) = [row[0] for row in house.rows("select id from orders where parent_id = %s order by id", order_id)]
    refused = f"B-{house.order(second).broker_tag}"
    broker.on_cancel = lambda number: Refused("NO", "not this one") if number == refused else None

    answer = works.cancel(order_id)
    works.settle()

    assert house.rows("select order_id, result from changes order by order_id") == [
        (order_id, "REFUSED"),
        (first, "CANCELLED"),
        (second, "REFUSED"),
    ]
    assert works.results(answer)[0] == (0, "REFUSED")
    assert house.order(order_id).changing == 0
    assert house.events(order_id)[-1] == "CANCEL_REFUSED"
    house.check()


def test_an_order_that_is_cut_after_its_cancel_was_asked_for_is_not_cut(house: House, works: Works) -> None:
    (order_id,) = works.received(quantity=2 * FREEZE)
    works.cancel(order_id)

    works.settle()

    assert house.states([order_id]) == ["CANCELLED"]
    assert house.rows("select count(*) from orders") == [(1,)]


# Many.


def test_ten_thousand_live_orders_are_accepted_in_one_transaction(house: House, works: Works) -> None:
    ids = [order_id for _ in range(5) for order_id in house.accept_many(100, 20)]
    started = works.desk.now()

    answer = works.cancel(**ALL)

    took_s = (works.desk.now() - started).total_seconds()
    print(f"accepted in {took_s:.1f} s")
    assert answer.matched == len(ids)
    assert house.rows("select count(*) from orders where cancel_requested and changing = 1") == [(10_000,)]
    assert took_s < 60  # one to two seconds on an idle machine
    works.judge()
    eventually(lambda: (works.judge(), not house.rows("select 1 from changes where result is null limit 1"))[1], 60)
    assert house.rows("select state, count(*) from orders group by state") == [("CANCELLED", 10_000)]
