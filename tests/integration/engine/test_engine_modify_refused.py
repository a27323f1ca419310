"""Modifies that were accepted and are not asked for: rules, limits, margin and what came before their call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from house import FREEZE, House
from modify_works import PRICE, ModifiableBroker, ModifyWorks, switch


@pytest.fixture
def broker() -> ModifiableBroker:
    return ModifiableBroker()


@pytest.fixture
def works(house: House, broker: ModifiableBroker) -> ModifyWorks:
    return ModifyWorks(house, broker)


REFUSED_BY_US: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "tick": ({}, {"price": "1090.03"}, "TICK_SIZE"),
    "band": ({}, {"price": "2.00"}, "PRICE_BAND"),
    "price terms": ({}, {"orderType": "SL"}, "PRICE_TERMS"),
    "trigger": ({}, {"orderType": "SL", "triggerPrice": "1110.00", "price": "1105.00"}, "TRIGGER_RELATION"),
    "freeze": ({"order_value_max_paise": None, "quantity_max": None}, {"quantity": FREEZE + 1}, "FREEZE_QUANTITY"),
    "disclosed": ({}, {"disclosedQuantity": 10}, "DISCLOSED_QUANTITY"),
    "order value": ({"order_value_max_paise": 1_100_000}, {"quantity": 11}, "RISK_LIMIT"),
    "quantity": ({"quantity_max": 10}, {"quantity": 11}, "RISK_LIMIT"),
    "exposure": ({"exposure_max_paise": 1_100_000}, {"quantity": 11}, "RISK_LIMIT"),
    "restricted": ({"restricted": ["NSE:INFY"]}, {"quantity": 11}, "RESTRICTED"),
    "quantity delta": ({"modify_quantity_delta_max_ppm": 100_000}, {"quantity": 12}, "MODIFY_QUANTITY_DELTA"),
    "price delta": ({"modify_price_delta_max_ppm": 10_000}, {"price": "1080.00"}, "MODIFY_PRICE_DELTA"),
}


@pytest.mark.parametrize("rule", REFUSED_BY_US)
def test_a_rule_of_ours_refuses_and_says_why(
    house: House, works: ModifyWorks, broker: ModifiableBroker, rule: str
) -> None:
    chosen, terms, code = REFUSED_BY_US[rule]
    (order_id,) = works.place(quantity=10)
    before = works.blocked()
    for name, value in chosen.items():
        works.set(name, value)

    answer = works.modify(order_id, **terms)
    works.settle()

    change = works.change_of(answer)
    assert (change.result, change.reason_code) == ("REFUSED", code), change.reason
    assert any(character.isdigit() for character in change.reason or "") or code in ("PRICE_TERMS", "RESTRICTED")
    assert broker.asked == []
    assert house.events(order_id)[-1] == "MODIFY_REFUSED"
    assert (house.order(order_id).version, works.blocked()) == (1, before)
    house.check()


@pytest.mark.parametrize(
    ("chosen", "terms"),
    [
        ({"order_value_max_paise": 1}, {"quantity": 9}),
        ({"quantity_max": 1}, {"quantity": 9}),
        ({"exposure_max_paise": 1}, {"price": "1090.00"}),
        ({"restricted": ["NSE:INFY"]}, {"quantity": 9}),
    ],
)
def test_what_makes_an_order_smaller_passes_limits_that_were_lowered(
    works: ModifyWorks, chosen: dict[str, Any], terms: dict[str, Any]
) -> None:
    (order_id,) = works.place(quantity=10)
    for name, value in chosen.items():
        works.set(name, value)
    works.house.run("update accounts set limit_paise = 0")

    answer = works.modify(order_id, **terms)
    works.settle()

    assert works.result(answer) == "MODIFIED"


def test_margin_is_asked_for_the_difference_alone(house: House, works: ModifyWorks, broker: ModifiableBroker) -> None:
    (order_id,) = works.place(quantity=10)
    house.run("update accounts set limit_paise = blocked_paise + 300000 where id = 'FK0001'")

    refused = works.modify(order_id, quantity=13)
    works.settle()
    assert (works.result(refused), works.change_of(refused).reason_code) == ("REFUSED", "MARGIN_ESTIMATE")
    assert broker.asked == []
    taken = works.modify(order_id, quantity=12)
    works.settle()

    assert works.result(taken) == "MODIFIED"
    house.check()


def test_a_halt_that_comes_while_it_waits_for_its_call(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    before = works.blocked()
    answer = works.modify(order_id, quantity=12)
    works.judge()
    assert works.blocked() > before
    switch(house, "HALTED")

    works.ask()
    works.settle()

    assert (works.result(answer), works.change_of(answer).reason_code) == ("REFUSED", "HALTED")
    assert (broker.asked, works.blocked()) == ([], before)
    house.check()


def test_what_is_not_sent_in_time_ends_and_gives_its_block_back(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    before = works.blocked()
    answer = works.modify(order_id, quantity=12)
    works.judge()
    works.pass_time(timedelta(seconds=121))

    works.settle()

    assert (works.result(answer), works.change_of(answer).reason_code) == ("EXPIRED", "EXPIRED_UNSENT")
    assert (broker.asked, works.blocked()) == ([], before)
    house.check()


def test_a_fill_between_judgement_and_call_is_seen_by_the_last_gate(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    answer = works.modify(order_id, quantity=6)
    works.judge()
    broker.trade(works.broker_id(order_id), 7)
    works.look()

    works.settle()

    assert (works.result(answer), works.change_of(answer).reason_code) == ("REFUSED", "QUANTITY_FILLED")
    assert broker.asked == []
    house.check()


def test_modifies_and_placements_at_once_never_take_more_than_there_is(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    ids = works.place(6, quantity=10)
    limit = works.blocked() * 2
    house.run("update accounts set limit_paise = %s where id = 'FK0001'", limit)
    told = [works.modify(order_id, quantity=20) for order_id in ids]
    works.received(10, price=PRICE, quantity=5)
    others = [ModifyWorks(house, broker) for _ in range(3)]

    with ThreadPoolExecutor(4) as pool:
        acts = [others[0].judge, others[1].clear, others[2].judge, works.clear]
        for done in [pool.submit(act) for act in acts]:
            done.result()
    house.check()
    assert works.blocked() <= limit
    works.settle()

    assert works.blocked() <= limit
    assert {works.result(answer) for answer in told} <= {"MODIFIED", "REFUSED"}
    house.check()
