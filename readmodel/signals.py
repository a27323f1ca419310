"""Signal strategies and what was received by them, for the user who defined them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection

from readmodel.asking import plain_rows
from readmodel.pages import id_cursor
from readmodel.views import View, moment_text

_STRATEGY = """
select s.id, s.name, s.form, s.version, s.created_at, s.updated_at, u.name as owner
from signal_strategies s join users u on u.id = s.user_id where s.user_id = %s
"""
_RECEIVED = """
select g.* from signals g join signal_strategies s on s.id = g.strategy_id
where s.user_id = %s and s.name = %s and (%s::uuid is null or g.id < %s) order by g.id desc limit %s
"""


def strategies(connection: Connection, user_id: str) -> list[View]:
    return [_view(row) for row in plain_rows(connection, f"{_STRATEGY} order by s.name", (user_id,))]


def strategy(connection: Connection, user_id: str, name: str) -> View | None:
    found = plain_rows(connection, f"{_STRATEGY} and s.name = %s", (user_id, name))
    return _view(found[0]) if found else None


def received(
    connection: Connection, user_id: str, name: str, *, limit: int, after: str | None
) -> tuple[list[View], str | None]:
    """A page of deliveries, newest first, and the cursor of the next one."""
    rows = plain_rows(connection, _RECEIVED, (user_id, name, after, after, limit + 1))
    shown = rows[:limit]
    return [_delivery(row) for row in shown], id_cursor(shown[-1].id) if len(rows) > limit else None


def _view(row: Any) -> View:
    form = row.form
    return {
        "name": row.name,
        "path": f"/signals/{quote(row.owner, safe='')}/{quote(row.name, safe='')}",
        "enabled": form.get("enabled", True),
        "windowSec": form.get("windowSec", 60),
        "broker": form.get("broker"),
        "account": form.get("account"),
        "strategy": form.get("strategy", row.name),
        "maxUnsentSec": form.get("maxUnsentSec"),
        "template": form["template"],
        "version": row.version,
        "createdAt": moment_text(row.created_at),
        "updatedAt": moment_text(row.updated_at),
    }


def _delivery(row: Any) -> View:
    return {
        "signalId": row.id,
        "at": moment_text(row.at),
        "status": row.status,
        "intentId": row.intent_id,
        "nonce": row.nonce,
        "order": row.wanted,
        "reason": {"code": row.reason_code, "text": row.reason} if row.reason_code is not None else None,
    }
