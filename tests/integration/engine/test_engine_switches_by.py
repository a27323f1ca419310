"""Switches by whom: who may turn which, and what is written down of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from house import BookedBroker, House
from switch_room import ASHA, MIS, hold, switch, trader
from works import Works

from domain.errors import KeyReused, Malformed, NotAllowed, NotFound, StaleDocument
from domain.ids import new_id
from domain.switches import Mode, Scope
from pipeline import aftermath
from pipeline.switches import show
from store.acts import Once


@pytest.fixture
def broker() -> BookedBroker:
    return BookedBroker()


@pytest.fixture
def works(house: House, broker: BookedBroker) -> Works:
    return Works(house, broker)


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


def test_what_an_operator_wants_closed_is_closed_though_a_trader_halts_once_more(
    house: House, works: Works, broker: BookedBroker
) -> None:
    hold(works, broker, 100)
    works.place(quantity=30, side="SELL", **MIS)
    switch(works.desk, Mode.HALTED, Scope.USER, house.user_id, flatten=True)
    assert aftermath.carry_out(works.desk) == 1, "an open order may still move the position"

    again = switch(works.desk, Mode.HALTED, Scope.USER, "me", by=trader(house), reason="enough, I say")

    assert (again["cancelOpen"], again["flatten"], again["carriedOutAt"]) == (True, True, None)
    assert (again["by"], again["reason"], again["byOperator"]) == ("asha", "enough", True)
    assert [step["matched"] for step in again["followed"]["open"]] == [1]
    works.settle()
    assert aftermath.carry_out(works.desk) == 0
    works.clear()
    works.send()
    (closing,) = broker.calls[-1]
    assert (closing.order.side, closing.order.quantity) == ("SELL", 100)
    ((actor, detail),) = house.rows("select actor, detail from audit_log order by id desc limit 1")
    assert (actor, detail["reason"], detail["flatten"], detail["goesOn"]) == ("ravi", "enough, I say", False, ["open", "flatten"])
    house.check()


def test_halting_again_does_not_put_off_what_was_to_be_closed(house: House, works: Works, broker: BookedBroker) -> None:
    hold(works, broker, 100)
    works.place(quantity=30, side="SELL", **MIS)
    switch(works.desk, Mode.REDUCING, Scope.USER, house.user_id, flatten=True)
    for mode in (Mode.REDUCING, Mode.HALTED):
        assert aftermath.carry_out(works.desk) == 1
        works.ahead += timedelta(seconds=29)
        switch(works.desk, mode, Scope.USER, "me", by=trader(house))

    works.ahead += timedelta(seconds=4)
    assert aftermath.carry_out(works.desk) == 0, "a minute after it was wanted first"


@pytest.mark.parametrize("mode", [Mode.REDUCING, Mode.ACTIVE])
def test_whoever_lets_more_through_ends_what_was_not_done_yet(
    house: House, works: Works, broker: BookedBroker, mode: Mode
) -> None:
    hold(works, broker, 100)
    works.place(quantity=30, side="SELL", **MIS)
    switch(works.desk, Mode.HALTED, flatten=True)
    aftermath.carry_out(works.desk)

    told = switch(works.desk, mode)

    assert (told["flatten"], told["followed"]["open"]) == (False, [])
    assert told["carriedOutAt"] is not None
    works.settle()
    aftermath.carry_out(works.desk)
    assert house.rows("select 1 from intents where closing") == []


@pytest.mark.parametrize("wish", ["cancel_open", "flatten"])
def test_nothing_is_closed_where_everything_is_let_through(house: House, works: Works, wish: str) -> None:
    with pytest.raises(Malformed):
        switch(works.desk, Mode.ACTIVE, **{wish: True})

    assert house.rows("select 1 from switches") == []


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
