"""User settings: what users have chosen, over the defaults."""

from __future__ import annotations

from domain.settings import UserSettings
from store.json import dump
from store.unit import Unit


def read_all(unit: Unit) -> dict[str, UserSettings]:
    """By user id, of those who have changed anything. A name that only a newer version knows is left alone."""
    chosen: dict[str, dict[str, object]] = {}
    for user_id, name, value in unit.rows("select user_id, name, value from user_settings"):
        if name in UserSettings.model_fields:
            chosen.setdefault(user_id, {})[name] = value
    return {user_id: UserSettings.model_validate(values) for user_id, values in chosen.items()}


def change(unit: Unit, user_id: str, name: str, value: object, *, by: str) -> UserSettings:
    """Change one of a user's settings. Raises pydantic's ValidationError where name or value won't do."""
    settings = UserSettings.model_validate(read_all(unit).get(user_id, UserSettings()).model_dump() | {name: value})
    unit.run(
        "insert into user_settings (user_id, name, value, updated_by) values (%s, %s, %s::jsonb, %s)"
        " on conflict (user_id, name) do update set value = excluded.value, version = user_settings.version + 1,"
        " updated_at = now(), updated_by = excluded.updated_by",
        (user_id, name, dump(settings.model_dump(mode="json")[name]), by),
    )
    return settings
