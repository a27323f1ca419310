"""What came with a key, or from a signal strategy, that was revoked before it was sent is not sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from house import SECRET, FakeBroker, House, intake_engine, utc_now
from signal_room import FORM, a_signal, a_strategy, deliver

from domain.ids import new_id
from domain.signals import SignalForm
from pipeline import signals
from pipeline.desk import Desk
from pipeline.signals import Who
from store import signals as signal_rows
from store import users
from store.acts import Once
from store.users import Role


def who(house: House) -> Who:
    return Who(house.user_id, "ada", "key", Once(house.user_id, new_id(), b"f"))


def switch_off(house: House, desk: Desk) -> None:
    signals.define(desk, who(house), "breakout", SignalForm.model_validate({**FORM, "enabled": False}))


def switch_on(house: House, desk: Desk) -> None:
    signals.define(desk, who(house), "breakout", SignalForm.model_validate(FORM))


def rotate(house: House, desk: Desk) -> None:
    signals.rotate(desk, who(house), "breakout")


def remove(house: House, desk: Desk) -> None:
    signals.remove(desk, who(house), "breakout")


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def desk(house: House, broker: FakeBroker) -> Desk:
    return house.desk(broker)


def cleared(house: House, desk: Desk, strategy_id: str, **body: Any) -> str:
    """An order that a signal has placed, and that is to be sent."""
    intent_id = deliver(house.intake(desk), a_signal(house, strategy_id, **body)).intent_id
    intake_engine(desk).run("validate")
    return str(house.rows("select id from orders where intent_id = %s", intent_id)[0][0])


def sent(house: House, desk: Desk) -> None:
    desk.forget()  # as a second does
    house.due_now()
    house.dispatcher(desk).pump("-")


@pytest.mark.parametrize("end", [switch_off, rotate, remove])
def test_what_a_signal_strategy_has_placed_is_not_sent_after_its_end(
    house: House, desk: Desk, broker: FakeBroker, end: Callable[[House, Desk], None]
) -> None:
    order_id = cleared(house, desk, a_strategy(house))
    mine = house.accept(1, desk=desk).lines[0].order_id
    intake_engine(desk).run("validate")

    end(house, desk)
    sent(house, desk)

    house.settled([mine])
    order = house.order(order_id)
    assert (order.state, order.reason_code) == ("REJECTED", "KEY_REVOKED")
    assert broker.tags == [house.order(mine).broker_tag]
    house.check()


@pytest.mark.parametrize("end", [switch_off, rotate])
def test_what_it_places_when_it_goes_on_is_sent(
    house: House, desk: Desk, broker: FakeBroker, end: Callable[[House, Desk], None]
) -> None:
    strategy_id = a_strategy(house)
    before = cleared(house, desk, strategy_id)
    end(house, desk)
    switch_on(house, desk)

    after = cleared(house, desk, strategy_id, contracts=11)
    sent(house, desk)

    house.settled([after])
    assert (house.order(before).reason_code, broker.tags) == ("KEY_REVOKED", [house.order(after).broker_tag])


def test_a_change_that_ends_nothing_stops_nothing(house: House, desk: Desk, broker: FakeBroker) -> None:
    order_id = cleared(house, desk, a_strategy(house))

    switch_on(house, desk)
    sent(house, desk)

    house.settled([order_id])
    assert broker.tags == [house.order(order_id).broker_tag]


def test_what_came_with_an_api_key_is_not_sent_after_it_was_revoked(house: House, desk: Desk, broker: FakeBroker) -> None:
    with house.store.unit() as unit:
        key = users.create_key(unit, user_id=house.user_id, name="laptop", role=Role.TRADER, pepper=SECRET.encode())
        made = users.find_key(unit, key, SECRET.encode())
        assert made is not None
    order_id = house.accept(1, desk=desk).lines[0].order_id
    house.run("update intents set key_id = %s", made.id)
    intake_engine(desk).run("validate")

    with house.store.unit() as unit:
        assert users.revoke_key(unit, key.rpartition("_")[0])
    sent(house, desk)

    assert (house.order(order_id).reason_code, broker.tags) == ("KEY_REVOKED", [])
    house.run("delete from api_keys where id = %s", made.id)  # no other test's


def test_a_revocation_is_forgotten_when_nothing_can_be_waiting_any_more(house: House, desk: Desk) -> None:
    a_strategy(house)
    rotate(house, desk)
    with house.store.unit() as unit:
        assert len(users.lately_revoked(unit)) == 1
        assert signal_rows.forget_revocations(unit, utc_now() - timedelta(days=1), limit=10) == 0
        assert signal_rows.forget_revocations(unit, utc_now() + timedelta(seconds=1), limit=10) == 1
        assert users.lately_revoked(unit) == {}
