"""JSON for columns: decimals and enums as text, never as floats."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson


def dump(value: object) -> str:
    return orjson.dumps(value, default=_plain).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if hasattr(value, "paise"):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")
