"""Switches: read and changed so that whoever sends has seen the newest, or is done before the change is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from domain.switches import Key, Mode, Scope, Switch
from store.json import dump
from store.unit import Unit, array, text_array

_COLUMNS = "scope, subject, mode, version, reason, by, by_operator, at"
_LOCK = "7302, 1"  # an advisory lock: shared by who acts on switches, exclusive to who changes one
_SHARED, _EXCLUSIVE = f"select pg_advisory_xact_lock_shared({_LOCK})", f"select pg_advisory_xact_lock({_LOCK})"


def in_force(unit: Unit, keys: Collection[Key]) -> dict[Key, Switch]:
    """Those of the switches that aren't ACTIVE, as they stand until this transaction ends: a change waits for it.

    To be called before accounts are locked: who has them must not wait for a change that waits for others.
    """
    with unit.together():
        unit.run(_SHARED)
        rows = unit.rows(
            f"select {_COLUMNS} from switches where mode <> 'ACTIVE' and subject = any(%s)",  # noqa: S608
            (text_array(sorted({key.subject for key in keys})),),
        )
    found = {switch.key: switch for switch in map(_switch, rows)}
    return {key: switch for key, switch in found.items() if key in keys}


def closing_intents(unit: Unit, intent_ids: Sequence[str]) -> frozenset[str]:
    """Those of the intents that were made to close positions."""
    rows = unit.rows("select id from intents where id = any(%s::uuid[]) and closing", (array(intent_ids),))
    return frozenset(row[0] for row in rows)


def lock(unit: Unit) -> None:
    """Wait until nobody acts on what the switches were, and let nobody read them until this transaction ends."""
    unit.run(_EXCLUSIVE)


def get(unit: Unit, key: Key) -> Switch | None:
    rows = unit.rows(f"select {_COLUMNS} from switches where scope = %s and subject = %s", (key.scope, key.subject))  # noqa: S608
    return _switch(rows[0]) if rows else None


def write(unit: Unit, switch: Switch, wanted: Mapping[str, Any]) -> None:
    """Write a switch down; `wanted` is what its change wants done, and is not carried out yet."""
    unit.run(
        f"insert into switches ({_COLUMNS}, wanted) values (%s, %s, %s, %s, %s, %s, %s, %s, %s::json)"  # noqa: S608
        " on conflict (scope, subject) do update set mode = excluded.mode, version = excluded.version,"
        " reason = excluded.reason, by = excluded.by, by_operator = excluded.by_operator, at = excluded.at,"
        " wanted = excluded.wanted, followed = '{}', carried_out_at = null",
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
        ),
    )


def undone(unit: Unit) -> list[tuple[Switch, dict[str, Any], dict[str, Any]]]:
    """The switches whose last change isn't carried out yet, with what it wants done and what was; oldest first."""
    rows = unit.rows(
        f"select {_COLUMNS}, wanted, followed from switches where carried_out_at is null order by at limit 100"  # noqa: S608
    )
    return [(_switch(row[:-2]), row[-2], row[-1]) for row in rows]


def follow(unit: Unit, switch: Switch, followed: Mapping[str, Any], at: datetime | None) -> bool:
    """Note what was done of what a change wants, with `at` all of it. False where the switch was changed since."""
    changed = unit.run(
        "update switches set followed = %s::json, carried_out_at = %s where scope = %s and subject = %s and version = %s",
        (dump(followed), at, switch.scope, switch.subject, switch.version),
    )
    return changed == 1


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
