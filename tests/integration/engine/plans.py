"""Watches how PostgreSQL would do what our code asks of it: large tables are read by key, planned on an empty record.

A statement keeps the plan that it got when a process first used it, perhaps on the first day of a record. What reads a whole
table then, since that is small, does so when a million orders are stored.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from store.unit import _BY_KEY, Unit

HOUSE = Path(__file__).resolve().parents[3]
FLOORS = tuple(str(HOUSE / floor) for floor in ("store", "readmodel", "pipeline", "ingress", "ops"))
WHOLE = tuple(str(HOUSE / part) for part in ("store/verification.py", "store/reconciliations.py"))  # sum up all there is
LARGE = {"orders", "commands", "order_events", "attempts", "intents", "changes", "trades", "reports", "signals"}
# Partial indexes of what isn't over: they stay as small as that.
OPEN_WORK = (
    "commands_due|commands_suspect|commands_waiting|commands_stopped|commands_changing|commands_held|reports_\\w*due_at_idx"
)
_SCAN = re.compile(r"(?P<way>Seq Scan|Index (?:Only )?Scan)(?: Backward)?(?: using (?P<index>\S+))? on (?P<table>\w+)")


class Plans:
    """The statements that our code has run since the last look, and what was found bad in those."""

    def __init__(self) -> None:
        self._looked_at: set[str] = set()
        self._new: set[str] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note every statement that our own code, and no test, runs in a unit."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("rows", "run"):
                patch.setattr(Unit, name, self._noting(getattr(Unit, name)))
            yield

    def bad_ones(self, database_url: str) -> list[str]:
        """Of the new statements those that would read a large table otherwise than by key, each with its plan."""
        new, self._new = self._new - self._looked_at, set()
        self._looked_at |= new
        with psycopg.connect(database_url, autocommit=True, options=_BY_KEY) as connection:
            firsts = _first_columns(connection)
            return [bad for sql in sorted(new) if (bad := _whole_scans(connection, sql, firsts))]

    def _noting(self, of: Any) -> Any:
        def noted(unit: Unit, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Any:
            asked_by = sys._getframe(1).f_code.co_filename
            if asked_by.startswith(FLOORS) and not asked_by.startswith(WHOLE):
                self._new.add(sql)
            return of(unit, sql, parameters)

        return noted


def _first_columns(connection: psycopg.Connection) -> dict[str, str]:
    rows = connection.execute(
        "select indexrelid::regclass::text, pg_get_indexdef(indexrelid, 1, true) from pg_index"
        " where indrelid::regclass::text !~ '^pg_'"
    )
    return dict(rows.fetchall())


def _whole_scans(connection: psycopg.Connection, sql: str, firsts: dict[str, str]) -> str:
    if not re.match(r"\s*(select|insert|update|delete|with)\b", sql):
        return ""
    plan = [row[0] for row in connection.execute("explain (generic_plan) " + _numbered(sql))]
    found = []
    for number, line in enumerate(plan):
        scan = _SCAN.search(line)
        if scan is None or re.sub(r"_\d{6}$", "", scan["table"]) not in LARGE:
            continue
        index = scan["index"]
        below = next((after for after in plan[number + 1 :] if "Index Cond" in after or "->" in after), "")
        by_key = index is not None and f"({firsts[index]} " in below.partition("Index Cond: ")[2]
        if not by_key and not (index and re.fullmatch(OPEN_WORK, index)):
            found.append(line.strip())
    return "\n".join(["", " ".join(sql.split()), *found]) if found else ""


def _numbered(sql: str) -> str:
    """psycopg's placeholders as PostgreSQL's own."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        return f"${names.setdefault(found[1] or f'#{found.start()}', len(names) + 1)}"

    return re.sub(r"%(?:\((\w+)\))?s|%%", number, sql)
