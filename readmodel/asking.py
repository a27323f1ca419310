"""How the record is asked: within a scope, and, where it is asked again and again, in plain SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows may be seen; without a user, everyone's."""

    user_id: str | None


def plain_rows(connection: Connection, sql: str, parameters: Sequence[object] | Mapping[str, object]) -> list[Any]:
    """Rows by the driver alone, each with its columns as attributes."""
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    return driver.cursor(row_factory=namedtuple_row).execute(sql, parameters).fetchall()
