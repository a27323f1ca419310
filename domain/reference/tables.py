"""Reads the reference tables that lie beside this file."""

from __future__ import annotations

import csv
from pathlib import Path

FOLDER = Path(__file__).parent


def read(table: str) -> list[dict[str, str]]:
    """The rows of one table, as text by column name."""
    with (FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
