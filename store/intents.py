"""Intents: what a client asked, once per idempotency key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.intents import Acceptance, AcceptedLine
from domain.lifecycle import TERMINAL
from store.json import dump
from store.rows import Rows
from store.unit import Unit, array, text_array


@dataclass(frozen=True, slots=True)
class NewIntent:
    id: str
    user_id: str
    key_id: str
    kind: str
    idempotency_key: str
    fingerprint: bytes
    order_ids: tuple[str, ...]
    accepted_at: datetime
    window_until: datetime


_MADE = Rows(
    id="uuid",
    user_id="uuid",
    key_id="uuid",
    kind="word",
    idempotency_key="text",
    fingerprint="word",
    order_ids="text",
    accepted_at="timestamptz",
    window_until="timestamptz",
)
_INSERT = f"""
insert into intents ({_MADE.names})
select id, user_id, key_id, kind, idempotency_key, decode(fingerprint, 'hex'), order_ids::uuid[], accepted_at, window_until
from {_MADE.sql}
"""  # noqa: S608 - our own names
_INSERT_NEW = f"{_INSERT} on conflict (user_id, idempotency_key) do nothing returning id"


def insert(unit: Unit, intents: Sequence[NewIntent]) -> set[str]:
    """Store the intents whose idempotency keys are new, and give their ids.

    A key that another transaction is just storing is waited for. The intents must come sorted by (user, key), so that
    two batches that share keys wait for each other in one direction only.
    """
    return {row[0] for row in unit.rows(_INSERT_NEW, _parameters(intents))}


def insert_all(unit: Unit, intents: Sequence[NewIntent]) -> None:
    """Store the intents, sorted as for `insert`; psycopg's UniqueViolation where one's key isn't new."""
    unit.run(_INSERT, _parameters(intents))


def _parameters(intents: Sequence[NewIntent]) -> list[str | None]:
    return _MADE.parameters(
        [intent.id for intent in intents],
        [intent.user_id for intent in intents],
        [intent.key_id for intent in intents],
        [intent.kind for intent in intents],
        [intent.idempotency_key for intent in intents],
        [intent.fingerprint.hex() for intent in intents],
        [array(intent.order_ids) for intent in intents],
        [intent.accepted_at for intent in intents],
        [intent.window_until for intent in intents],
    )


@dataclass(frozen=True, slots=True)
class KeptIntent:
    """What is remembered under an idempotency key. `live` is whether its window lasts or a line is still under way."""

    acceptance: Acceptance
    fingerprint: bytes
    live: bool


def find(unit: Unit, user_id: str, idempotency_key: str, now: datetime) -> KeptIntent | None:
    rows = unit.rows(
        "select id, fingerprint, order_ids::text[], accepted_at, window_until from intents"
        " where user_id = %s and idempotency_key = %s",
        (user_id, idempotency_key),
    )
    if not rows:
        return None
    intent_id, fingerprint, order_ids, accepted_at, window_until = rows[0]
    lines = unit.rows(
        "select line, correlation_id, id, state from orders where id = any(%s::uuid[]) order by line",
        (array(order_ids),),
    )
    acceptance = Acceptance(
        intent_id=intent_id,
        accepted_at=accepted_at,
        lines=tuple(AcceptedLine(line, correlation_id, order_id) for line, correlation_id, order_id, _ in lines),
        replayed=True,
    )
    under_way = any(state not in TERMINAL for *_, state in lines)
    return KeptIntent(acceptance, fingerprint, live=now < window_until or under_way)


def known(unit: Unit, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the (user, idempotency key) pairs that stand for an intent."""
    rows = unit.rows(
        "select i.user_id, i.idempotency_key from unnest(%s::uuid[], %s::text[]) as v (user_id, key)"
        " join intents i on i.user_id = v.user_id and i.idempotency_key = v.key",
        (array([user_id for user_id, _ in keys]), text_array([key for _, key in keys])),
    )
    return {(user_id, key) for user_id, key in rows}


def keys_of(unit: Unit, intent_ids: Sequence[str]) -> dict[str, str]:
    """The API key that each intent came with."""
    return dict(unit.rows("select id, key_id from intents where id = any(%s::uuid[])", (array(intent_ids),)))


def lock(unit: Unit, intent_ids: Sequence[str]) -> None:
    """Hold these intents until the transaction ends: who decides on their lines does so one after another."""
    unit.rows(
        "select 1 from intents where id = any(%s::uuid[]) order by id for no key update", (array(intent_ids),)
    )


def keep_answer(unit: Unit, intent_id: str, answer: Mapping[str, Any]) -> None:
    """What the client was told beside the lines; every repeat is told the same."""
    unit.run("update intents set answer = %s::json where id = %s", (dump(answer), intent_id))


def answer_of(unit: Unit, intent_id: str) -> dict[str, Any] | None:
    rows = unit.rows("select answer from intents where id = %s", (intent_id,))
    return rows[0][0] if rows else None


@dataclass(frozen=True, slots=True)
class KeptChange:
    """What is remembered under the key of an intent that changes orders. `live` as of KeptIntent."""

    intent_id: str
    accepted_at: datetime
    fingerprint: bytes
    answer: dict[str, Any]
    live: bool


def find_change(unit: Unit, user_id: str, idempotency_key: str, now: datetime) -> KeptChange | None:
    """What the key stands for, where it is a modify's or cancel's; of another kind the answer is empty."""
    rows = unit.rows(
        "select i.id, i.accepted_at, i.fingerprint, i.answer, i.window_until > %s"
        " or exists (select from changes c where c.intent_id = i.id and c.result is null)"
        " from intents i where i.user_id = %s and i.idempotency_key = %s",
        (now, user_id, idempotency_key),
    )
    if not rows:
        return None
    intent_id, accepted_at, fingerprint, answer, live = rows[0]
    return KeptChange(intent_id, accepted_at, fingerprint, answer or {}, live)
