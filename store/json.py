"""Values for columns: JSON with decimals and enums as text, never as floats, and text that the database takes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

_NUL, _BLANK = "\x00", " "


def dump(value: object) -> str:
    """As JSON. What no database takes, a NUL or half a character, becomes a blank in all its texts."""
    try:
        text = orjson.dumps(value, default=_plain).decode()
    except TypeError:
        text = orjson.dumps(_storable(value), default=_plain).decode()  # half a character, or no JSON at all
    return orjson.dumps(_storable(value), default=_plain).decode() if "\\u0000" in text else text


def storable(text: str) -> str:
    """The text with a blank for each NUL and each half of a character (a lone surrogate)."""
    if _NUL in text:
        text = text.replace(_NUL, _BLANK)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "".join(_BLANK if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(name)): _storable(of) for name, of in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_storable(of) for of in value]
    return value


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
