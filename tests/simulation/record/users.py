"""Stands for `store/users.py`."""

from __future__ import annotations

from .unit import Unit


def lately_revoked(unit: Unit) -> frozenset[str]:
    unit.statement()
    return frozenset()
