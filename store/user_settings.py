"""User settings: what users have chosen, over the defaults."""

from __future__ import annotations

from domain.settings import UserSettings
from store import setting_documents
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
    setting_documents.lock(unit, user_id)
    settings = UserSettings.model_validate(read_all(unit).get(user_id, UserSettings()).model_dump() | {name: value})
    setting_documents.save(unit, user_id, {name: settings.model_dump(mode="json")[name]}, by=by)
    return settings
