"""A user's idempotency key is one request's, whatever that does: place, cancel, modify, schedule, switch, set, define."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from house import FakeBroker, House, utc_now

from domain.cancels import CancelRequest, CancelSubmission
from domain.errors import KeyReused
from domain.ids import new_id
from domain.schedules import ScheduledCancel
from domain.setting_names import Changes
from domain.signals import SignalForm
from domain.squareoff import SquareOff
from domain.switches import Mode, Scope
from pipeline import cancelling, schedules, settings, signals, squareoff, switches, verify
from pipeline.desk import Desk
from pipeline.squareoff import Asked
from store import acts
from store.acts import Once

FORM = SignalForm.model_validate(
    {
        "template": {
            "instrument": {"field": "ticker"},
            "side": {"value": "BUY"},
            "quantity": {"value": 1},
            "product": {"value": "CNC"},
        }
    }
)
Use = Callable[[House, Desk, str], Any]


@pytest.fixture
def desk(house: House) -> Desk:
    return house.desk(FakeBroker())


def once(house: House, key: str, fingerprint: bytes = b"a" * 32) -> Once:
    return Once(house.user_id, key, fingerprint)


def place(house: House, desk: Desk, key: str) -> Any:
    intake = house.intake(desk)
    return intake.submit(house.submission(key=key, fingerprint=b"p" * 32)).result(15)


def cancel(house: House, desk: Desk, key: str) -> Any:
    request = CancelRequest.model_validate({"filter": {"all": True}})
    return cancelling.accept(
        desk,
        CancelSubmission(
            user_id=house.user_id, key_id=house.user_id, idempotency_key=key, fingerprint=b"c" * 32, request=request
        ),
    )


def close_positions(house: House, desk: Desk, key: str) -> Any:
    asked = Asked(house.user_id, house.user_id, key, b"q" * 32)
    return squareoff.accept(desk, asked, SquareOff(all=True, cancel_open=True))


def schedule(house: House, desk: Desk, key: str) -> Any:
    when = (utc_now() + timedelta(hours=1)).isoformat(timespec="seconds")
    wanted = ScheduledCancel.model_validate({"filter": {"all": True}, "at": when})
    return schedules.accept(desk, Asked(house.user_id, house.user_id, key, b"s" * 32), wanted)


def switch(house: House, desk: Desk, key: str) -> Any:
    by = switches.By(name="ada", user_id=house.user_id, is_operator=False, once=once(house, key))
    return switches.turn(desk, Scope.STRATEGY, "breakout", switches.Turn(mode=Mode.HALTED, reason="a try"), by)


def set_(house: House, desk: Desk, key: str) -> Any:
    by = settings.By(name="ada", once=once(house, key, b"b" * 32))
    return settings.change(desk, house.user_id, Changes({"allow_partial_multi_order": False}), by)


def define(house: House, desk: Desk, key: str) -> Any:
    return signals.define(desk, signals.Who(house.user_id, "ada", "key", once(house, key, b"d" * 32)), "breakout", FORM)


ACTS: dict[str, Use] = {"schedule": schedule, "switch": switch, "set": set_, "define": define}
INTENTS: dict[str, Use] = {"place": place, "cancel": cancel, "close positions": close_positions}
FOOTPRINT = (
    "select (select count(*) from orders), (select count(*) from changes), (select count(*) from schedules),"
    " (select count(*) from switches), (select count(*) from user_settings), (select count(*) from signal_strategies),"
    " (select count(*) from audit_log)"
)


def with_something_to_close(house: House) -> None:
    """A position with an open order against it, and another order that is open: what there is to be cancelled and closed."""
    bought, stop = (house.accept(1, product="MIS", side=side).lines[0].order_id for side in ("BUY", "SELL"))
    at = "account_id = 'FK0001', broker = 'fake'"
    house.run(f"update orders set state = 'FILLED', filled_quantity = 10, {at} where id = %s", bought)  # noqa: S608
    house.run(f"update orders set state = 'OPEN', {at} where id = %s", stop)  # noqa: S608
    house.run(
        "insert into trades (order_id, exchange, trade_id, user_id, broker, account_id, instrument, side, quantity, price, at)"
        " values (%s, 'NSE', 't1', %s, 'fake', 'FK0001', 'NSE:INFY', 'BUY', 10, 1500, now())",
        bought, house.user_id,
    )  # fmt: skip


@pytest.mark.parametrize("intent", INTENTS)
@pytest.mark.parametrize("act", ACTS)
def test_the_key_of_an_act_makes_no_intent(house: House, desk: Desk, act: str, intent: str) -> None:
    with_something_to_close(house)
    key = new_id()
    first = ACTS[act](house, desk, key)
    before = house.rows(FOOTPRINT)

    with pytest.raises(KeyReused):
        INTENTS[intent](house, desk, key)

    assert house.rows(FOOTPRINT) == before
    again = ACTS[act](house, desk, key)
    assert {name: again[name] for name in first if name != "replayed"} == {
        name: of for name, of in first.items() if name != "replayed"
    }
    assert house.rows(FOOTPRINT) == before


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("intent", INTENTS)
def test_the_key_of_an_intent_does_nothing_else(house: House, desk: Desk, intent: str, act: str) -> None:
    with_something_to_close(house)
    key = new_id()
    INTENTS[intent](house, desk, key)
    before = house.rows(FOOTPRINT)

    with pytest.raises(KeyReused):
        ACTS[act](house, desk, key)

    assert house.rows(FOOTPRINT) == before


def test_no_act_has_the_key_of_another(house: House, desk: Desk) -> None:
    key = new_id()
    switch(house, desk, key)

    for act in (schedule, set_, define):
        with pytest.raises(KeyReused):
            act(house, desk, key)


def test_a_place_waits_for_an_act_that_is_just_using_its_key(house: House, desk: Desk) -> None:
    key = new_id()
    with ThreadPoolExecutor(1) as pool:
        with desk.store.unit() as unit:
            assert acts.begin(unit, once(house, key), utc_now()) is None
            placing = pool.submit(place, house, house.desk(), key)
            assert not placing.done()
            acts.keep(unit, once(house, key), {"done": True})
        with pytest.raises(KeyReused):
            placing.result(15)

    assert house.rows("select count(*) from orders") == [(0,)]


def test_an_act_that_was_given_up_leaves_its_key_free(house: House, desk: Desk) -> None:
    key = new_id()

    def begin_and_fail() -> None:
        with desk.store.unit() as unit:
            acts.begin(unit, once(house, key), utc_now())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        begin_and_fail()

    place(house, desk, key)
    assert house.rows("select kind from intents") == [("PLACE",)]


@pytest.mark.parametrize("act", ["switch", "set"])
def test_of_sixty_four_at_once_with_one_key_one_kind_is_done(house: House, act: str) -> None:
    key, desks = new_id(), [house.desk(FakeBroker()) for _ in range(2)]
    intakes = [house.intake(desk) for desk in desks]
    start = threading.Barrier(64, timeout=30)

    def use(number: int) -> str:
        start.wait()
        try:
            if number % 2:
                ACTS[act](house, desks[number // 2 % 2], key)
                return "act"
            intakes[number // 2 % 2].submit(house.submission(key=key, fingerprint=b"p" * 32)).result(30)
            return "place"
        except KeyReused:
            return "refused"

    with ThreadPoolExecutor(64) as pool:
        came = [task.result() for task in [pool.submit(use, number) for number in range(64)]]

    assert sorted(came) == sorted(["refused"] * 32 + [came_ for came_ in came if came_ != "refused"])
    assert len(set(came)) == 2
    ((kind,),) = house.rows("select kind from intents")
    orders, = house.rows("select count(*) from orders")[0]
    assert (kind, orders) == (("PLACE", 1) if "place" in came else ("ACT", 0))
    assert house.rows("select count(*) from audit_log") == [(int("act" in came),)]


def test_a_key_whose_answer_is_not_kept_any_more_does_nothing_again(house: House, desk: Desk) -> None:
    key = new_id()
    switch(house, desk, key)
    with desk.store.unit() as unit:
        assert acts.forget(unit, utc_now() + timedelta(seconds=1), limit=10) == 1

    with pytest.raises(KeyReused):
        switch(house, desk, key)
    with pytest.raises(KeyReused):
        place(house, desk, key)
    assert house.rows("select version from switches") == [(1,)]


def test_a_record_with_acts_is_whole(house: House, desk: Desk) -> None:
    for act in ACTS.values():
        act(house, desk, new_id())
    place(house, desk, new_id())

    verified = verify.verify(desk, queues=False)

    assert not verified.breaches
    house.check()
