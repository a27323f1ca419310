"""The audit log: who did what, appended and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from domain.ids import new_id
from store.json import dump
from store.unit import Unit


def write(unit: Unit, at: datetime, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
    unit.run(
        "insert into audit_log (id, at, actor, action, subject, detail) values (%s, %s, %s, %s, %s, %s::json)",
        (new_id(), at, actor, action, subject, dump(detail)),
    )
