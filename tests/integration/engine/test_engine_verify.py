"""The verifier finds each thing that is broken on purpose, by its name, and nothing where the record is whole."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pika
import psycopg
import pytest
from dramatiq.common import dq_name, xq_name
from house import FakeBroker, House, a_row, intake_engine, outcome_engine
from psycopg import sql

import pipeline.chain
from brokers.base import Line
from domain.events import Source
from domain.ids import broker_tag, new_id
from domain.lifecycle import OrderState
from domain.orders import Order
from domain.outcomes import Accepted, Outcome, Unknown
from domain.verdicts import Proceed, Verdict
from pipeline import letters, verify
from pipeline.breaches import CHECKS
from pipeline.chain import queue_of
from pipeline.intake_group import Facts
from pipeline.queueview import QueueView
from pipeline.reports import Report, apply_due, to_body
from pipeline.sweep import Sweep
from pipeline.verify import Verified
from store import reports

logging.getLogger("pika").setLevel(logging.CRITICAL)


@pytest.fixture(autouse=True)
def queue(house: House, queue_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pipeline.chain, "QUEUE_PREFIX", f"test.{new_id()[-12:]}.")
    monkeypatch.setattr(verify, "SECOND_LOOK_S", 0.2)
    house.queue_url = queue_url
    yield
    house.close()
    with pika.BlockingConnection(pika.URLParameters(queue_url)) as connection:
        for stage in ("validate", "risk", "margin", "route", "persist", "dispatch.fake"):
            for name in (queue_of(stage), dq_name(queue_of(stage)), xq_name(queue_of(stage))):
                connection.channel().queue_delete(name)


@pytest.fixture
def day(house: House) -> dict[str, str]:
    """One order of each kind: waiting, filled, unknown, resting, stuck with its letter."""
    ids = dict(zip(("filled", "resting", "waiting"), house.accept_many(3), strict=True))
    (ids["unknown"],) = house.accept_many(1, instrument="NSE:TCS", price="3000.00")
    desk = house.desk(FakeBroker())
    intake_engine(desk, margin=block).run("validate")
    unknown_tag = house.order(ids["unknown"]).broker_tag
    broker = FakeBroker()
    broker.answer = lambda line: Unknown("timed out") if line.order.broker_tag == unknown_tag else accepted(line)
    house.run("update commands set due_at = now() + interval '1 minute' where order_id = %s", ids["waiting"])
    house.dispatcher(house.desk(broker)).pump()
    house.settled([ids["filled"], ids["resting"], ids["unknown"]])
    told(house, ids["filled"], state=OrderState.FILLED, filled_quantity=10, average_price=1500)
    told(house, ids["resting"], state=OrderState.OPEN)

    def judge(*_: Any) -> Proceed:
        raise ValueError("a rule that can't be read")

    (ids["stuck"],) = house.accept_many(1)
    engine = intake_engine(house.desk(), risk=judge)
    for _ in range(3):
        house.run("update commands set due_at = now() where order_id = %s and state = 'READY'", ids["stuck"])
        engine.run("validate", "-")
    sweep = Sweep(house.desk())
    sweep.run()
    sweep.close()
    house.run("update commands set buried_at = buried_at - interval '1 minute' where buried_at is not null")
    return ids


def block(order: Order, _facts: Facts) -> Verdict:
    order.blocked_paise = 1_500_000
    return Proceed()


def accepted(line: Line) -> Outcome:
    return Accepted(f"B-{line.order.broker_tag}")


def told(house: House, order_id: str, **terms: Any) -> None:
    tag = house.order(order_id).broker_tag
    report = Report(order_id, Source.POLL, to_body(a_row(tag, **terms), "FK0001", "fake"))
    desk = house.desk()
    with desk.store.unit() as unit:
        reports.insert(unit, [report], desk.now())
    apply_due(desk)


def look(house: House, **given: Any) -> Verified:
    return verify.verify(house.desk(), **given)


def found(verified: Verified) -> set[tuple[str, str]]:
    return {(breach.check, breach.subject) for breach in verified.breaches}


def test_a_whole_record_has_no_breach(house: House, day: dict[str, str]) -> None:
    verified = look(house)

    assert verified.breaches == []
    assert (verified.orders, verified.intents) == (5, 5)


def test_an_empty_record_is_whole(house: House) -> None:
    assert look(house).breaches == []


BROKEN = [
    ("GAP", "filled", "delete from order_events where order_id = %(id)s and seq = 2"),
    ("GAP", "filled", "delete from order_events where order_id = %(id)s and seq = (select last_seq from orders where id = %(id)s)"),
    ("GAP", "waiting", "delete from order_events where order_id = %(id)s"),
    ("ILLEGAL_MOVE", "filled", "update order_events set prev_state = 'OPEN' where order_id = %(id)s and seq = 2"),
    ("ILLEGAL_MOVE", "resting", "update order_events set new_state = 'FILLED' where order_id = %(id)s and seq = 1"),
    ("FOLD", "filled", "update orders set average_price = 1499 where id = %(id)s"),
    ("FOLD", "resting", "update orders set state = 'FILLED' where id = %(id)s"),
    ("FOLD", "resting", "update orders set version = 2 where id = %(id)s"),
    ("BLOCK_ON_ENDED", "filled", "update orders set blocked_paise = 1 where id = %(id)s"),
    ("NO_BLOCK", "unknown", "update orders set blocked_paise = 0 where id = %(id)s"),
    ("NO_COMMAND", "resting", "delete from commands where order_id = %(id)s"),
    ("NO_ORDER", "resting", "delete from orders where id = %(id)s"),
    ("TAG", "resting", "update orders set broker_tag = 'OC00000000000000000' where id = %(id)s"),
    ("TWICE_TAKEN", "filled", "insert into attempts select order_id, 2, call_id, broker, account_id, tag, 2, request, started_at,"
     " lease_until, 'ACCEPTED', '{\"brokerOrderId\": \"B2\"}', ended_at from attempts where order_id = %(id)s"),
    ("OVER_TRADED", "filled", "insert into trades select id, 'NSE', 'T9', user_id, broker, account_id, instrument, side, 11, 1, now()"
     " from orders where id = %(id)s"),
    ("CHANGING", "resting", "update orders set changing = 1 where id = %(id)s"),
    ("CHANGING", "resting", "insert into changes (order_id, seq, intent_id, line, wanted, asked_at)"
     " values (%(id)s, 1, %(id)s, 0, '{}', now())"),
    ("CHANGING", "resting", "with counted as (update orders set changing = 1 where id = %(id)s)"
     " insert into commands (order_id, seq, kind, stage, state, due_at) values (%(id)s, 1, 'CANCEL', 'cancel', 'READY', now())"),
    ("ATTEMPT", "filled", "update attempts set kind = 'CANCEL' where order_id = %(id)s"),
    ("OVERDUE", "stuck", "update commands set state = 'READY', live = true, due_at = now() - interval '31 s' where order_id = %(id)s"),
    ("OVERDUE", "waiting", "with gone as (update orders set send_before = now() - interval '31 s' where id = %(id)s)"
     " update commands set due_at = now() - interval '5 min' where order_id = %(id)s"),
    ("LEASE_OVER", "waiting", "update commands set state = 'SENDING', lease_until = now() - interval '31 s' where order_id = %(id)s"),
    ("ABANDONED", "unknown", "update commands set state = 'DONE', done_at = now() where order_id = %(id)s"),
    ("NO_SEARCH", "unknown", "with old as (update commands set due_at = now() - interval '2 min' where order_id = %(id)s)"
     " delete from searches where order_id = %(id)s"),
    ("REPORT_WAITS", "resting", "insert into reports (order_id, digest, source, body, received_at, due_at)"
     " values (%(id)s, 'x', 'POLL', '{}', now() - interval '61 s', now())"),
    ("NO_LETTER", "stuck", "update commands set buried_at = null, due_at = now() - interval '2 min' where order_id = %(id)s"),
    ("NO_ROW", "stuck", "update commands set state = 'DONE', done_at = now() where order_id = %(id)s"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "which", "breaking"), BROKEN)
def test_each_thing_that_is_broken_is_named(
    house: House, day: dict[str, str], cleaner: psycopg.Connection, check: str, which: str, breaking: str
) -> None:
    cleaner.execute(breaking, {"id": day[which]})

    assert (check, day[which]) in found(look(house, queues=check in ("NO_ROW", "NO_LETTER")))


def test_an_order_that_went_is_missed_by_its_intent(
    house: House, day: dict[str, str], cleaner: psycopg.Connection
) -> None:
    cleaner.execute("delete from orders where id = %s", (day["waiting"],))
    intent = house.rows("select id from intents where %s = any(order_ids)", day["waiting"])[0][0]

    assert ("NO_ORDER", intent) in found(look(house))


@pytest.mark.parametrize("total", ["blocked_paise", "exposure_paise", "open_orders"])
def test_totals_that_are_not_the_sums_are_named(
    house: House, day: dict[str, str], cleaner: psycopg.Connection, total: str
) -> None:
    cleaner.execute(sql.SQL("update accounts set {0} = {0} + 1 where id = 'FK0001'").format(sql.Identifier(total)))

    (breach,) = look(house).breaches
    assert (breach.check, breach.subject) == ("TOTALS", "FK0001")
    assert total.split("_")[0] in breach.told


def test_two_intents_with_one_key_are_named(
    house: House, day: dict[str, str], cleaner: psycopg.Connection
) -> None:
    cleaner.execute("alter table intents drop constraint intents_user_id_idempotency_key_key")
    try:
        cleaner.execute("update intents set idempotency_key = 'the same'")
        assert "KEY_TWICE" in look(house).counts
    finally:
        cleaner.execute("update intents set idempotency_key = id::text")
        cleaner.execute("alter table intents add unique (user_id, idempotency_key)")


def test_two_orders_with_one_tag_are_named(
    house: House, day: dict[str, str], cleaner: psycopg.Connection
) -> None:
    cleaner.execute("alter table orders drop constraint orders_broker_tag_key")
    try:
        tag = house.order(day["filled"]).broker_tag
        cleaner.execute("update orders set broker_tag = %s where id = %s", (tag, day["resting"]))
        assert {("TAG", day["filled"]), ("TAG", day["resting"])} <= found(look(house))
    finally:
        cleaner.execute("update orders set broker_tag = %s where id = %s", (broker_tag("OC", day["resting"]), day["resting"]))
        cleaner.execute("alter table orders add unique (broker_tag)")


def test_a_letter_that_is_gone_is_missed(house: House, day: dict[str, str]) -> None:
    with pika.BlockingConnection(pika.URLParameters(house.queue_url)) as connection:
        connection.channel().queue_purge(xq_name(queue_of("validate")))

    assert found(look(house)) == {("NO_LETTER", day["stuck"])}
    assert look(house, queues=False).breaches == []


def test_letters_of_others_are_told(house: House, day: dict[str, str]) -> None:
    view = QueueView(house.queue_url)
    view.bury(queue_of("margin"), {"orderId": day["filled"], "seq": 0})
    view.close()

    assert found(look(house)) == {("NO_ROW", day["filled"])}
    letters.tidy(house.desk(), ["margin"])
    assert look(house).breaches == []


def test_queues_that_can_not_be_read_are_no_proof(house: House, day: dict[str, str]) -> None:
    house.queue_url = "amqp://guest:guest@127.0.0.1:1/"

    assert found(look(house)) == {("QUEUES_UNREAD", "RabbitMQ")}


def test_only_what_was_accepted_since_is_looked_at(
    house: House, day: dict[str, str], cleaner: psycopg.Connection
) -> None:
    cleaner.execute("update orders set average_price = 1 where id = %s", (day["filled"],))
    later = house.rows("select accepted_at + interval '1 minute' from orders where id = %s", day["filled"])[0][0]

    assert ("FOLD", day["filled"]) not in found(look(house, since=later))
    assert ("FOLD", day["filled"]) in found(look(house))


def test_more_breaches_than_are_kept_are_counted(
    house: House, cleaner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "KEPT_MAX", 3)
    monkeypatch.setattr(verify, "PART", 4)
    house.accept_many(10)
    cleaner.execute("update orders set version = 7")

    verified = look(house)

    assert (len(verified.breaches), verified.counts["FOLD"], verified.orders) == (3, 10, 10)


def test_a_live_system_gives_no_false_alarm(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders are accepted, cleared, sent and filled while the verifier goes round."""
    monkeypatch.setattr(verify, "PART", 20)
    stop = threading.Event()

    def trade() -> None:
        desk = house.desk(FakeBroker())
        engine, dispatcher, outcomes = intake_engine(desk, margin=block), house.dispatcher(desk), outcome_engine(desk)
        while not stop.is_set():
            ids = house.accept_many(10)
            engine.run("validate")
            dispatcher.pump("-")
            house.settled(ids)
            outcomes.run("persist", "-")
            for order_id in ids[:5]:
                told(house, order_id, state=OrderState.FILLED, filled_quantity=10, average_price=1500)

    trading = threading.Thread(target=trade)
    trading.start()
    try:
        rounds = [look(house, queues=False) for _ in range(40)]
    finally:
        stop.set()
        trading.join(60)

    assert [verified.breaches for verified in rounds if verified.breaches] == []
    assert rounds[-1].orders > rounds[0].orders
    house.check()


def test_every_check_is_described() -> None:
    named = {check for check, *_ in BROKEN} | {"TOTALS", "KEY_TWICE", "SLICES", "QUEUES_UNREAD"}
    assert named == set(CHECKS)
