"""One order's failure is its own: what fails, waits, is given up or dies never takes its neighbours along."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from house import POLICY, House, intake_engine, steps, utc_now
from psycopg import Connection
from sqlalchemy import event

from domain.orders import Order
from domain.verdicts import Proceed, Verdict, Wait
from pipeline.intake_group import Facts, Step

Judge = Callable[[Order, Facts], Verdict]


def failing(bad: str, error: Exception) -> Judge:
    def judge(order: Order, _facts: Facts) -> Verdict:
        if order.id == bad:
            raise error
        return Proceed()

    return judge


def test_one_failing_order_is_set_aside_and_its_neighbours_go_on(house: House) -> None:
    ids = house.accept_many(5)
    engine = intake_engine(house.desk(), risk=failing(ids[2], RuntimeError("no such \x00 thing")))

    engine.run("validate")

    stages = [house.command(order_id).stage for order_id in ids]
    assert stages == ["dispatch.fake", "dispatch.fake", "validate", "dispatch.fake", "dispatch.fake"]
    command = house.command(ids[2])
    assert (command.state, command.attempts) == ("READY", 1)
    assert command.error is not None
    assert command.error.startswith("RuntimeError: no such")
    assert command.due_at > utc_now()
    assert house.events(ids[2]) == ["RECEIVED"]
    house.check()


def test_an_order_whose_tries_run_out_is_stuck_and_says_so_once(house: House) -> None:
    (order_id,) = house.accept_many(1)
    engine = intake_engine(house.desk(), margin=failing(order_id, RuntimeError("broken")))

    for _ in range(6):
        house.due_now()
        engine.run("validate", "-")

    command = house.command(order_id)
    assert (command.state, command.attempts, command.stage) == ("STUCK", 3, "validate")
    assert house.events(order_id) == ["RECEIVED", "STUCK"]
    assert house.order(order_id).state == "RECEIVED"
    house.check()


def test_a_batch_in_which_all_fail(house: House) -> None:
    ids = house.accept_many(20)

    def judge(_order: Order, _facts: Facts) -> Verdict:
        raise ValueError("all wrong")

    engine = intake_engine(house.desk(), validate=judge)
    for _ in range(4):
        house.due_now()
        engine.run("validate", "-")

    assert {house.command(order_id).state for order_id in ids} == {"STUCK"}
    house.check()


def test_what_cannot_be_written_down_is_isolated_order_by_order(house: House) -> None:
    ids = house.accept_many(4)
    verdict = Proceed({"what": object()})
    engine = intake_engine(house.desk(), risk=lambda order, _: verdict if order.id == ids[1] else Proceed())

    engine.run("validate")

    stages = {house.command(order_id).stage for order_id in (ids[0], ids[2], ids[3])}
    assert stages == {"dispatch.fake"}
    assert house.rows("select * from claims") == []
    house.check()


def test_a_database_error_is_isolated_order_by_order(house: House) -> None:
    ids = house.accept_many(5)

    def judge(order: Order, _facts: Facts) -> Verdict:
        order.blocked_paise = -1 if order.id == ids[3] else 100
        return Proceed()

    engine = intake_engine(house.desk(), margin=judge)
    engine.run("validate")

    assert [house.command(order_id).stage == "dispatch.fake" for order_id in ids] == [True, True, True, False, True]
    command = house.command(ids[3])
    assert command.error is not None
    assert command.error.startswith("CheckViolation")
    assert house.rows("select blocked_paise, open_orders from accounts where id = 'FK0001'") == [(400, 4)]
    assert house.rows("select * from claims") == []
    house.check()


def test_facts_that_cannot_be_gathered_leave_no_claim_behind(house: House) -> None:
    """An open claim would count as a death of the worker, and the third as the order's doing."""
    ids = house.accept_many(3)

    def prepare(_facts: Facts) -> object:
        raise LookupError("no reference data today")

    broken = Step("validate", POLICY, lambda *_: Proceed(), prepare=prepare)
    engine = intake_engine(house.desk(), broken)

    engine.run("validate")

    assert [(house.command(order_id).attempts, house.command(order_id).deaths) for order_id in ids] == [(1, 0)] * 3
    assert house.rows("select * from claims") == []


def impatient(connection: Connection[Any], _record: object) -> None:
    connection.execute("set lock_timeout = 50")
    connection.commit()


def test_a_lock_that_was_not_had_in_time_counts_as_nobodys_try(house: House) -> None:
    """Somebody holds the account for long: its orders wait, and none of them is stuck for it."""
    ids = house.accept_many(2)
    desk = house.desk()
    event.listen(desk.store.engine, "connect", impatient)
    engine = intake_engine(desk)
    with house.store.unit() as unit:
        unit.rows("select 1 from accounts where id = 'FK0001' for update")
        for _ in range(POLICY.tries + 1):
            engine.run("validate", "-")
            waiting = [house.command(order_id) for order_id in ids]
            assert {(command.state, command.attempts) for command in waiting} == {("READY", 0)}
            house.due_now()

    engine.run("validate", "-")

    assert {house.command(order_id).stage for order_id in ids} == {"dispatch.fake"}
    assert house.rows("select * from claims") == []


def test_an_order_that_waits_is_looked_at_again_from_where_it_waits(house: House) -> None:
    ids = house.accept_many(2)
    until = utc_now() + timedelta(minutes=1)
    answers = {ids[0]: Wait(until, "the session opens at nine")}
    engine = intake_engine(house.desk(), route=lambda order, _: answers.get(order.id, Proceed()))

    engine.run("validate")

    command = house.command(ids[0])
    assert (command.stage, command.state, command.due_at) == ("route", "READY", until)
    assert house.order(ids[0]).account_id is None
    answers.clear()
    house.due_now()
    engine.run("route")
    assert house.command(ids[0]).stage == "dispatch.fake"
    house.check()


def test_nothing_waits_past_its_limit(house: House) -> None:
    (order_id,) = house.accept_many(1)
    until = utc_now() + timedelta(days=1)

    intake_engine(house.desk(), route=lambda *_: Wait(until, "tomorrow")).run("validate")

    assert house.command(order_id).due_at == house.order(order_id).send_before


def test_what_was_taken_is_given_back_when_a_later_stage_refuses(house: House) -> None:
    house.accept_many(1)

    def take(order: Order, facts: Facts) -> Verdict:
        facts.totals["FK0001"].blocked_paise += 100
        order.blocked_paise = 100
        return Proceed()

    def give_back(order: Order, facts: Facts) -> None:
        facts.totals["FK0001"].blocked_paise -= 100
        order.blocked_paise = 0

    taking = Step("margin", POLICY, take, undo=give_back)
    refusing = Step("route", POLICY, lambda *_: Wait(utc_now(), "later"))
    intake_engine(house.desk(), *steps()[:2], taking, refusing).run("validate")

    assert house.rows("select sum(blocked_paise) from accounts") == [(0,)]
    house.check()
