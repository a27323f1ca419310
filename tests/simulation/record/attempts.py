"""Stands for `store/attempts.py`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg

from domain.outcomes import Outcome
from store.attempts import Attempt, _response, outcome_from, outcome_word

from .unit import Unit


def insert(unit: Unit, attempts: Sequence[Attempt]) -> None:
    unit.statement()
    for attempt in attempts:
        row: dict[str, Any] = {"attempt": attempt, "outcome": None, "response": None, "ended_at": None}
        if not unit.insert("attempts", (attempt.order_id, attempt.number), row):
            raise psycopg.errors.UniqueViolation(f"attempt {attempt.number} of {attempt.order_id} exists")


def end(unit: Unit, ends: Sequence[tuple[str, int, Outcome, datetime]]) -> None:
    unit.statement()
    for order_id, number, outcome, at in ends:
        unit.lock("attempts", (order_id, number))
        row = unit.get("attempts", (order_id, number))
        if row is not None and row["outcome"] is None:
            said = {"outcome": outcome_word(outcome), "response": _response(outcome), "ended_at": at}
            unit.put("attempts", (order_id, number), {**row, **said})


def newest(unit: Unit, keys: Sequence[tuple[str, int]]) -> dict[str, Outcome | None]:
    unit.statement()
    return {
        key[0]: outcome_from(row["outcome"], row["response"])
        for key in keys
        if (row := unit.get("attempts", key)) is not None
    }


def brokers_tried(unit: Unit, order_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    unit.statement()
    tried: dict[str, set[str]] = {}
    for (order_id, _), row in unit.scan("attempts"):
        if order_id in order_ids:
            tried.setdefault(order_id, set()).add(row["attempt"].broker)
    return {order_id: frozenset(brokers) for order_id, brokers in tried.items()}
