"""A whole stack as the live acceptance tests use it: placing from outside, the broker's book, the record, and the sums."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import psycopg
from psycopg.rows import dict_row

from domain.events import FOLDED, fold
from domain.lifecycle import AT_BROKER, TERMINAL, OrderState
from domain.settings import Settings
from ops.stack import PROJECT, Stack

DEADLINE_S = 60.0  # for whatever has to come about on a machine that others use as well
ORDERS = PROJECT / "examples" / "orders.json"
FILLS: dict[str, Any] = {
    "correlationId": "leg",
    "instrument": "NSE:INFY",
    "side": "BUY",
    "quantity": 1,
    "product": "CNC",
    "orderType": "LIMIT",
    "price": "1200.00",
    "broker": "UPSTOX",
}
RESTS = FILLS | {"instrument": "NSE:SBIN", "price": "975.00"}

_T = TypeVar("_T")


def until(what: Callable[[], _T], *, within_s: float = DEADLINE_S, told: Callable[[], object] = lambda: "") -> _T:
    """What it gives as soon as that is true."""
    deadline = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < deadline, f"it did not come about within {within_s:g} s: {told()}"
        time.sleep(0.05)
    return found


class System:
    """The stack, a client with a trader's key, the simulator's control, and the record as its owner reads it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.http = httpx2.Client(
            base_url=stack.base_url,
            headers={"Authorization": f"Bearer {stack.facts['keys']['trader']}"},
            timeout=httpx2.Timeout(90.0),
            trust_env=False,
            limits=httpx2.Limits(max_connections=100),
        )
        self._control = httpx2.Client(base_url=stack.facts["simulators"]["control"], timeout=30.0, trust_env=False)

    def close(self) -> None:
        self.http.close()
        self._control.close()

    # The door

    def place(
        self, *lines: Mapping[str, Any], key: str | None = None, prefer: str | None = None, **more: Any
    ) -> httpx2.Response:
        headers = {"Idempotency-Key": key or a_key()}
        if prefer is not None:
            headers["Prefer"] = prefer
        body = {"orders": [{**line, "correlationId": f"leg-{number}"} for number, line in enumerate(lines)], **more}
        return self.http.post("/v2/orders/multi", json=body, headers=headers)

    def accepted(self, *lines: Mapping[str, Any], key: str | None = None) -> str:
        """The id of the intent; asked for with one key until the door can say 202, whatever dies meanwhile."""
        key = key or a_key()

        def ask() -> str | None:
            try:
                answer = self.place(*lines, key=key)
            except httpx2.TransportError:
                return None
            assert answer.status_code in (202, 503), answer.text
            return str(answer.json()["intentId"]) if answer.status_code == 202 else None

        return str(until(ask))

    def get(self, path: str) -> Any:
        """The document; asked for until somebody has it, whatever is away meanwhile."""

        def ask() -> Any:
            try:
                answer = self.http.get(path)
            except httpx2.TransportError:
                return None
            assert answer.status_code in (200, 503), f"{path}: {answer.status_code} {answer.text}"
            return answer.json() if answer.status_code == 200 else None

        return until(ask, told=lambda: path)

    def settled(self, *intent_ids: str) -> list[Any]:
        """The orders of these intents once every one has ended or is confirmed at its broker."""
        deadline = time.monotonic() + DEADLINE_S
        orders = []
        for intent_id in intent_ids:
            while (intent := self.get(f"/v2/intents/{intent_id}?wait=5"))["status"] == "RUNNING":
                states = [(order["orderId"], order["state"], order["work"]) for order in intent["orders"]]
                assert time.monotonic() < deadline, f"intent {intent_id} has not settled: {states}"
            orders += intent["orders"]
        return orders

    def filled(self, *intent_ids: str) -> list[Any]:
        """The orders of these intents once every one is filled: the market comes a moment after the exchange."""
        ids = [order["orderId"] for order in self.settled(*intent_ids)]

        def look() -> list[Any]:
            orders = [self.get(f"/v2/orders/{order_id}") for order_id in ids]
            return orders if all(order["state"] == "FILLED" for order in orders) else []

        return until(look, told=lambda: [self.get(f"/v2/orders/{order_id}")["state"] for order_id in ids])

    def events(self, order_id: str) -> list[str]:
        return [event["type"] for event in self.get(f"/v2/orders/{order_id}/history")["events"]]

    def trader(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """The client's command, as a person runs it."""
        own = {"TRADER_URL": self.stack.base_url, "TRADER_KEY": self.stack.facts["keys"]["trader"]}
        command = [str(Path(sys.executable).with_name("trader")), *words]
        return subprocess.run(command, input=text, capture_output=True, text=True, env=os.environ | own, timeout=120)

    # The broker

    def control(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._control.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @contextmanager
    def fault(self, **what: Any) -> Iterator[None]:
        """While the block lasts."""
        made = self.control("POST", "/faults", what)
        try:
            yield
        finally:
            self.control("DELETE", f"/faults/{made[0]['id']}")

    def book(self, tag: str) -> list[Any]:
        """What the broker truly has under a tag."""
        return list(self.control("GET", f"/orders?tag={tag}"))

    def answered(self, *endpoints: str) -> int:
        """How many requests to these the brokers have seen."""
        return sum(row["count"] for row in self.control("GET", "/requests") if row["endpoint"] in endpoints)

    def fill(self, tag: str) -> None:
        """The market comes to an order that rests."""
        (row,) = self.book(tag)
        self.control("POST", "/fills", {"order_id": row["order_id"]})

    # The record

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        with psycopg.connect(self.stack.owner_database_url, row_factory=dict_row) as connection:
            return connection.execute(sql, parameters).fetchall()

    def change(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        with psycopg.connect(self.stack.owner_database_url) as connection:
            connection.execute(sql, parameters)

    def use_settings(self, **settings: Any) -> None:
        Settings(**settings)
        for name, value in settings.items():
            self.change(
                "insert into settings (name, value, updated_by) values (%s, %s::jsonb, 'acceptance')"
                " on conflict (name) do update set value = excluded.value, version = settings.version + 1",
                (name, json.dumps(value)),
            )

    def assert_sound(self) -> None:
        """Events fold to rows, totals are the sums of live orders, the broker has each sent order once, nobody holds on."""
        until(lambda: not self.rows("select 1 from claims"), told=lambda: self.rows("select * from claims"))
        with psycopg.connect(self.stack.owner_database_url, row_factory=dict_row) as connection:
            connection.execute("set transaction isolation level repeatable read")
            orders = {str(row["id"]): row for row in connection.execute("select * from orders")}
            events = connection.execute("select * from order_events order by order_id, seq").fetchall()
            accounts = connection.execute("select * from accounts").fetchall()
            attempts = connection.execute("select * from attempts").fetchall()
            commands = connection.execute("select * from commands").fetchall()
        assert_events_fold(orders, events)
        assert_totals(accounts, orders)
        assert {str(command["order_id"]) for command in commands} == set(orders)
        assert_broker_agrees(orders, attempts, Counter(row["tag"] for row in self.control("GET", "/orders")))


def assert_events_fold(orders: Mapping[str, Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> None:
    by_order: dict[str, list[Any]] = {order_id: [] for order_id in orders}
    for event in events:
        told = (event["seq"], event["event_type"], event["prev_state"], event["new_state"], event["detail"])
        by_order[str(event["order_id"])].append(told)
    for order_id, own in by_order.items():
        assert fold(own) == {name: orders[order_id][name] for name in FOLDED}, order_id


def assert_totals(accounts: Sequence[Mapping[str, Any]], orders: Mapping[str, Mapping[str, Any]]) -> None:
    for account in accounts:
        live = [
            order
            for order in orders.values()
            if order["account_id"] == account["id"] and order["state"] not in TERMINAL and not order["slices"]
        ]
        told = (account["blocked_paise"], account["exposure_paise"], account["open_orders"])
        sums = (sum(o["blocked_paise"] for o in live), sum(o["exposure_paise"] for o in live), len(live))
        assert told == sums, account["id"]
        assert account["blocked_paise"] <= account["limit_paise"]


def assert_broker_agrees(
    orders: Mapping[str, Mapping[str, Any]], attempts: Sequence[Mapping[str, Any]], book: Mapping[str, int]
) -> None:
    """Never two; exactly one where it is at the broker; none where no attempt can have reached it."""
    may_have_left = {str(attempt["order_id"]) for attempt in attempts if attempt["outcome"] != "NOT_SENT"}
    for order_id, order in orders.items():
        count = book.get(order["broker_tag"], 0)
        assert count <= 1, f"order {order_id} is {count} times at its broker"
        if order["state"] in AT_BROKER | {OrderState.FILLED} and not order["slices"]:
            assert count == 1, f"order {order_id} is {order['state']}, and its broker doesn't have it"
        if order_id not in may_have_left:
            assert count == 0, f"order {order_id} is at its broker without an attempt"


def a_key() -> str:
    return f"acceptance-{uuid.uuid4()}"
