"""Stands for `store/users.py`."""

from __future__ import annotations

from datetime import datetime

from .unit import Unit


def lately_revoked(unit: Unit) -> dict[str, datetime]:
    unit.statement()
    return {}
