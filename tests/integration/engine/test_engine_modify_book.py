"""Modifies at the broker: whatever was answered, its book says what became of them, and nothing is asked for twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from house import House
from modify_works import LOST, PROVEN, ModifiableBroker, ModifyWorks, answers

from domain.events import Source
from domain.lifecycle import OrderState
from domain.outcomes import Accepted, NotSent, Refused, Unreadable
from pipeline.reports import apply_due, dated, to_body
from pipeline.terms import Read
from store import commands, reports
from store.reports import Report

SECOND = timedelta(seconds=1)


@pytest.fixture
def broker() -> ModifiableBroker:
    return ModifiableBroker()


@pytest.fixture
def works(house: House, broker: ModifiableBroker) -> ModifyWorks:
    return ModifyWorks(house, broker)


def test_a_brokers_refusal_leaves_everything_as_it_was(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    before = works.blocked()
    broker.on_modify = answers(Refused("RMS", "margin shortfall"), does=False)

    answer = works.modify(order_id, quantity=12)
    works.settle()

    change = works.change_of(answer)
    assert (change.result, change.reason_code) == ("REFUSED", "BROKER_REFUSED")
    assert "margin shortfall" in (change.reason or "")
    assert (house.order(order_id).version, works.blocked(), len(broker.asked)) == (1, before, 1)
    house.check()


@pytest.mark.parametrize("answer", [LOST, Accepted("B")], ids=["lost", "accepted"])
@pytest.mark.parametrize("does", [True, False], ids=["applied", "not applied"])
def test_an_answer_is_resolved_by_the_book_and_never_by_asking_again(
    house: House, works: ModifyWorks, broker: ModifiableBroker, answer: Any, does: bool
) -> None:
    (order_id,) = works.place(quantity=10)
    before = works.blocked()
    broker.on_modify = answers(answer, does=does)
    told = works.asked(order_id, quantity=12)
    works.look()
    works.judge()
    if not does:
        assert works.result(told) is None, "too early to say"
        assert works.blocked() > before, "it may yet be applied"
        works.pass_time()

    works.settle()

    assert works.result(told) == ("MODIFIED" if does else "NOT_APPLIED")
    assert (house.order(order_id).quantity, len(broker.asked)) == ((12, 1) if does else (10, 1))
    assert (works.blocked() == before) is not does
    house.check()


def test_what_was_proven_not_applied_and_is_applied_late_all_the_same(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    told = works.lose(order_id, quantity=12)
    works.pass_time()
    works.settle()
    assert works.result(told) == "NOT_APPLIED"

    broker.change(works.broker_id(order_id), quantity=12)
    works.look()

    order = house.order(order_id)
    assert (order.quantity, order.version) == (12, 2)
    assert works.blocked() == order.blocked_paise > 0
    house.check()


def test_a_book_that_can_not_be_read_says_nothing(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    told = works.lose(order_id, quantity=12)
    shown = broker.books["FK0001"]
    broker.books["FK0001"] = Unreadable("timeout")
    works.pass_time()
    for _ in range(3):
        works.round()
    assert works.result(told) is None
    broker.books["FK0001"] = shown

    works.settle()

    assert works.result(told) == "NOT_APPLIED"


def test_a_word_between_two_states_proves_nothing(house: House, works: ModifyWorks, broker: ModifiableBroker) -> None:
    (order_id,) = works.place(quantity=10)
    told = works.lose(order_id, quantity=12)
    broker.change(works.broker_id(order_id), state=None, status="modify pending")
    works.pass_time()
    for _ in range(3):
        works.round()
    assert works.result(told) is None
    broker.change(works.broker_id(order_id), state=OrderState.OPEN, status="open", quantity=12)

    works.settle()

    assert (works.result(told), house.order(order_id).quantity) == ("MODIFIED", 12)


def test_a_row_with_less_filled_than_is_known_proves_nothing(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    broker.trade(works.broker_id(order_id), 4)
    works.look()
    now, told = broker.row(works.broker_id(order_id)), works.lose(order_id, quantity=12)
    broker.change(now.broker_order_id, filled_quantity=3, average_price=now.average_price, fills=())
    works.pass_time()
    for _ in range(3):
        works.round()
    assert works.result(told) is None
    broker.change(now.broker_order_id, quantity=12, filled_quantity=4, fills=now.fills)

    works.settle()

    order = house.order(order_id)
    assert (works.result(told), order.quantity, order.filled_quantity) == ("MODIFIED", 12, 4)
    house.check()


def test_terms_asked_for_that_a_read_showed_beside_another_one_are_not_called_others(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    """Of two reads at once nobody can say which saw more, so that the one which is applied later moves no terms."""
    (order_id,) = works.place(quantity=10)
    told = works.lose(order_id, quantity=12)
    row, began = broker.row(works.broker_id(order_id)), works.desk.now() + PROVEN
    rows = (row, Read(began, began + 2 * SECOND)), (replace(row, quantity=12), Read(began + SECOND, began + 3 * SECOND))
    with house.store.unit() as unit:
        bodies = [dated(to_body(shown, "FK0001", "fake"), read, 1) for shown, read in rows]
        reports.insert(unit, [Report(order_id, Source.POLL, body) for body in bodies], began)
        unit.run("update reports set due_at = due_at - interval '1 second' where body ->> 'quantity' = '10'")
    works.pass_time(PROVEN + 4 * SECOND)
    apply_due(works.desk)
    assert house.order(order_id).quantity == 10
    works.judge()
    assert works.result(told) is None
    broker.change(row.broker_order_id, quantity=12)

    works.settle()

    assert (works.result(told), house.order(order_id).quantity) == ("MODIFIED", 12)
    house.check()


def test_what_the_book_shows_before_a_modify_was_called_for_is_nothing_of_it(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    works.modify(order_id, quantity=12)
    works.settle()
    answer = works.modify(order_id, version=2, price="1090.00", disclosedQuantity=4)
    # By somebody else, at a broker that says nothing of what is disclosed.
    broker.change(works.broker_id(order_id), price=Decimal("1090.00"), disclosed_quantity=None)

    works.look()

    order = house.order(order_id)
    assert (order.version, order.price, order.disclosed_quantity) == (3, Decimal("1090"), 0)
    works.settle()
    assert (works.result(answer), works.change_of(answer).reason_code) == ("REFUSED", "STALE_VERSION")
    assert len(broker.asked) == 1
    house.check()


def test_what_did_not_leave_is_asked_again_and_counts_for_nothing(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    broker.on_modify = answers(NotSent("too many requests"), does=False)
    told = works.asked(order_id, quantity=12)
    assert house.order(order_id).modifies == 0
    broker.on_modify = answers(None)

    works.settle()

    assert (works.result(told), house.order(order_id).modifies, len(broker.asked)) == ("MODIFIED", 1, 2)
    house.check()


@pytest.mark.parametrize("does", [True, False], ids=["after the call", "before the call"])
def test_a_worker_that_dies_round_its_call_leaves_it_to_the_book(
    house: House, works: ModifyWorks, broker: ModifiableBroker, does: bool
) -> None:
    (order_id,) = works.place(quantity=10)
    told = works.modify(order_id, quantity=12)
    works.judge()
    (call,) = works.modifier._first_step(8, [], works.modifier._claim)
    if does:
        works.modifier._outcome(call)
    works.pass_time(timedelta(seconds=20))
    with house.store.unit() as unit:
        assert commands.expire_leases(unit, "dispatch.fake.modify", works.desk.now()) == 1
    works.round()
    if not does:
        assert works.result(told) is None
        works.pass_time()

    works.settle()

    assert works.result(told) == ("MODIFIED" if does else "NOT_APPLIED")
    assert len(broker.asked) == does
    house.check()


def test_an_order_on_its_way_is_waited_for(house: House, works: ModifyWorks, broker: ModifiableBroker) -> None:
    broker.at_rest = OrderState.SUBMITTED
    (order_id,) = works.place(quantity=10)
    told = works.modify(order_id, quantity=12)
    works.judge()
    works.ask()
    assert broker.asked == []
    broker.change(works.broker_id(order_id), state=OrderState.OPEN)

    works.settle()

    assert (works.result(told), len(broker.asked)) == ("MODIFIED", 1)


@pytest.mark.parametrize(
    ("fills", "does", "quantity", "wanted", "state", "filled", "result"),
    [
        (10, False, 10, 15, "FILLED", 10, "FILLED"),
        (15, True, 15, 15, "FILLED", 15, "FILLED"),
        (6, True, 6, 6, "FILLED", 6, "FILLED"),
        (7, True, 15, 15, "PARTIALLY_FILLED", 7, "MODIFIED"),
        (7, False, 10, 15, "PARTIALLY_FILLED", 7, "NOT_APPLIED"),
    ],
)
def test_a_fill_that_races_it_ends_with_the_brokers_figures(
    house: House,
    works: ModifyWorks,
    broker: ModifiableBroker,
    fills: int,
    does: bool,
    quantity: int,
    wanted: int,
    state: str,
    filled: int,
    result: str,
) -> None:
    (order_id,) = works.place(quantity=10)
    told = works.lose(order_id, does=does, quantity=wanted)
    broker.trade(works.broker_id(order_id), fills)
    works.look()
    works.pass_time()
    works.settle()

    order = house.order(order_id)
    assert (order.state, order.filled_quantity, order.quantity) == (state, filled, quantity)
    assert works.result(told) == result
    if result == "FILLED":
        assert ("were taken" in (works.change_of(told).reason or "")) is does
        assert works.blocked() == 0
    house.check()
