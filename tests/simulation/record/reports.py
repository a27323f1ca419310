"""Stands for `store/reports.py`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from store.json import dump
from store.reports import Report

from .unit import Unit

_SECOND, _MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def insert(unit: Unit, reports: Sequence[Report], at: datetime) -> int:
    if not reports:
        return 0
    unit.statement()
    new = 0
    for report in sorted(reports, key=lambda report: report.order_id):
        text = dump(report.body)
        row = {"source": report.source, "body": text, "received_at": at, "due_at": at, "applied_at": None}
        new += unit.insert("reports", (report.order_id, report.digest), row)
    return new


def claim(unit: Unit, now: datetime, limit: int) -> list[tuple[str, bytes, str, dict[str, Any]]]:
    unit.statement()
    due = [(key, row) for key, row in unit.scan("reports") if row["applied_at"] is None and row["due_at"] <= now]
    claimed: list[tuple[str, bytes, str, dict[str, Any]]] = []
    for key, _ in sorted(due, key=lambda entry: entry[1]["due_at"]):
        if len(claimed) < limit and unit.try_lock("reports", key):
            row = unit.get("reports", key)
            if row is not None and row["applied_at"] is None and row["due_at"] <= now:
                claimed.append((*key, row["source"], orjson.loads(row["body"])))
    return claimed


def close(unit: Unit, keys: Sequence[tuple[str, bytes]], at: datetime) -> None:
    unit.statement()
    for key in keys:
        unit.put("reports", key, {**(unit.get("reports", key) or {}), "applied_at": at})


def set_aside(unit: Unit, order_id: str, digest: bytes, now: datetime) -> None:
    unit.statement()
    unit.lock("reports", (order_id, digest))
    row = unit.get("reports", (order_id, digest))
    if row is not None and row["applied_at"] is None:
        wait = min(max(now - row["received_at"], _SECOND), _MINUTE)
        unit.put("reports", (order_id, digest), {**row, "due_at": now + wait})


def any_due(unit: Unit, *, older_than_s: float) -> bool:
    unit.statement()
    before = unit.record.now() - timedelta(seconds=older_than_s)
    return any(row["applied_at"] is None and row["due_at"] < before for _, row in unit.scan("reports"))
