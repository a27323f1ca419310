"""Switches: read and changed so that whoever sends has seen the newest, or is done before the change is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from domain.switches import Key, Mode, Scope, Switch
from store.json import dump
from store.unit import Unit, array, text_array

_COLUMNS = "scope, subject, mode, version, reason, by, by_operator, at"
_EXCLUSIVE = "select pg_advisory_xact_lock(7302, 1)"  # who acts on switches has it shared, by `switches_in_force`


def in_force(unit: Unit, keys: Collection[Key]) -> dict[Key, Switch]:
    """Those of the switches that aren't ACTIVE, as they stand until this transaction ends: a change waits for it.

    To be called before accounts are locked: who has them must not wait for a change that waits for others.
    """
    subjects = text_array(sorted({key.subject for key in keys}))
    rows = unit.rows(f"select {_COLUMNS} from switches_in_force(%s)", (subjects,))  # noqa: S608
    found = {switch.key: switch for switch in map(_switch, rows)}
    return {key: switch for key, switch in found.items() if key in keys}


def closing_intents(unit: Unit, intent_ids: Sequence[str]) -> frozenset[str]:
    """Those of the intents that were made to close positions."""
    rows = unit.rows("select id from intents where id = any(%s::uuid[]) and closing", (array(intent_ids),))
    return frozenset(row[0] for row in rows)


def mark_closing(unit: Unit, intent_id: str) -> None:
    """Its orders pass a halt, as far as they make a position smaller."""
    unit.run("update intents set closing = true where id = %s", (intent_id,))


def lock(unit: Unit) -> None:
    """Wait until nobody acts on what the switches were, and let nobody read them until this transaction ends."""
    unit.run(_EXCLUSIVE)


def get(unit: Unit, key: Key) -> Switch | None:
    rows = unit.rows(f"select {_COLUMNS} from switches where scope = %s and subject = %s", (key.scope, key.subject))  # noqa: S608
    return _switch(rows[0]) if rows else None


def unfinished(unit: Unit, key: Key) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """What its last change wants done, and what was done of that; None where all of it was."""
    rows = unit.rows(
        "select wanted, followed from switches where scope = %s and subject = %s and carried_out_at is null for update",
        (key.scope, key.subject),
    )
    return rows[0] if rows else None


def write(unit: Unit, switch: Switch, wanted: Mapping[str, Any], followed: Mapping[str, Any]) -> None:
    """Write a switch down; `wanted` is what follows its change, and is not carried out yet, but for what is `followed`."""
    carried_out_at = None if any(wanted.values()) else switch.at
    unit.run(
        f"insert into switches ({_COLUMNS}, wanted, followed, carried_out_at)"  # noqa: S608
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s::json, %s::json, %s)"
        " on conflict (scope, subject) do update set mode = excluded.mode, version = excluded.version,"
        " reason = excluded.reason, by = excluded.by, by_operator = excluded.by_operator, at = excluded.at,"
        " wanted = excluded.wanted, followed = excluded.followed, carried_out_at = excluded.carried_out_at",
        (
            switch.scope,
            switch.subject,
            switch.mode,
            switch.version,
            switch.reason,
            switch.by,
            switch.by_operator,
            switch.at,
            dump(wanted),
            dump(followed),
            carried_out_at,
        ),
    )


def undone(unit: Unit) -> list[tuple[Switch, dict[str, Any], dict[str, Any]]]:
    """The switches whose last change isn't carried out yet, with what it wants done and what was; oldest first."""
    rows = unit.rows(
        f"select {_COLUMNS}, wanted, followed from switches where carried_out_at is null order by at limit 100"  # noqa: S608
    )
    return [(_switch(row[:-2]), row[-2], row[-1]) for row in rows]


def follow(unit: Unit, switch: Switch, followed: dict[str, list[Any]], at: datetime | None) -> bool:
    """Note what was done of what a change wants, with `at` all of it. False where the switch was changed since.

    What others have noted meanwhile stays, and is in `followed` then as well.
    """
    which = (switch.scope, switch.subject, switch.version)
    rows = unit.rows("select followed from switches where scope = %s and subject = %s and version = %s for update", which)
    if not rows:
        return False
    for step, noted in rows[0][0].items():
        ids = {one["intentId"] for one in noted} - {None}
        followed[step] = [*noted, *(one for one in followed.get(step, ()) if one["intentId"] not in ids and one not in noted)]
    unit.run(
        "update switches set followed = %s::json, carried_out_at = coalesce(carried_out_at, %s)"
        " where scope = %s and subject = %s and version = %s",
        (dump(followed), at, *which),
    )
    return True


def read_all(
    unit: Unit, *, user_id: str | None = None
) -> list[tuple[Switch, dict[str, Any], dict[str, Any], datetime | None]]:
    """Every switch that was ever changed, with what follows its last change; for a user, those that count for it."""
    rows = unit.rows(
        f"select {_COLUMNS}, wanted, followed, carried_out_at from switches where %s::text is null or scope = 'ALL'"  # noqa: S608
        " or (scope = 'USER' and subject = %s) or (scope = 'STRATEGY' and subject like %s || ':%%')"
        " or (scope = 'ACCOUNT' and subject in (select id from accounts where user_id = %s::uuid))"
        " order by scope, subject",
        (user_id, user_id, user_id, user_id),
    )
    return [(_switch(row[:-3]), row[-3], row[-2], row[-1]) for row in rows]


# Whom a switch is for: its orders, and its users.

_ORDERS = {
    Scope.ALL: "%(subject)s::text is not null",
    Scope.USER: "o.user_id = %(subject)s::uuid",
    Scope.ACCOUNT: "coalesce(o.account_id, o.wanted_account) = %(subject)s",
    Scope.STRATEGY: "o.user_id::text || ':' || o.strategy = %(subject)s",
}


def unsent(unit: Unit, key: Key, *, limit: int) -> list[tuple[str, str]]:
    """(user, order) of what was not sent yet and nobody cancels; but for orders that close positions."""
    which = (
        "c.kind = 'PLACE' and o.state in ('RECEIVED', 'HELD') and o.slices = 0 and not o.cancel_requested"
        f" and {_ORDERS[key.scope]} and not exists (select from intents i where i.id = o.intent_id and i.closing)"
    )
    of = "select o.user_id, o.id from commands c, lateral (select * from orders where id = c.order_id offset 0) o where"
    rows = unit.rows(
        f"{of} c.live and {which} union all {of} not c.live and c.done_at is null and {which} order by 1, 2 limit %(limit)s",
        {"subject": key.subject, "limit": limit},
    )
    return [(user_id, order_id) for user_id, order_id in rows]


# Whom nobody cancels, or only in its own time or turn, or not any more: a cancel of a switch's hurries these.
_KEPT_WAITING = """
(not o.cancel_requested
    or exists (select from commands c join changes h on h.order_id = c.order_id and h.seq = c.seq
        where c.order_id = o.id and c.seq > 0 and c.done_at is null and c.kind = 'CANCEL' and (c.state = 'STUCK'
            or h.wanted ->> 'urged_by' is null and (h.wanted ->> 'mode' = 'SOFT' or h.wanted ->> 'policy' = 'FAIL_FAST')))
    or o.slices > 0 and exists (select from orders p join commands c on c.order_id = p.id where p.parent_id = o.id
        and c.seq > 0 and c.done_at is null and c.kind = 'CANCEL' and c.state = 'STUCK'))
"""


def uncancelled(unit: Unit, key: Key, user_id: str, first_id: str, *, limit: int) -> list[str]:
    """The user's live orders from that id on that nobody cancels, or whose cancel is kept waiting; no slices, nothing that closes positions."""
    sql = f"select o.id from orders o where {_live(key)} and {_KEPT_WAITING} order by o.id limit %(limit)s"  # noqa: S608
    asked = {"user": user_id, "first": first_id, "subject": key.subject, "limit": limit}
    return [row[0] for row in unit.rows(sql, asked)]


_BUSY = """
select user_id from accounts where open_orders > 0
union select o.user_id from commands c join orders o on o.id = c.order_id where c.live and c.kind = 'PLACE'
union select o.user_id from commands c join orders o on o.id = c.order_id where not c.live and c.done_at is null and c.kind = 'PLACE'
"""


def users_with_live(
    unit: Unit, key: Key, user_ids: Sequence[str], first_id: str, *, uncancelled: bool
) -> list[str]:
    """Those of the users who have live orders from that id on, all of them or those that are still to be cancelled.

    Only of users whose accounts count open orders, or who have something in the stages, the orders are looked at.
    """
    rows = unit.rows(
        f"with busy as materialized ({_BUSY}) select b.user_id from busy b where b.user_id = any(%(users)s::uuid[])"  # noqa: S608
        f" and exists (select from orders o where {_live(key, 'b.user_id')} and (not %(uncancelled)s or {_KEPT_WAITING}))"
        " order by 1",
        {"users": array(user_ids), "first": first_id, "subject": key.subject, "uncancelled": uncancelled},
    )
    return [row[0] for row in rows]


def _live(key: Key, user: str = "%(user)s") -> str:
    return (
        f"o.user_id = {user} and o.id >= %(first)s::uuid and o.parent_id is null"
        " and o.state not in ('FILLED', 'CANCELLED', 'REJECTED', 'EXPIRED')"
        f" and {_ORDERS[key.scope]} and not exists (select from intents i where i.id = o.intent_id and i.closing)"
    )


def users_of(unit: Unit, key: Key) -> list[str]:
    """The users whose orders the switch is for: those with accounts."""
    match key.scope:
        case Scope.ALL:
            return [row[0] for row in unit.rows("select distinct user_id from accounts order by 1")]
        case Scope.ACCOUNT:
            return [row[0] for row in unit.rows("select user_id from accounts where id = %s", (key.subject,))]
        case Scope.USER | Scope.STRATEGY:
            return [key.subject.partition(":")[0]]


def _switch(row: tuple[Any, ...]) -> Switch:
    scope, subject, mode, version, reason, by, by_operator, at = row
    return Switch(
        scope=Scope(scope),
        subject=subject,
        mode=Mode(mode),
        version=version,
        reason=reason,
        by=by,
        by_operator=by_operator,
        at=at,
    )
