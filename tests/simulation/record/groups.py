"""Stands for `store/groups.py`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from domain.commands import Command, CommandState
from domain.groups import GroupPolicy, Part
from store.groups import STAGE, Claimed, Group, _line

from .commands import copy
from .unit import Unit


def mark(unit: Unit, intent_ids: Collection[str], due_at: datetime, *, tries: int = 0) -> None:
    unit.statement()
    for intent_id in sorted(intent_ids):
        unit.record.numbers += 1
        unit.put("group_marks", unit.record.numbers, (intent_id, due_at, tries))


def due(unit: Unit, now: datetime, limit: int) -> list[str]:
    unit.statement()
    found = {intent_id for _, (intent_id, due_at, _) in unit.scan("group_marks") if due_at <= now}
    for _, row in unit.scan("commands"):
        if row.stage == STAGE and _is_held(row) and row.due_at <= now:
            found.add(unit.get("orders", row.order_id)["intent_id"])
    return sorted(found)[:limit]


def is_any_overdue(unit: Unit, before: datetime) -> bool:
    unit.statement()
    if any(due_at <= before for _, (_, due_at, _) in unit.scan("group_marks")):
        return True
    return any(
        row.stage == STAGE and row.state is CommandState.HELD and row.due_at <= before
        for _, row in unit.scan("commands")
    )


def claim(unit: Unit, intent_ids: Sequence[str]) -> list[Claimed]:
    unit.statement()
    locked = [
        intent
        for key, intent in sorted(unit.scan("intents"), key=lambda entry: str(entry[1].id))
        if intent.id in intent_ids and unit.try_lock("intents", key)
    ]
    unit.statement()
    tries: dict[str, int] = {}
    ids = {intent.id for intent in locked}
    for number, (intent_id, _, count) in unit.scan("group_marks"):
        if intent_id in ids:
            tries[intent_id] = max(count, tries.get(intent_id, 0))
            unit.put("group_marks", number, None)
    return [
        Claimed(
            intent.id, tuple(intent.order_ids), unit.get("released", intent.id) is not None, tries.get(intent.id, 0)
        )
        for intent in locked
    ]


def lock_held(unit: Unit, order_ids: Sequence[str]) -> list[Command]:
    unit.statement()
    held = []
    for order_id in sorted(order_ids):
        row = unit.get("commands", (order_id, 0))
        if row.stage == STAGE and _is_held(row):
            unit.lock("commands", (order_id, 0))
            row = unit.get("commands", (order_id, 0))
            if row.stage == STAGE and _is_held(row):
                held.append(copy(row))
    return held


def note_release(unit: Unit, intent_ids: Sequence[str], at: datetime) -> None:
    unit.statement()
    for intent_id in intent_ids:
        unit.put("released", intent_id, at)


def read(unit: Unit, order_ids: Sequence[str]) -> dict[str, Group]:
    unit.statement()
    wanted = set(order_ids)
    rows = [row for id_, row in unit.scan("orders") if id_ in wanted]
    slices: dict[str, list[Part]] = {}
    for id_, row in unit.scan("orders"):
        if row["parent_id"] in wanted:
            work = unit.get("commands", (id_, 0)).state
            part = Part(row["state"], row["broker_order_id"] is not None, work is CommandState.STUCK)
            slices.setdefault(row["parent_id"], []).append(part)
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["intent_id"], []).append(row)
    return {
        intent_id: Group(
            GroupPolicy(found[0]["policy"] or GroupPolicy.BEST_EFFORT),
            tuple(
                _line(_as_told(unit, row), slices.get(row["id"]) if row["slices"] else None)
                for row in sorted(found, key=lambda row: int(row["line"]))
            ),
            {row["line"]: row["id"] for row in found},
        )
        for intent_id, found in groups.items()
    }


def _as_told(unit: Unit, row: dict[str, Any]) -> tuple[Any, ...]:
    work = unit.get("commands", (row["id"], 0))
    names = ("id", "intent_id", "line", "correlation_id", "policy", "after", "state")
    figures = ("slices", "quantity", "filled_quantity", "send_before", "cancel_requested", "reason_code", "reason")
    return (
        *(row[name] for name in names),
        row["broker_order_id"] is not None,
        *(row[name] for name in figures),
        work.stage,
        work.state,
        work.error,
    )


def _is_held(row: Command) -> bool:
    return row.state in (CommandState.HELD, CommandState.READY)
