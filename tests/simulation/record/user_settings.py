"""Stands for `store/user_settings.py`."""

from __future__ import annotations

from domain.settings import UserSettings

from .unit import Unit


def read_all(unit: Unit) -> dict[str, UserSettings]:
    unit.statement()
    return {}
