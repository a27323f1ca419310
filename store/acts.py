"""Acts: an operator's requests by their idempotency keys, each with the answer that it got; written with what it did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.errors import KeyReused
from store.json import dump
from store.unit import Unit


@dataclass(frozen=True, slots=True)
class Once:
    """One request: whose it is, under which key, and its fingerprint."""

    user_id: str
    key: str
    fingerprint: bytes


def begin(unit: Unit, once: Once, at: datetime) -> dict[str, Any] | None:
    """Take the key for this transaction; where it was used before, the answer of then.

    A transaction that is just using it is waited for. Raises KeyReused.
    """
    if unit.run(
        "insert into acts (user_id, idempotency_key, fingerprint, at) values (%s, %s, %s, %s) on conflict do nothing",
        (once.user_id, once.key, once.fingerprint, at),
    ):
        return None
    fingerprint, answer = unit.rows(
        "select fingerprint, answer from acts where user_id = %s and idempotency_key = %s", (once.user_id, once.key)
    )[0]
    if bytes(fingerprint) != once.fingerprint:
        raise KeyReused("this Idempotency-Key came with another request before; use a new key")
    kept: dict[str, Any] = answer
    return kept


def find(unit: Unit, once: Once) -> dict[str, Any] | None:
    """The answer that was given under the key before. Raises KeyReused."""
    rows = unit.rows(
        "select fingerprint, answer from acts where user_id = %s and idempotency_key = %s", (once.user_id, once.key)
    )
    if rows and bytes(rows[0][0]) != once.fingerprint:
        raise KeyReused("this Idempotency-Key came with another request before; use a new key")
    return rows[0][1] if rows else None


def keep(unit: Unit, once: Once, answer: dict[str, Any]) -> None:
    """The answer that every repeat gets; in the transaction that began it."""
    unit.run(
        "update acts set answer = %s::json where user_id = %s and idempotency_key = %s",
        (dump(answer), once.user_id, once.key),
    )
