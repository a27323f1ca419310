"""Signals: the strategies that users defined, and every delivery whose secret was right.

A secret reads `sig_` and 32 characters, random, fit for a URL. It is shown once; what is kept of it is an HMAC under the
installation's pepper. Who accepts a signal locks its strategy's row first, so that the deliveries of one strategy are
decided one after another, and each sees what the ones before have made.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.guards import Guard, SignalStatus
from store.json import dump, storable
from store.unit import Unit, array

PREFIX = "sig_"
SECRET_MAX = 128  # of what is presented; longer is none of ours


@dataclass(frozen=True, slots=True)
class Strategy:
    """A signal strategy as its row holds it; its form as JSON."""

    id: str
    user_id: str
    name: str
    secret_hash: bytes
    form: Mapping[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime


_COLUMNS = "id, user_id, name, secret_hash, form, version, created_at, updated_at"


def new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(24)


def hash_of(secret: str, pepper: bytes) -> bytes:
    return hmac.digest(pepper, b"signal\x00" + secret.encode("utf-8", "surrogatepass"), "sha256")


def find(unit: Unit, user: str, name: str) -> Strategy | None:
    """The strategy of that name of the user of that name."""
    rows = unit.rows(
        f"select s.{_COLUMNS.replace(', ', ', s.')} from signal_strategies s join users u on u.id = s.user_id"  # noqa: S608
        " where u.name = %s and s.name = %s",
        (storable(user), storable(name)),
    )
    return _strategy(rows[0]) if rows else None


def lock_named(unit: Unit, user_id: str, name: str) -> Strategy | None:
    rows = unit.rows(
        f"select {_COLUMNS} from signal_strategies where user_id = %s and name = %s for update",  # noqa: S608
        (user_id, name),
    )
    return _strategy(rows[0]) if rows else None


def lock(unit: Unit, ids: Collection[str]) -> dict[str, Strategy]:
    """The strategies by id, locked in the order of their ids."""
    rows = unit.rows(
        f"select {_COLUMNS} from signal_strategies where id = any(%s::uuid[]) order by id for update",  # noqa: S608
        (array(sorted(ids)),),
    )
    return {row[0]: _strategy(row) for row in rows}


def insert(unit: Unit, strategy: Strategy, by: str) -> bool:
    """Whether the name was free."""
    return bool(
        unit.run(
            f"insert into signal_strategies ({_COLUMNS}, updated_by) values (%s, %s, %s, %s, %s::json, %s, %s, %s, %s)"  # noqa: S608
            " on conflict (user_id, name) do nothing",
            (
                strategy.id,
                strategy.user_id,
                strategy.name,
                strategy.secret_hash,
                dump(strategy.form),
                strategy.version,
                strategy.created_at,
                strategy.updated_at,
                by,
            ),
        )
    )


def save(unit: Unit, strategy_id: str, form: Mapping[str, Any], at: datetime, by: str) -> None:
    unit.run(
        "update signal_strategies set form = %s::json, version = version + 1, updated_at = %s, updated_by = %s"
        " where id = %s",
        (dump(form), at, by, strategy_id),
    )


def change_secret(unit: Unit, strategy_id: str, secret_hash: bytes, at: datetime, by: str) -> None:
    unit.run(
        "update signal_strategies set secret_hash = %s, updated_at = %s, updated_by = %s where id = %s",
        (secret_hash, at, by, strategy_id),
    )


def revoke(unit: Unit, strategy_id: str, at: datetime) -> None:
    """What it has placed before and isn't sent yet is not sent any more."""
    unit.run(
        "insert into signal_revocations as r (strategy_id, at) values (%s, %s)"
        " on conflict (strategy_id) do update set at = greatest(r.at, excluded.at)",
        (strategy_id, at),
    )


def remove(unit: Unit, strategy_id: str) -> None:
    unit.run("delete from signal_strategies where id = %s", (strategy_id,))


@dataclass(frozen=True, slots=True)
class First:
    """The accepted delivery that a later one is measured by."""

    intent_id: str
    digest: bytes
    at: datetime


def first_of_nonce(unit: Unit, guard: Guard) -> First | None:
    rows = unit.rows(
        "select intent_id, digest, at from signals where strategy_id = %s and nonce = %s and status = 'ACCEPTED'",
        (guard.strategy_id, guard.nonce),
    )
    return _first(rows[0]) if rows else None


def latest_of_order(unit: Unit, guard: Guard, since: datetime) -> First | None:
    """The newest accepted delivery after `since` that asked for the same order."""
    rows = unit.rows(
        "select intent_id, digest, at from signals where strategy_id = %s and digest = %s and status = 'ACCEPTED'"
        " and at > %s order by at desc limit 1",
        (guard.strategy_id, guard.digest, since),
    )
    return _first(rows[0]) if rows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One delivery and what became of it; `wanted` is the order that it asked for, as far as one could be made of it."""

    id: str
    strategy_id: str
    at: datetime
    status: SignalStatus
    digest: bytes | None = None
    nonce: str | None = None
    intent_id: str | None = None
    wanted: Mapping[str, Any] | None = None
    reason_code: str | None = None
    reason: str | None = None


def note(unit: Unit, delivery: Delivery) -> None:
    unit.run(
        "insert into signals (id, strategy_id, at, status, digest, nonce, intent_id, wanted, reason_code, reason)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s::json, %s, %s)",
        (
            delivery.id,
            delivery.strategy_id,
            delivery.at,
            delivery.status.value,
            delivery.digest,
            delivery.nonce and storable(delivery.nonce),
            delivery.intent_id,
            None if delivery.wanted is None else dump(delivery.wanted),
            delivery.reason_code,
            delivery.reason and storable(delivery.reason),
        ),
    )


def forget(unit: Unit, before: datetime, *, limit: int) -> int:
    """Deliveries that no later one is measured by any more, the oldest first; gives how many are gone."""
    return unit.run(
        "delete from signals where id = any(array(select id from signals"
        " where at < %s and (status <> 'ACCEPTED' or nonce is null) order by at limit %s))",
        (before, limit),
    )


def forget_revocations(unit: Unit, before: datetime, *, limit: int) -> int:
    return unit.run(
        "delete from signal_revocations where strategy_id = any(array("
        "select strategy_id from signal_revocations where at < %s limit %s))",
        (before, limit),
    )


def _strategy(row: tuple[Any, ...]) -> Strategy:
    id_, user_id, name, secret_hash, form, version, created_at, updated_at = row
    return Strategy(id_, user_id, name, bytes(secret_hash), form, version, created_at, updated_at)


def _first(row: tuple[Any, ...]) -> First:
    return First(row[0], bytes(row[1]), row[2])
