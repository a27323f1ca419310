"""Modifies: the order has the terms that its broker's book shows, whatever was answered, and nothing is asked for twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from house import FREEZE, House
from modify_works import PRICE, ModifiableBroker, ModifyWorks, Took

from domain.errors import KeyReused, KeySpent, NotFound, NotModifiable, StaleVersion
from domain.ids import new_id
from domain.lifecycle import OrderState
from domain.orders import OrderType
from domain.outcomes import Accepted, NotSent, Refused, Unknown, Unreadable
from store import commands

LOST = Unknown("no whole answer in time")


@pytest.fixture
def broker() -> ModifiableBroker:
    return ModifiableBroker()


@pytest.fixture
def works(house: House, broker: ModifiableBroker) -> ModifyWorks:
    return ModifyWorks(house, broker)


def answers(answer: Any, *, does: bool = True) -> Any:
    told: Took = (does, answer)
    return lambda broker_order_id: told


def switch(house: House, mode: str) -> None:
    house.run(
        "insert into switches (scope, subject, mode, version, reason, by, by_operator, at, wanted)"
        " values ('ACCOUNT', 'FK0001', %s, 1, 'enough', 'ops', true, now(), '{}')",
        mode,
    )


# ---- what is asked and taken


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


# ---- what isn't accepted


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


def test_one_modify_at_a_time(works: ModifyWorks) -> None:
    (order_id,) = works.place()
    works.modify(order_id, quantity=12)

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


# ---- its key


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


# ---- refused by us


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


@pytest.mark.parametrize(("quantity", "result"), [(12, "REFUSED"), (8, "MODIFIED")])
def test_while_positions_are_reduced_no_order_gets_larger(
    house: House, works: ModifyWorks, quantity: int, result: str
) -> None:
    (order_id,) = works.place(quantity=10)
    switch(house, "REDUCING")

    answer = works.modify(order_id, quantity=quantity)
    works.settle()

    assert works.result(answer) == result
    assert works.change_of(answer).reason_code == ("REDUCING_ONLY" if result == "REFUSED" else None)


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


# ---- at the broker


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
    broker.on_modify = answers(LOST, does=False)
    told = works.asked(order_id, quantity=12)
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
    broker.on_modify = answers(LOST, does=False)
    told = works.asked(order_id, quantity=12)
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
    broker.on_modify = answers(LOST, does=False)
    told = works.asked(order_id, quantity=12)
    broker.change(works.broker_id(order_id), state=None, status="modify pending")
    works.pass_time()
    for _ in range(3):
        works.round()
    assert works.result(told) is None
    broker.change(works.broker_id(order_id), state=OrderState.OPEN, status="open", quantity=12)

    works.settle()

    assert (works.result(told), house.order(order_id).quantity) == ("MODIFIED", 12)


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


# ---- fills that race it


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
    broker.on_modify = answers(LOST, does=does)
    told = works.asked(order_id, quantity=wanted)
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


def test_a_cancel_ends_an_order_whose_modify_nobody_knows_of(
    house: House, works: ModifyWorks, broker: ModifiableBroker
) -> None:
    (order_id,) = works.place(quantity=10)
    broker.on_modify = answers(LOST, does=False)
    told = works.asked(order_id, quantity=12)
    works.cancel(order_id)

    works.settle()

    assert (works.result(told), house.order(order_id).state) == ("ENDED", OrderState.CANCELLED)
    assert works.blocked() == 0
    house.check()


# ---- margin


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
