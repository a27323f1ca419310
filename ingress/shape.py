"""A place request from its bytes: its shape checked, its faults told field by field, its fingerprint taken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from domain.errors import Fault, Malformed
from domain.groups import find_after_faults
from domain.intents import OrderLine, PlaceRequest
from ingress.problems import Problem

_Form = TypeVar("_Form")
FAULTS_MAX = 50  # told of one request; a client that has more mends these first

_PLACE = TypeAdapter(PlaceRequest)
_DECIMALS = {"price": "price", "triggerPrice": "trigger_price", "marketProtection": "market_protection"}
_CODES = {
    "missing": "REQUIRED",
    "extra_forbidden": "UNKNOWN_FIELD",
    "enum": "NOT_ONE_OF",
    "string_pattern_mismatch": "BAD_FORM",
    "string_too_short": "TOO_SHORT",
    "string_too_long": "TOO_LONG",
    "string_type": "NOT_A_STRING",
    "int_type": "NOT_AN_INTEGER",
    "int_from_float": "NOT_AN_INTEGER",
    "int_parsing_size": "TOO_LARGE",
    "plain_decimal": "NOT_A_DECIMAL",
    "decimal_max_digits": "TOO_LARGE",
    "decimal_whole_digits": "TOO_LARGE",
    "decimal_max_places": "TOO_PRECISE",
    "less_than_equal": "TOO_LARGE",
    "greater_than_equal": "TOO_SMALL",
    "greater_than": "NOT_POSITIVE",
    "too_short": "TOO_FEW",
    "too_long": "TOO_MANY",
    "nothing_to_change": "NOTHING_TO_CHANGE",
    "tuple_type": "NOT_A_LIST",
    "model_type": "NOT_AN_OBJECT",
    "model_attributes_type": "NOT_AN_OBJECT",
}
_DETAILS = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length}",
    "tuple_type": "must be a list",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_type": "must be a text in quotes",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "decimal_max_digits": "must have at most {max_digits} digits",
    "decimal_max_places": "must have at most {decimal_places} decimals",
    "decimal_whole_digits": "must have at most {whole_digits} digits before the point",
    "int_parsing_size": "is too large",
    "extra_forbidden": "there is no such field here",
    "missing": "this field is required",
    "string_pattern_mismatch": "these characters, or this arrangement of them, are not allowed here",
}


def read_place_request(body: bytes, *, lines_max: int) -> tuple[PlaceRequest, bytes]:
    """The request and its canonical JSON: keys sorted, decimals in one spelling, nothing added.

    Raises:
        Problem: the body is no JSON document, or names a field twice in one object.
        Malformed: its shape is wrong; each fault with its place.
    """
    try:
        request = _PLACE.validate_json(body, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_input=False)) from None
    lines = request.orders
    if len(lines) > lines_max:
        fault = Fault(f"/orders/{lines_max}", "TOO_MANY", f"one request takes at most {lines_max} lines")
        raise Malformed((fault,))
    if len({line.correlation_id for line in lines}) < len(lines):
        raise Malformed(tuple(_repeated(lines)))
    if any(line.after is not None for line in lines):
        _refuse_wrong_legs(lines)
    canonical = _canonical(body, request)
    # Every field has one colon; where both texts hold the same number, no field was given twice. Escapes could hide one.
    if body.count(b":") != canonical.count(b":") or b"\\" in body:
        _refuse_duplicates(body)
    return request, canonical


def read_form(body: bytes, form: TypeAdapter[_Form]) -> tuple[_Form, bytes]:
    """A body of any form and its canonical JSON. Raises as `read_place_request`."""
    try:
        asked = form.validate_json(body, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_input=False)) from None
    _refuse_duplicates(body)
    return asked, _in_order(form.dump_python(asked, mode="json", by_alias=True))


def read_change(body: bytes, form: TypeAdapter[_Form]) -> tuple[_Form, bytes]:
    """A modify or a cancel, and what was named in it as canonical JSON. Raises as `read_place_request`."""
    try:
        asked = form.validate_json(body, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_input=False)) from None
    _refuse_duplicates(body)
    named = form.dump_python(asked, by_alias=True, exclude_none=True)
    return asked, orjson.dumps(named, option=orjson.OPT_SORT_KEYS, default=_plain)


def fingerprint(method: str, path: str, canonical: bytes, *, version: int | None = None) -> bytes:
    """Of a request; with the version of its If-Match, where it has one."""
    head = f"{method} {path}\n" if version is None else f"{method} {path}\nIf-Match: {version}\n"
    return hashlib.sha256(head.encode() + canonical).digest()


def _canonical(body: bytes, request: PlaceRequest) -> bytes:
    document: dict[str, Any] = orjson.loads(body)
    for line, fields in zip(request.orders, document["orders"], strict=True):
        for name, attribute in _DECIMALS.items():
            if fields.get(name) is not None:
                fields[name] = _plain(getattr(line, attribute))
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _in_order(document: Any) -> bytes:
    """A document as JSON with its keys sorted; where no form has bounded them, with numbers of any length, too."""
    try:
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a whole number beyond 64 bits
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _repeated(lines: Iterable[OrderLine]) -> Iterable[Fault]:
    first_use: dict[str, int] = {}
    for number, line in enumerate(lines):
        first = first_use.setdefault(line.correlation_id, number)
        if first != number:
            yield Fault(f"/orders/{number}/correlationId", "REPEATED", f"line {first} has this correlationId already")


def _refuse_wrong_legs(lines: Iterable[OrderLine]) -> None:
    """Each line comes after one that stands before it, or after none."""
    faults = tuple(
        Fault(f"/orders/{number}/after", code, words)
        for number, code, words in find_after_faults([(line.correlation_id, line.after) for line in lines])
    )
    if faults:
        raise Malformed(faults[:FAULTS_MAX])


def _refuse_duplicates(body: bytes) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in pairs}) < len(pairs):
            raise Problem("DUPLICATE_FIELD", "an object has the same field twice; which of the two counts is unclear")

    json.loads(body, object_pairs_hook=unique)


def _refusal(found: list[ErrorDetails]) -> Exception:
    if found[0]["type"] == "json_invalid":
        return Problem("MALFORMED_JSON", str(found[0].get("ctx", {}).get("error", found[0]["msg"])))
    # A list whose lines all failed is told to be too short as well; the lines' own faults say it better.
    own = [error for error in found if error["type"] != "too_short"]
    return Malformed(tuple(_fault(error) for error in (own or found)[:FAULTS_MAX]))


def _fault(error: ErrorDetails) -> Fault:
    kind = error["type"]
    code = _CODES.get(kind, "BAD_VALUE")
    if kind == "greater_than" and error.get("ctx", {}).get("gt") != 0:
        code = "TOO_SMALL"
    if kind in _DETAILS:
        detail = _DETAILS[kind].format_map(error.get("ctx", {}))
    else:
        detail = error["msg"][:1].lower() + error["msg"][1:]
    return Fault(_pointer(error["loc"]), code, detail)


def _pointer(place: tuple[str | int, ...]) -> str:
    """A JSON pointer; a name that the client made up is cut short."""
    return "".join("/" + str(part)[:64].replace("~", "~0").replace("/", "~1") for part in place)
