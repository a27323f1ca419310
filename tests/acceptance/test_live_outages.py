"""Servers that go away under a live stack, and come back."""

from __future__ import annotations

import pytest
from live import FILLS, System, a_key, until

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("live")]


def test_without_rabbitmq_intents_are_accepted_and_run_when_it_is_back(system: System) -> None:
    both = (FILLS, FILLS | {"broker": "ZERODHA"})
    with system.fault(kind="latency_after", endpoint="place", seconds=1, count=None):
        in_flight = system.accepted(*both)
        system.stack.kill_service("rabbitmq")  # it takes seconds to be back
        answers = [system.place(*both) for _ in range(3)]
        until(lambda: system.get("/readyz")["status"] == "degraded")
        system.stack.wait_ready("rabbitmq")

    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert len(system.filled(in_flight, *[answer.json()["intentId"] for answer in answers])) == 8
    until(lambda: system.get("/readyz")["status"] == "ready")
    assert system.place(*both, prefer="wait=60").status_code == 200  # everybody has reconnected
    system.assert_sound()


def test_without_postgresql_the_door_says_so_and_nothing_is_half_written(system: System) -> None:
    key = a_key()
    system.stack.stop_service("postgres")
    try:
        answer = system.place(FILLS, FILLS, key=key)
        again = system.place(FILLS, FILLS, key=key)
        ready = system.http.get("/readyz")
    finally:
        system.stack.start_service("postgres")

    for told in (answer, again):
        assert (told.status_code, told.json()["code"]) == (503, "STORE_UNAVAILABLE")
        assert int(told.headers["Retry-After"]) > 0
    assert ready.status_code == 503
    assert len(system.filled(system.accepted(FILLS, FILLS, key=key))) == 2
    assert len(system.rows("select 1 from intents where idempotency_key = %s", (key,))) == 1
    whole = system.rows(
        "select cardinality(i.order_ids) as asked, count(distinct o.id) as orders, count(distinct c.order_id) as commands,"
        " count(distinct e.order_id) as received from intents i join orders o on o.intent_id = i.id and o.parent_id is null"
        " left join commands c on c.order_id = o.id left join order_events e on e.order_id = o.id and e.seq = 0"
        " group by i.id"
    )
    assert all(row["asked"] == row["orders"] == row["commands"] == row["received"] for row in whole)
    system.assert_sound()


def test_a_postgresql_killed_while_brokers_are_called_costs_no_outcome(system: System) -> None:
    with system.fault(kind="latency_after", endpoint="place", seconds=2, count=None):
        intents = [system.accepted(FILLS), system.accepted(FILLS | {"broker": "ZERODHA"})]
        tags = [o["brokerTag"] for intent_id in intents for o in system.get(f"/v2/intents/{intent_id}")["orders"]]
        until(lambda: all(system.book(tag) for tag in tags))
        system.stack.kill_service("postgres")
        system.stack.wait_ready("postgres")

    orders = system.filled(*intents)
    assert all(system.events(order["orderId"]).count("SENDING") == 1 for order in orders)
    system.assert_sound()


def test_without_redis_orders_are_placed_and_waited_for(system: System) -> None:
    system.stack.stop_service("valkey")
    try:
        answer = system.place(FILLS, FILLS | {"broker": "ZERODHA"}, prefer="wait=60")
    finally:
        system.stack.start_service("valkey")

    assert (answer.status_code, answer.json()["settled"]) == (200, 2)
    system.assert_sound()


def test_a_broker_that_was_away_is_called_again_when_it_is_back(system: System) -> None:
    system.stack.supervisor.stop("simulator")
    intents = [system.accepted(FILLS | {"broker": broker}) for broker in ("UPSTOX", "ZERODHA") for _ in range(6)]
    attempts = "select account_id from attempts where outcome = 'NOT_SENT' and started_at > now() - interval '1 minute'"
    try:
        until(lambda: len(system.rows(attempts)) >= 12)  # more than it takes to open both circuits
    finally:
        system.stack.restart("simulator")

    assert len(system.filled(*intents)) == 12
    system.assert_sound()
