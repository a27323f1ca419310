"""Settings: what an admin has changed, over the defaults."""

from __future__ import annotations

from typing import Any

from domain.settings import Settings
from store import setting_documents
from store.setting_documents import ADMIN
from store.unit import Unit


def read(unit: Unit) -> Settings:
    """The settings in force. A name that only a newer version knows is left alone: versions run side by side."""
    return Settings.model_validate(_changed(unit))


def change(unit: Unit, name: str, value: object, *, by: str) -> Settings:
    """Change one setting, checked by the model that all of them must satisfy.

    Raises pydantic's ValidationError where the name or the value won't do; nothing is stored then.
    """
    setting_documents.lock(unit, ADMIN)
    settings = Settings.model_validate(_changed(unit) | {name: value})
    setting_documents.save(unit, ADMIN, {name: settings.model_dump(mode="json")[name]}, by=by)
    return settings


def _changed(unit: Unit) -> dict[str, Any]:
    rows = unit.rows("select name, value from settings")
    return {name: value for name, value in rows if name in Settings.model_fields}
