"""Modifies: the order has the terms that its broker's book shows, only what differs is asked for, and a cancel ends it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from house import House
from modify_works import ModifiableBroker, ModifyWorks, answers

from domain.lifecycle import OrderState
from domain.orders import OrderType


@pytest.fixture
def broker() -> ModifiableBroker:
    return ModifiableBroker()


@pytest.fixture
def works(house: House, broker: ModifiableBroker) -> ModifyWorks:
    return ModifyWorks(house, broker)


def test_a_modify_that_the_book_shows_moves_terms_version_and_block(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    before = works.blocked()

    answer = works.asked(order_id, quantity=15, price="1090.00")
    raised = works.blocked()
    assert (house.order(order_id).quantity, works.result(answer)) == (10, None), "an answer is no proof"
    works.settle()

    order = house.order(order_id)
    assert (order.quantity, order.price, order.version, order.modifies) == (15, Decimal("1090"), 2, 1)
    assert works.result(answer) == "MODIFIED"
    assert broker.asked == [{"quantity": 15, "price": Decimal("1090.00")}]
    assert house.events(order_id)[-3:] == ["CLEARED", "MODIFYING", "MODIFIED"]
    assert works.blocked() == raised == order.blocked_paise > before
    house.check()


def test_what_is_made_smaller_holds_the_old_block_until_the_book_shows_it(
    house: House, works: ModifyWorks
) -> None:
    (order_id,) = works.place(quantity=10)
    before = works.blocked()

    works.asked(order_id, quantity=5)
    assert works.blocked() == before
    works.settle()

    assert house.order(order_id).quantity == 5
    assert works.blocked() < before * 6 // 10
    house.check()


@pytest.mark.parametrize(
    ("terms", "sent"),
    [
        ({"price": "1090.00", "quantity": 10}, {"price"}),
        ({"validity": "IOC"}, {"validity"}),
        ({"disclosedQuantity": 4}, {"disclosed_quantity"}),
        ({"orderType": "MARKET"}, {"order_type", "price"}),
        ({"orderType": "SL", "triggerPrice": "1095.00"}, {"order_type", "trigger_price"}),
    ],
    ids=lambda value: "-".join(sorted(value)),
)
def test_only_what_differs_is_asked_for(
    house: House, works: ModifyWorks, broker: ModifiableBroker, terms: dict[str, Any], sent: set[str]
) -> None:
    (order_id,) = works.place(quantity=10)

    answer = works.modify(order_id, **terms)
    works.settle()

    assert [asked.keys() for asked in broker.asked] == [sent]
    assert works.result(answer) == "MODIFIED"
    assert {name: getattr(house.order(order_id), name) for name in sent} == broker.asked[0]
    house.check()


def test_a_market_order_that_its_broker_keeps_with_a_limit_is_a_market_order(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    broker.on_modify = answers(None, does=False)
    answer = works.asked(order_id, orderType="MARKET")
    broker.change(works.broker_id(order_id), order_type=OrderType.LIMIT, price=Decimal("1133.00"))
    works.settle()

    order = house.order(order_id)
    assert (works.result(answer), order.order_type, order.price) == ("MODIFIED", OrderType.MARKET, None)
    house.check()


def test_one_after_the_other_each_from_the_version_before(house: House, works: ModifyWorks) -> None:
    (order_id,) = works.place(quantity=10)
    for version, quantity in enumerate((12, 10, 12), 1):
        answer = works.modify(order_id, version=version, quantity=quantity)
        works.settle()
        assert works.result(answer) == "MODIFIED"

    order = house.order(order_id)
    assert (order.quantity, order.version, order.modifies) == (12, 4, 3)
    house.check()


def test_a_cancel_ends_an_order_whose_modify_nobody_knows_of(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    told = works.lose(order_id, quantity=12)
    works.cancel(order_id)

    works.settle()

    assert (works.result(told), house.order(order_id).state) == ("ENDED", OrderState.CANCELLED)
    assert works.blocked() == 0
    house.check()
