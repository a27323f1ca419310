"""Settings by the names that people use: what each means, its unit, default and range; and changes, checked.

`idempotency_window_s` is `idempotencyWindowSec` outside, and what `domain/settings.LIMITS` names is under `limits`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from domain.errors import Fault, Malformed
from domain.settings import LIMITS, Settings, UserSettings

Document = type[Settings] | type[UserSettings]
GROUP, RESET = "limits", "reset"
UNITS = {"s": "seconds", "paise": "paise", "ppm": "parts per million", "days": "days"}
_CODES = {
    "int_type": "NOT_AN_INTEGER",
    "int_from_float": "NOT_AN_INTEGER",
    "bool_type": "NOT_A_BOOLEAN",
    "float_type": "NOT_A_NUMBER",
    "finite_number": "NOT_A_NUMBER",
    "string_type": "NOT_A_STRING",
    "tuple_type": "NOT_A_LIST",
    "dict_type": "NOT_AN_OBJECT",
    "literal_error": "NOT_ONE_OF",
    "greater_than": "TOO_SMALL",
    "greater_than_equal": "TOO_SMALL",
    "less_than_equal": "TOO_LARGE",
    "too_long": "TOO_MANY",
    "string_pattern_mismatch": "BAD_FORM",
    "string_too_short": "TOO_SHORT",
    "string_too_long": "TOO_LONG",
}


@dataclass(frozen=True, slots=True)
class Described:
    """One setting for its reader. `name` is as it is written outside, `limits.` included."""

    name: str
    field: str
    meaning: str
    unit: str
    default: Any
    range: str


@cache
def describe(document: Document) -> tuple[Described, ...]:
    """Every setting of a document, in its order."""
    return tuple(
        Described(
            name=".".join(_path(name)),
            field=name,
            meaning=(info.description or "").strip(),
            unit=_unit(name),
            default=info.get_default(call_default_factory=True, validated_data={}),
            range=_range(info),
        )
        for name, info in document.model_fields.items()
    )


@cache
def by_name(document: Document) -> Mapping[str, Described]:
    """Settings by every name that may be given: with its group, or without."""
    found = {one.name: one for one in describe(document)}
    return {one.name.rpartition(".")[2]: one for one in found.values()} | found


def to_outside(settings: Settings | UserSettings) -> dict[str, Any]:
    """All of them as a JSON document."""
    told: dict[str, Any] = {}
    for name, value in settings.model_dump(mode="json").items():
        *group, last = _path(name)
        (told.setdefault(group[0], {}) if group else told)[last] = value
    return told


@dataclass(frozen=True, slots=True)
class Changes:
    """What is asked: new values by field, and fields that go back to their defaults."""

    new: Mapping[str, Any] = field(default_factory=dict)
    reset: Sequence[str] = ()


def read_changes(document: Document, asked: Any) -> Changes:
    """Changes from a JSON document: settings by name, `limits` with its own, and `reset`, a list of names.

    Raises Malformed, with every name that there isn't.
    """
    if not isinstance(asked, dict):
        raise Malformed((Fault("", "NOT_AN_OBJECT", "must be an object"),))
    faults: list[Fault] = []
    new: dict[str, Any] = {}
    known = {_path(one.field): one.field for one in describe(document)}
    for path, value in _flat(document, asked, faults):
        if path in known:
            new[known[path]] = value
        else:
            faults.append(Fault(_pointer(path), "UNKNOWN_FIELD", "there is no such setting"))
    reset = _read_reset(document, asked.get(RESET, []), new, faults)
    if not new and not reset and not faults:
        faults.append(Fault("", "TOO_FEW", "nothing is asked to be changed"))
    if faults:
        raise Malformed(tuple(faults))
    return Changes(new, reset)


def changed(document: Document, stored: Mapping[str, Any], changes: Changes) -> Settings | UserSettings:
    """The document with the changes, as strict as JSON is. Raises Malformed with the place of each fault."""
    values = {name: value for name, value in stored.items() if name not in changes.reset} | dict(changes.new)
    try:
        return document.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise Malformed(tuple(map(_fault, error.errors(include_url=False, include_input=False)))) from None


def pointer_of(name: str, *rest: object) -> str:
    """The JSON pointer of a field, or of what is inside of it."""
    return _pointer((*_path(name), *rest))


def _flat(
    document: Document, asked: Mapping[str, Any], faults: list[Fault]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What is asked, each with the names that lead to it: a group stands as an object, never before a dot."""
    for name, value in asked.items():
        if name == RESET:
            continue
        if name == GROUP and document is Settings:
            if not isinstance(value, dict):
                faults.append(Fault(f"/{GROUP}", "NOT_AN_OBJECT", "must be an object"))
                continue
            for inner, one in value.items():
                yield (GROUP, inner), one
        else:
            yield (name,), value


def _read_reset(document: Document, given: Any, new: Mapping[str, Any], faults: list[Fault]) -> list[str]:
    if not isinstance(given, list):
        faults.append(Fault(f"/{RESET}", "NOT_A_LIST", "must be a list of names"))
        return []
    reset = []
    for number, name in enumerate(given):
        one = by_name(document).get(name) if isinstance(name, str) else None
        if one is None:
            faults.append(Fault(f"/{RESET}/{number}", "UNKNOWN_FIELD", "there is no such setting"))
        elif one.field in new or one.field in reset:
            faults.append(Fault(f"/{RESET}/{number}", "REPEATED", "it is given a value, or named, already"))
        else:
            reset.append(one.field)
    return reset


def _fault(error: ErrorDetails) -> Fault:
    name, *rest = error["loc"]
    message = error["msg"]
    return Fault(
        pointer_of(str(name), *(part for part in rest if part != "[key]")),
        _CODES.get(error["type"], "BAD_VALUE"),
        message[:1].lower() + message[1:],
    )


def _pointer(path: Iterable[object]) -> str:
    return "".join("/" + str(part)[:64].replace("~", "~0").replace("/", "~1") for part in path)


@cache
def _path(name: str) -> tuple[str, ...]:
    """A field's names outside, from the outermost."""
    first, *rest = ["sec" if part == "s" else part for part in name.split("_")]
    outside = first + "".join(part.capitalize() for part in rest)
    return (GROUP, outside) if name in LIMITS else (outside,)


def _unit(name: str) -> str:
    return UNITS.get(name.rpartition("_")[2], "")


def _range(info: FieldInfo) -> str:
    """Such as "1 to 500", "above 0, up to 300", "true, false", "WRITES, ALL", "a list of texts"."""
    kind = info.annotation
    options = [one for one in get_args(kind) if one is not type(None)] if get_origin(kind) is not Literal else [kind]
    is_optional = type(None) in get_args(kind)
    if get_origin(kind) is Literal:
        told = ", ".join(str(word) for word in get_args(kind))
    elif kind is bool:
        told = "true, false"
    elif get_origin(kind) is tuple:
        told = "a list of texts"
    elif get_origin(kind) is dict:
        told = "an object: " + _key_words(get_args(kind)[0])
    else:
        told = _numbers(info) or ("a text" if options and kind is not int else "")
    return f"{told}; null for none" if is_optional else told


def _key_words(key: Any) -> str:
    if get_origin(key) is Literal:
        return "by " + ", ".join(str(word) for word in get_args(key))
    return "by name"


def _numbers(info: FieldInfo) -> str:
    bounds = {name: getattr(one, name) for one in info.metadata for name in ("ge", "gt", "le") if hasattr(one, name)}
    if {"ge", "le"} <= bounds.keys():
        return f"{bounds['ge']:,} to {bounds['le']:,}"
    return f"above {bounds['gt']:,}, up to {bounds['le']:,}" if {"gt", "le"} <= bounds.keys() else ""
