"""Stands for `store/switches.py`: nobody turns a switch here."""

from __future__ import annotations

from collections.abc import Collection

from domain.switches import Key, Switch

from .unit import Unit


def in_force(unit: Unit, keys: Collection[Key]) -> dict[Key, Switch]:
    unit.statement()
    return {}
