"""The chain anyone writes first, to measure ours against: one Dramatiq message per order and stage.

    dramatiq ops.bench.plain:work      with PLAIN_DATABASE_URL, PLAIN_RABBITMQ_URL and PLAIN_THREADS set

The same seven durable steps to the same stub broker. Each stage reads the order's row, writes its own step (the order's
new state and an event) in one transaction, commits, and then sends the next stage's message with publisher confirms.
Nothing is left out that makes it right on a good day, nothing is added that would slow it: pooled connections, prepared
statements, the columns that are needed, no ORM, no HTTP. Queues are quorum queues, as ours are.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.common import dq_name, xq_name
from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

STAGES = ("validate", "risk", "margin", "route", "dispatch", "persist", "notify")
SCHEMA = """
drop schema if exists plain cascade;
create schema plain;
create table plain.accounts (
    id text primary key,
    limit_paise bigint not null,
    blocked_paise bigint not null default 0,
    open_orders integer not null default 0
);
create table plain.orders (
    id uuid primary key,
    account_id text not null,
    instrument text not null,
    side text not null,
    quantity bigint not null,
    price numeric(18, 4) not null,
    product text not null,
    order_type text not null,
    state text not null,
    last_seq integer not null,
    broker text,
    broker_tag text not null unique,
    broker_order_id text,
    blocked_paise bigint not null default 0,
    accepted_at timestamptz not null,
    updated_at timestamptz not null,
    finished_at timestamptz
) with (fillfactor = 60);
create table plain.events (
    order_id uuid not null,
    seq integer not null,
    event_type text not null,
    at timestamptz not null,
    detail jsonb not null,
    primary key (order_id, seq)
);
create table plain.attempts (
    order_id uuid not null,
    number integer not null,
    tag text not null,
    started_at timestamptz not null,
    outcome text,
    broker_order_id text,
    ended_at timestamptz,
    primary key (order_id, number)
);
"""
READ = """
select id, account_id, instrument, side, quantity, price, product, order_type, state, last_seq, broker_tag
from plain.orders where id = %s for update
"""
EVENT = "insert into plain.events (order_id, seq, event_type, at, detail) values (%s, %s, %s, clock_timestamp(), %s)"
STEP = """
update plain.orders
set state = %(state)s, last_seq = %(seq)s, updated_at = clock_timestamp(), broker = coalesce(%(broker)s, broker),
    broker_order_id = coalesce(%(broker_order_id)s, broker_order_id),
    blocked_paise = coalesce(%(blocked_paise)s, blocked_paise),
    finished_at = case when %(finished)s then clock_timestamp() end
where id = %(id)s
"""
NOTHING = {"broker": None, "broker_order_id": None, "blocked_paise": None, "finished": False}
KNOWN_EXCHANGES = frozenset({"NSE", "BSE"})

Row = dict[str, Any]
Place = Callable[[Row], str]  # an order's row to the broker's order id


class QuorumBroker(RabbitmqBroker):
    """The standard broker on quorum queues instead of classic ones, as a durable chain would have them today."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._build_queue_arguments(queue_name)  # type: ignore[no-untyped-call]
        return arguments | {"x-queue-type": "quorum"}


class Chain:
    """The seven stages of one process, on its pool."""

    def __init__(self, pool: ConnectionPool[Connection[Row]], place: Place) -> None:
        self._pool, self._place = pool, place

    @contextmanager
    def _order(self, order_id: str, expected: str) -> Iterator[tuple[Connection[Row], Row | None]]:
        """One transaction with the order's row locked; no row when its step was done before (a second delivery)."""
        with self._pool.connection() as connection:
            row = connection.execute(READ, [order_id]).fetchone()
            yield connection, row if row and row["state"] == expected else None

    def validate(self, order_id: str) -> bool:
        with self._order(order_id, "RECEIVED") as (connection, order):
            if order is None:
                return False
            exchange, _, symbol = order["instrument"].partition(":")
            if exchange not in KNOWN_EXCHANGES or not symbol or order["quantity"] <= 0 or order["price"] <= 0:
                return self._reject(connection, order, "INVALID")
            self._advance(connection, order, "VALIDATED", {"instrument": order["instrument"]})
            return True

    def risk(self, order_id: str) -> bool:
        with self._order(order_id, "VALIDATED") as (connection, order):
            if order is None:
                return False
            account = connection.execute(
                "select open_orders from plain.accounts where id = %s", [order["account_id"]]
            ).fetchone()
            value = int(order["price"] * order["quantity"] * 100)
            if account is None or value > 10_000_000_00 or account["open_orders"] > 1_000_000_000:
                return self._reject(connection, order, "RISK_LIMIT")
            self._advance(connection, order, "RISK_CHECKED", {"value": value, "openOrders": account["open_orders"]})
            return True

    def margin(self, order_id: str) -> bool:
        with self._order(order_id, "RISK_CHECKED") as (connection, order):
            if order is None:
                return False
            needed = int(order["price"] * order["quantity"] * 100)
            account = connection.execute(
                "select limit_paise, blocked_paise from plain.accounts where id = %s for update", [order["account_id"]]
            ).fetchone()
            if account is None or account["blocked_paise"] + needed > account["limit_paise"]:
                return self._reject(connection, order, "MARGIN")
            connection.execute(
                "update plain.accounts set blocked_paise = blocked_paise + %s, open_orders = open_orders + 1 where id = %s",
                [needed, order["account_id"]],
            )
            self._advance(connection, order, "MARGIN_BLOCKED", {"blocked": needed}, blocked_paise=needed)
            return True

    def route(self, order_id: str) -> bool:
        with self._order(order_id, "MARGIN_BLOCKED") as (connection, order):
            if order is None:
                return False
            self._advance(connection, order, "ROUTED", {"broker": "STUB"}, broker="STUB")
            return True

    def dispatch(self, order_id: str) -> bool:
        """The attempt is committed before the call, its outcome after it: without that no chain survives a crash here."""
        with self._order(order_id, "ROUTED") as (connection, order):
            if order is None:
                return False
            connection.execute(
                "insert into plain.attempts (order_id, number, tag, started_at) values (%s, 1, %s, clock_timestamp())",
                [order_id, order["broker_tag"]],
            )
            self._advance(connection, order, "SENDING", {"tag": order["broker_tag"]})
        broker_order_id = self._place(order)
        with self._pool.connection() as connection:
            connection.execute(
                "update plain.attempts set outcome = 'ACCEPTED', broker_order_id = %s, ended_at = clock_timestamp()"
                " where order_id = %s and number = 1",
                [broker_order_id, order_id],
            )
        return True

    def persist(self, order_id: str) -> bool:
        with self._order(order_id, "SENDING") as (connection, order):
            if order is None:
                return False
            attempt = connection.execute(
                "select outcome, broker_order_id from plain.attempts where order_id = %s and number = 1", [order_id]
            ).fetchone()
            assert attempt is not None
            theirs = attempt["broker_order_id"]
            self._advance(connection, order, "SUBMITTED", {"brokerOrderId": theirs}, broker_order_id=theirs)
            return True

    def notify(self, order_id: str) -> bool:
        with self._order(order_id, "SUBMITTED") as (connection, order):
            if order is None:
                return False
            self._advance(connection, order, "NOTIFIED", {}, finished=True)
            return False

    def _advance(self, connection: Connection[Row], order: Row, state: str, detail: Row, **columns: object) -> None:
        """The stage's durable step: the order's row, with the columns that the stage has something for, and an event."""
        seq = order["last_seq"] + 1
        connection.execute(STEP, NOTHING | columns | {"id": order["id"], "state": state, "seq": seq})
        connection.execute(EVENT, [order["id"], seq, state, Jsonb(detail)])

    def _reject(self, connection: Connection[Row], order: Row, code: str) -> bool:
        self._advance(connection, order, "REJECTED", {"code": code})
        return False


def queue_of(stage: str) -> str:
    return f"plain.{stage}"


def all_queues() -> list[str]:
    return [name for stage in STAGES for name in (queue_of(stage), dq_name(queue_of(stage)), xq_name(queue_of(stage)))]


def declare(broker: RabbitmqBroker, chain: Chain | None) -> dict[str, dramatiq.Actor[[str], None]]:
    """One actor per stage; each does its step and sends the next one's message. A feeder needs no chain behind them."""
    actors: dict[str, dramatiq.Actor[[str], None]] = {}

    def make(stage: str, following: str | None) -> None:
        def act(order_id: str) -> None:
            if chain is not None and getattr(chain, stage)(order_id) and following:
                actors[following].send(order_id)

        actors[stage] = dramatiq.actor(actor_name=stage, queue_name=queue_of(stage), broker=broker, max_retries=3)(act)

    for stage, following in zip(STAGES, (*STAGES[1:], None), strict=True):
        make(stage, following)
    return actors


def open_broker(url: str, *, quorum: bool) -> RabbitmqBroker:
    made = QuorumBroker if quorum else RabbitmqBroker
    return made(url=url, confirm_delivery=True)


def place_at_stub(order: Row) -> str:
    return f"S{order['broker_tag']}"


def work() -> None:
    """What each worker process of the Dramatiq command line calls at its start."""
    logging.getLogger("dramatiq").setLevel(logging.WARNING)
    threads = int(os.environ["PLAIN_THREADS"])
    pool: ConnectionPool[Connection[Row]] = ConnectionPool(
        os.environ["PLAIN_DATABASE_URL"],
        min_size=threads,
        max_size=threads,
        connection_class=Connection[Row],
        kwargs={"row_factory": dict_row, "application_name": "plain"},
        open=True,
    )
    pool.wait()
    broker = open_broker(os.environ["PLAIN_RABBITMQ_URL"], quorum=os.environ.get("PLAIN_QUEUES") != "classic")
    dramatiq.set_broker(broker)
    declare(broker, Chain(pool, place_at_stub))
