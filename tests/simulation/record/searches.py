"""Stands for `store/searches.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from domain.commands import CommandState
from domain.evidence import Search

from .unit import Unit


def begin(unit: Unit, searches: Sequence[Search]) -> None:
    if not searches:
        return
    unit.statement()
    for search in searches:
        unit.lock("searches", search.order_id)
        row = unit.get("searches", search.order_id)
        if row is not None and row["search"].fence == search.fence:
            continue
        attempt = unit.get("attempts", (search.order_id, search.fence))
        begun = search if attempt is None else replace(search, asked_at=attempt["attempt"].started_at)
        unit.put("searches", search.order_id, {"search": begun, "told_at": None})


def of_account(unit: Unit, account_id: str) -> list[tuple[Search, str]]:
    unit.statement()
    found = []
    for order_id, row in sorted(unit.scan("searches")):
        if row["search"].account_id != account_id:
            continue
        unit.lock("searches", order_id)
        row, command = unit.get("searches", order_id), unit.get("commands", (order_id, 0))
        if row is None or command is None or row["search"].account_id != account_id:
            continue
        if command.state is not CommandState.UNKNOWN or command.fence != row["search"].fence:
            unit.put("searches", order_id, None)
            continue
        found.append((row["search"], unit.get("orders", order_id)["broker_tag"]))
    return found


def save(unit: Unit, searches: Sequence[Search]) -> None:
    unit.statement()
    for search in searches:
        row = unit.get("searches", search.order_id)
        unit.put("searches", search.order_id, {**(row or {}), "search": search})


def overdue(unit: Unit, before: datetime) -> list[tuple[str, str, datetime, bool]]:
    unit.statement()
    return [
        (order_id, row["search"].account_id, row["search"].asked_at, row["told_at"] is not None)
        for order_id, row in unit.scan("searches")
        if row["search"].proof_from < before
        and unit.get("commands", (order_id, 0)).state is CommandState.UNKNOWN
    ]


def mark_told(unit: Unit, order_ids: Sequence[str], at: datetime) -> None:
    unit.statement()
    for order_id in order_ids:
        unit.lock("searches", order_id)
        row = unit.get("searches", order_id)
        if row is not None:
            unit.put("searches", order_id, {**row, "told_at": at})
