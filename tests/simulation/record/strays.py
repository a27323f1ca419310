"""Stands for `store/strays.py`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from domain.lifecycle import AT_BROKER
from store.strays import TWIN, Stray

from .unit import Unit


def tell(unit: Unit, strays: Sequence[Stray], at: datetime) -> list[tuple[str, str]]:
    if not strays:
        return []
    unit.statement()
    new = []
    for stray in strays:
        key = (stray.account_id, stray.broker_order_id)
        unit.lock("strays", key)
        row: dict[str, Any] | None = unit.get("strays", key)
        if row is None:
            row = {"found_at": at, "cancel_asked_at": None, "closed_at": None}
            new.append(key)
        unit.put("strays", key, {**row, "stray": stray, "seen_at": at})
    return new


def open_twins(unit: Unit, account_id: str) -> list[tuple[str, datetime | None]]:
    unit.statement()
    return sorted(
        (broker_order_id, row["cancel_asked_at"])
        for (of_account, broker_order_id), row in unit.scan("strays")
        if of_account == account_id and row["stray"].kind == TWIN and row["closed_at"] is None
    )


def ours_with_filled_twins(unit: Unit, account_id: str) -> list[str]:
    unit.statement()
    found = set()
    for _, row in unit.scan("strays"):
        stray = row["stray"]
        if stray.kind != TWIN or not stray.body["filled"] or stray.order_id is None:
            continue
        order = unit.get("orders", stray.order_id)
        assert order is not None
        if order["account_id"] == account_id and order["broker_order_id"] and order["state"] in AT_BROKER:
            found.add(order["broker_order_id"])
    return sorted(found)


def mark_cancel(unit: Unit, account_id: str, broker_order_id: str, outcome: str | None, at: datetime) -> None:
    unit.statement()
    _update(unit, account_id, broker_order_id, {"cancel_asked_at": at, "cancel_outcome": outcome})


def close(unit: Unit, account_id: str, broker_order_ids: Sequence[str], by: str, at: datetime) -> None:
    unit.statement()
    for broker_order_id in broker_order_ids:
        row = unit.get("strays", (account_id, broker_order_id))
        if row is not None and row["closed_at"] is None:
            _update(unit, account_id, broker_order_id, {"closed_at": at, "closed_by": by})


def _update(unit: Unit, account_id: str, broker_order_id: str, changes: dict[str, Any]) -> None:
    unit.lock("strays", (account_id, broker_order_id))
    row = unit.get("strays", (account_id, broker_order_id))
    if row is not None:
        unit.put("strays", (account_id, broker_order_id), {**row, **changes})
