"""Stands for `store/orders.py`: rows are columns by name, and only the columns named in `save` are written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg

from domain.events import Event
from domain.lifecycle import OrderState
from domain.orders import Order

from .unit import Unit

COLUMNS = tuple(column.name for column in fields(Order))


def lock(unit: Unit, order_ids: Sequence[str]) -> dict[str, Order]:
    unit.statement()
    held = {}
    for order_id in _in_order(unit, order_ids):
        if unit.get("orders", order_id) is not None:
            unit.lock("orders", order_id)
            held[order_id] = Order(**unit.get("orders", order_id))
    return held


def _in_order(unit: Unit, order_ids: Sequence[str]) -> list[str]:
    """As everybody locks them: parents last."""

    def place(order_id: str) -> tuple[bool, str]:
        row = unit.get("orders", order_id)
        return (row is not None and row["slices"] > 0, order_id)

    return sorted(set(order_ids), key=place)


def lock_known(unit: Unit, order_ids: Sequence[str], known: Mapping[str, Order]) -> dict[str, Order]:
    unit.statement()
    held: dict[str, Order] = {}
    for order_id in _in_order(unit, order_ids):
        unit.lock("orders", order_id)
        order, row = known.get(order_id), unit.get("orders", order_id)
        told = row and (row["last_seq"], row["cancel_requested"], row["changing"])
        if order is not None and (order.last_seq, order.cancel_requested, order.changing) == told:
            held[order_id] = order
    unknown = [order_id for order_id in order_ids if order_id not in held]
    return held | lock(unit, unknown) if unknown else held


def known_by_tag(unit: Unit, tags: Sequence[str]) -> list[tuple[str, str, str | None, str | None, OrderState, int]]:
    unit.statement()
    found = []
    for tag in tags:
        order_id = unit.get("tags", tag)
        if order_id is not None:
            row = unit.get("orders", order_id)
            assert row is not None
            found.append((tag, order_id, row["broker_order_id"], row["account_id"], row["state"], row.get("modifies", 0)))
    return found


def save(unit: Unit, orders: Sequence[Order], columns: Collection[str], at: datetime) -> None:
    unit.statement()
    for order in orders:
        row = {**(unit.get("orders", order.id) or {}), "state": order.state, "last_seq": order.last_seq}
        for column in columns:
            row[column] = getattr(order, column)
        unit.put("orders", order.id, row)


def slices_of(
    unit: Unit, parent_ids: Sequence[str]
) -> list[tuple[str, str, OrderState, int, int, Decimal | None]]:
    unit.statement()
    wanted = set(parent_ids)
    return sorted(
        (row["parent_id"], id_, row["state"], row["quantity"], row["filled_quantity"], row["average_price"])
        for id_, row in unit.scan("orders")
        if row["parent_id"] in wanted
    )


def insert(unit: Unit, orders: Sequence[Order], at: datetime) -> None:
    unit.statement()
    for order in orders:
        row: dict[str, Any] = {name: getattr(order, name) for name in COLUMNS}
        # As the statement has it: what a stage found of it comes with a save.
        row |= {"state": OrderState.RECEIVED, "last_seq": 0, "version": 1, "accepted_at": at, "slices": 0}
        row |= {"broker": None, "account_id": None, "broker_order_id": None, "filled_quantity": 0}
        row |= {"average_price": None, "reason_code": None, "reason": None, "blocked_paise": 0, "exposure_paise": 0}
        if not unit.insert("orders", order.id, row) or not unit.insert("tags", order.broker_tag, order.id):
            raise psycopg.errors.UniqueViolation(f"order {order.id} exists")


def append_events(unit: Unit, events: Sequence[Event]) -> None:
    unit.statement()
    for event in events:
        if not unit.insert("events", (event.order_id, event.seq), event):
            raise psycopg.errors.UniqueViolation(f"event {event.seq} of {event.order_id} exists")


def events_of(unit: Unit, order_ids: Iterable[str]) -> list[tuple[Any, ...]]:
    unit.statement()
    wanted = set(order_ids)
    return [
        (event.order_id, event.seq, event.event_type, event.prev_state, event.new_state, event.detail)
        for (order_id, _), event in sorted(unit.scan("events"), key=lambda entry: entry[0])
        if order_id in wanted
    ]
