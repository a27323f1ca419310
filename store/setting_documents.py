"""Documents of settings: the admins' and each user's, by owner; what was changed of them, over the defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.json import dump
from store.unit import Unit

ADMIN = "admin"  # the owner of the settings for all; a user's document is its id's


@dataclass(frozen=True, slots=True)
class Stored:
    """One setting that isn't its default."""

    value: Any
    by: str
    at: datetime


def version(unit: Unit, owner: str) -> int:
    """How often the document was changed."""
    rows = unit.rows("select version from setting_documents where owner = %s", (owner,))
    return int(rows[0][0]) if rows else 0


def lock(unit: Unit, owner: str) -> int:
    """Its version, locked: two who change one document do so one after the other."""
    unit.run("insert into setting_documents (owner, version) values (%s, 0) on conflict do nothing", (owner,))
    return int(unit.rows("select version from setting_documents where owner = %s for update", (owner,))[0][0])


def stored(unit: Unit, owner: str) -> dict[str, Stored]:
    """What isn't its default, by the name of its field."""
    if owner == ADMIN:
        rows = unit.rows("select name, value, updated_by, updated_at from settings")
    else:
        rows = unit.rows("select name, value, updated_by, updated_at from user_settings where user_id = %s", (owner,))
    return {name: Stored(value, by, at) for name, value, by, at in rows}


def save(unit: Unit, owner: str, new: Mapping[str, Any], reset: Iterable[str] = (), *, by: str) -> int:
    """Write new values (as JSON has them), take back others; gives the document's new version. In the lock's transaction."""
    for name, value in new.items():
        if owner == ADMIN:
            unit.run(
                "insert into settings (name, value, updated_by) values (%s, %s::jsonb, %s) on conflict (name) do update"
                " set value = excluded.value, version = settings.version + 1, updated_at = now(),"
                " updated_by = excluded.updated_by",
                (name, dump(value), by),
            )
        else:
            unit.run(
                "insert into user_settings (user_id, name, value, updated_by) values (%s, %s, %s::jsonb, %s)"
                " on conflict (user_id, name) do update set value = excluded.value,"
                " version = user_settings.version + 1, updated_at = now(), updated_by = excluded.updated_by",
                (owner, name, dump(value), by),
            )
    names = list(reset)
    if names and owner == ADMIN:
        unit.run("delete from settings where name = any(%s)", (names,))
    elif names:
        unit.run("delete from user_settings where user_id = %s and name = any(%s)", (owner, names))
    unit.run("update setting_documents set version = version + 1 where owner = %s", (owner,))
    return version(unit, owner)
