"""Acts: requests that make no intent, by their idempotency keys, each with the answer that it got; written with what it did.

A user's key is one request's, whatever that does. `intents` says whose: its unique index is the one place where all
meet, so that an act holds its key there too, as a row of the kind ACT that is no intent to anybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.errors import KeyReused
from domain.ids import new_id
from store.json import dump
from store.unit import Unit

CLAIM = "ACT"  # the kind of a row of `intents` that holds an act's key
_NO_KEY = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Once:
    """One request: whose it is, under which key, and its fingerprint."""

    user_id: str
    key: str
    fingerprint: bytes


def begin(unit: Unit, once: Once, at: datetime, *, claims: bool = True) -> dict[str, Any] | None:
    """Take the key for this transaction; where it was used before, the answer of then.

    A transaction that is just using it is waited for. Raises KeyReused, also where an intent has the key.

    Args:
        claims: not so where an intent of the same request is to have the key, or `claim` comes later.
    """
    is_free = claim(unit, once, at) if claims else True
    if is_free and unit.run(
        "insert into acts (user_id, idempotency_key, fingerprint, at) values (%s, %s, %s, %s) on conflict do nothing",
        (once.user_id, once.key, once.fingerprint, at),
    ):
        return None
    kept = find(unit, once)
    if kept is None:
        raise KeyReused(
            "this Idempotency-Key was used before, with another request or so long ago that its answer isn't kept; use a new key"
        )
    return kept


def claim(unit: Unit, once: Once, at: datetime) -> bool:
    """Whether the key was free; nothing else can have it from now on."""
    return bool(
        unit.run(
            "insert into intents (id, user_id, key_id, kind, idempotency_key, fingerprint, order_ids, accepted_at, window_until)"
            " values (%s, %s, %s, %s, %s, %s, '{}', %s, %s) on conflict (user_id, idempotency_key) do nothing",
            (new_id(), once.user_id, _NO_KEY, CLAIM, once.key, once.fingerprint, at, at),
        )
    )


def find(unit: Unit, once: Once) -> dict[str, Any] | None:
    """The answer that was given under the key before. Raises KeyReused."""
    rows = unit.rows(
        "select fingerprint, answer from acts where user_id = %s and idempotency_key = %s", (once.user_id, once.key)
    )
    if rows and bytes(rows[0][0]) != once.fingerprint:
        raise KeyReused("this Idempotency-Key came with another request before; use a new key")
    return rows[0][1] if rows else None


def forget(unit: Unit, before: datetime, *, limit: int) -> int:
    """Answers that were kept for so long, the oldest first; their keys stay used. Gives how many are gone."""
    return unit.run(
        "delete from acts a using (select user_id, idempotency_key from acts where at < %s order by at limit %s) old"
        " where a.user_id = old.user_id and a.idempotency_key = old.idempotency_key",
        (before, limit),
    )


def keep(unit: Unit, once: Once, answer: dict[str, Any]) -> None:
    """The answer that every repeat gets; in the transaction that began it."""
    unit.run(
        "update acts set answer = %s::json where user_id = %s and idempotency_key = %s",
        (dump(answer), once.user_id, once.key),
    )
