"""Stands for `store/intents.py`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import psycopg

from domain.intents import Acceptance, AcceptedLine
from domain.lifecycle import TERMINAL
from store.intents import KeptIntent, NewIntent

from .unit import Unit


def insert(unit: Unit, intents: Sequence[NewIntent]) -> set[str]:
    unit.statement()
    return {
        intent.id for intent in intents if unit.insert("intents", (intent.user_id, intent.idempotency_key), intent)
    }


def insert_all(unit: Unit, intents: Sequence[NewIntent]) -> None:
    unit.statement()
    for intent in intents:
        if not unit.insert("intents", (intent.user_id, intent.idempotency_key), intent):
            raise psycopg.errors.UniqueViolation("duplicate key value violates unique constraint")


def find(unit: Unit, user_id: str, idempotency_key: str, now: datetime) -> KeptIntent | None:
    unit.statement()
    intent: NewIntent | None = unit.get("intents", (user_id, idempotency_key))
    if intent is None:
        return None
    rows = sorted((unit.get("orders", order_id) for order_id in intent.order_ids), key=lambda row: row["line"])
    lines = tuple(AcceptedLine(row["line"], row["correlation_id"], row["id"]) for row in rows)
    under_way = any(row["state"] not in TERMINAL for row in rows)
    acceptance = Acceptance(intent.id, intent.accepted_at, lines, replayed=True)
    return KeptIntent(acceptance, intent.fingerprint, live=now < intent.window_until or under_way)


def known(unit: Unit, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    unit.statement()
    return {key for key in keys if unit.get("intents", key) is not None}
