"""Stands for `store/cancels.py`: who asks for a cancel here only marks the order, so that none has a command."""

from __future__ import annotations

from collections.abc import Sequence

from store.cancels import UnderWay

from .unit import Unit


def under_way(unit: Unit, order_ids: Sequence[str]) -> dict[str, UnderWay]:
    unit.statement()
    return {}
