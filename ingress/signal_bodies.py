"""A signal's body as fields, whatever its Content-Type says: charting programs send JSON, forms, or text that is one of these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from ingress.problems import Problem

FIELDS_MAX = 200
_WANTED = "a JSON object, or a form such as ticker=INFY&action=buy, is wanted"


def fields_of(body: bytes) -> Mapping[str, Any]:
    """The body's fields; numbers with a point as Decimal.

    Raises Problem: it is neither JSON nor a form, or names a field twice. No word of the body is repeated.
    """
    try:
        text = body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Problem("MALFORMED_JSON", f"the body is no UTF-8 text; {_WANTED}") from None
    if text.startswith(("{", "[", '"')):
        return _json_fields(text)
    return _form_fields(text)


def _json_fields(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text, parse_float=_number, parse_constant=_refuse, object_pairs_hook=_unique)
    except RecursionError:
        raise Problem("MALFORMED_JSON", "the body's objects are nested too deeply") from None
    except ValueError as error:
        where = f" at line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise Problem("MALFORMED_JSON", f"the body is no JSON{where}") from None
    if not isinstance(document, dict):
        raise Problem("MALFORMED_JSON", _WANTED)
    return document


def _form_fields(text: str) -> Mapping[str, Any]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        raise Problem("MALFORMED_JSON", f"the body is neither JSON nor a form; {_WANTED}") from None
    return _unique(pairs)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise Problem("DUPLICATE_FIELD", "the body has the same field twice; which of the two counts is unclear")
    return fields


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("a number beyond all measure") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError("no JSON")
