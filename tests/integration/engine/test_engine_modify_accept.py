"""Which modifies are accepted: by the order's state, version and terms, one at a time, and each key once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from house import FREEZE, House
from modify_works import PRICE, ModifiableBroker, ModifyWorks, answers

from domain.errors import KeyReused, KeySpent, NotFound, NotModifiable, StaleVersion
from domain.ids import new_id
from domain.outcomes import NotSent


@pytest.fixture
def broker() -> ModifiableBroker:
    return ModifiableBroker()


@pytest.fixture
def works(house: House, broker: ModifiableBroker) -> ModifyWorks:
    return ModifyWorks(house, broker)


STATES = {
    "SUBMITTED": True,
    "OPEN": True,
    "TRIGGER_PENDING": True,
    "PARTIALLY_FILLED": True,
    "RECEIVED": False,
    "SENDING": False,
    "UNKNOWN": False,
    "FILLED": False,
    "CANCELLED": False,
    "REJECTED": False,
    "EXPIRED": False,
}


@pytest.mark.parametrize("state", STATES)
def test_an_order_in_any_state(house: House, works: ModifyWorks, state: str) -> None:
    (order_id,) = works.place(quantity=10)
    house.run("update orders set state = %s", state)

    if STATES[state]:
        assert works.modify(order_id, quantity=20).seq == 1
        return
    with pytest.raises(NotModifiable) as refused:
        works.modify(order_id, quantity=20)

    assert refused.value.why == "ORDER_STATE"
    assert refused.value.current is not None
    assert refused.value.current.state == state
    assert house.rows("select 1 from changes union all select 1 from intents where kind = 'MODIFY'") == []


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ({"quantity": 10, "price": PRICE, "orderType": "LIMIT", "validity": "DAY"}, "NOTHING_TO_CHANGE"),
        ({"quantity": 4}, "QUANTITY_FILLED"),
        ({"quantity": 3}, "QUANTITY_FILLED"),
        ({"orderType": "SL", "triggerPrice": "1095.00"}, "TRIGGERED"),
    ],
)
def test_terms_that_make_no_sense_for_it_now(
    works: ModifyWorks, broker: ModifiableBroker, terms: dict[str, Any], why: str
) -> None:
    (order_id,) = works.place(quantity=10)
    broker.trade(works.broker_id(order_id), 4)
    works.look()

    with pytest.raises(NotModifiable) as refused:
        works.modify(order_id, **terms)

    assert refused.value.why == why


def test_a_stale_version_is_told_with_the_order_as_it_stands(works: ModifyWorks) -> None:
    (order_id,) = works.place(quantity=10)
    works.modify(order_id, quantity=12)
    works.settle()

    with pytest.raises(StaleVersion) as refused:
        works.modify(order_id, version=1, quantity=14)

    assert (refused.value.expected, refused.value.found) == (1, 2)
    assert refused.value.current is not None
    assert refused.value.current.quantity == 12


def test_a_partial_fill_makes_no_version_stale(house: House, works: ModifyWorks, broker: ModifiableBroker) -> None:
    (order_id,) = works.place(quantity=10)
    broker.trade(works.broker_id(order_id), 4)
    works.look()

    answer = works.modify(order_id, version=1, quantity=6)
    works.settle()

    order = house.order(order_id)
    assert (works.result(answer), order.quantity, order.filled_quantity) == ("MODIFIED", 6, 4)
    house.check()


@pytest.mark.parametrize("asked", [False, True], ids=["before its call", "before it is asked again"])
def test_one_modify_at_a_time(works: ModifyWorks, broker: ModifiableBroker, asked: bool) -> None:
    (order_id,) = works.place(quantity=10)
    broker.on_modify = answers(NotSent("too many requests"), does=False)
    works.modify(order_id, quantity=12)
    if asked:
        works.judge()
        works.ask()

    with pytest.raises(NotModifiable) as refused:
        works.modify(order_id, quantity=14)

    assert refused.value.why == "MODIFY_UNDER_WAY"


def test_not_while_its_cancel_is_asked_for(works: ModifyWorks) -> None:
    (order_id,) = works.place()
    works.cancel(order_id)

    with pytest.raises(NotModifiable) as refused:
        works.modify(order_id, quantity=12)

    assert refused.value.why == "CANCEL_REQUESTED"


def test_the_brokers_cap_is_counted(house: House, works: ModifyWorks, broker: ModifiableBroker) -> None:
    object.__setattr__(broker.capabilities, "modifies_max", 2)
    (order_id,) = works.place(quantity=10)
    for version in (1, 2):
        works.modify(order_id, version=version, quantity=10 + version)
        works.settle()

    with pytest.raises(NotModifiable) as refused:
        works.modify(order_id, version=3, quantity=20)

    assert refused.value.why == "MODIFIES_SPENT"
    assert len(broker.asked) == house.order(order_id).modifies == 2


def test_neither_a_cut_order_nor_its_slices(house: House, works: ModifyWorks) -> None:
    for name in ("order_value_max_paise", "quantity_max"):
        works.set(name, None)
    (order_id,) = works.place(quantity=2 * FREEZE)
    parts = [row[0] for row in house.rows("select id from orders where parent_id = %s", order_id)]

    assert len(parts) == 2
    for id_ in (order_id, *parts):
        with pytest.raises(NotModifiable) as refused:
            works.modify(id_, price="1090.00")
        assert refused.value.why == "SLICED"


@pytest.mark.parametrize("order_id", ["01a20477-b860-770b-b531-6c5d01b750b6", "no id", ""])
def test_an_order_that_there_is_not(works: ModifyWorks, order_id: str) -> None:
    with pytest.raises(NotFound):
        works.modify(order_id, quantity=12)


def test_an_order_of_somebody_else(works: ModifyWorks) -> None:
    (order_id,) = works.place()

    with pytest.raises(NotFound):
        works.modify(order_id, quantity=12, user=new_id())


def test_a_key_gives_the_same_answer_though_the_version_has_moved(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    first = works.modify(order_id, key="k" * 16, quantity=12)
    works.settle()

    again = works.modify(order_id, key="k" * 16, quantity=12)

    assert (again.intent_id, again.accepted_at, again.seq, again.replayed) == (
        first.intent_id, first.accepted_at, first.seq, True,
    )  # fmt: skip
    works.settle()
    assert len(broker.asked) == 1
    with pytest.raises(KeyReused):
        works.modify(order_id, key="k" * 16, fingerprint=b"o" * 32, quantity=13)
    house.run("update intents set window_until = now()")
    with pytest.raises(KeySpent):
        works.modify(order_id, key="k" * 16, quantity=12)


def test_a_key_that_comes_many_times_at_once_is_one_modify(house: House, works: ModifyWorks) -> None:
    (order_id,) = works.place(quantity=10)

    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda _: works.modify(order_id, key="k" * 16, quantity=12), range(12)))

    assert len({answer.intent_id for answer in told}) == 1
    assert sum(not answer.replayed for answer in told) == 1
    assert house.rows("select count(*) from changes") == [(1,)]
    assert house.order(order_id).changing == 1
