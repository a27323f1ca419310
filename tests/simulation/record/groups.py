"""Stands for `store/groups.py`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from domain.commands import CommandState
from store.groups import STAGE

from .unit import Unit


def mark(unit: Unit, intent_ids: Collection[str], due_at: datetime, *, tries: int = 0) -> None:
    unit.statement()
    for intent_id in sorted(intent_ids):
        unit.record.numbers += 1
        unit.put("group_marks", unit.record.numbers, (intent_id, due_at, tries))


def is_any_overdue(unit: Unit, before: datetime) -> bool:
    unit.statement()
    if any(due_at <= before for _, (_, due_at, _) in unit.scan("group_marks")):
        return True
    return any(
        row.stage == STAGE and row.state is CommandState.HELD and row.due_at <= before
        for _, row in unit.scan("commands")
    )
