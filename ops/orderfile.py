"""A file of orders as a person wrote it, and the way back from a fault to its line."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from json.decoder import WHITESPACE, JSONDecoder  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from ops.answers import Json
from ops.exits import Exit, Failed

STDIN = "/dev/stdin"
FORM = (
    'A file of orders looks like {"orders": [{"instrument": "NSE:INFY", "side": "BUY", …}]}; see examples/orders.json.'
)


@dataclass(frozen=True, slots=True)
class OrderFile:
    """The request in it, and its text for finding faults again."""

    name: str  # as the user named it
    text: str
    request: Json

    @property
    def lines(self) -> list[Json]:
        return [line if isinstance(line, dict) else {} for line in self.request["orders"]]

    def place_of(self, pointer: str) -> str:
        """A JSON pointer in words that lead there: "orders.json:14 line 2 (leg-2) quantity"."""
        tokens = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
        words = [f"{self.name}:{self._row(tokens)}"]
        if len(tokens) >= 2 and tokens[0] == "orders" and tokens[1].isdigit():
            number = int(tokens[1])
            words.append(line_label(number, self.lines[number] if number < len(self.lines) else {}))
            tokens = tokens[2:]
        return " ".join([*words, ".".join(tokens)]).strip()

    def _row(self, tokens: Sequence[str]) -> int:
        """The file's row where the pointed-at value stands, or the nearest thing around it."""
        within = tokens[1:] if self.text.lstrip()[:1] == "[" and tokens[:1] == ["orders"] else tokens
        return self.text.count("\n", 0, _position(self.text, 0, within)) + 1


def line_label(number: int, line: Json) -> str:
    """ "line 2 (leg-2)": lines are counted from 1 for people, from 0 on the wire."""
    correlation = line.get("correlationId")
    return f"line {number + 1} ({correlation})" if correlation else f"line {number + 1}"


def read_orders(path: Path) -> OrderFile:
    """The orders in a file, or on standard input.

    A bare list is taken as the orders; an editor's `$schema` is left out. Numbers with a point become the decimal
    strings they were written as, so no price passes through a float.

    Raises:
        Failed: there is no such file, or it isn't JSON of that form.
    """
    name, text, document = _read(path, FORM)
    if isinstance(document, list):
        document = {"orders": document}
    if not isinstance(document, dict) or not isinstance(document.get("orders"), list):
        raise Failed(Exit.USAGE, f'{name} has no list "orders"', mend=FORM)
    document.pop("$schema", None)
    return OrderFile(name, text, document)


def read_form(path: Path, mend: str) -> OrderFile:
    """A file with one JSON object, or standard input; `mend` says what it looks like. Raises Failed."""
    name, text, document = _read(path, mend)
    if not isinstance(document, dict):
        raise Failed(Exit.USAGE, f"{name} is no JSON object", mend=mend)
    document.pop("$schema", None)
    return OrderFile(name, text, document)


def _read(path: Path, mend: str) -> tuple[str, str, Any]:
    """The file's name for its user, its text and its JSON."""
    is_stdin = str(path) == STDIN
    name = "-" if is_stdin else str(path)
    try:
        text = sys.stdin.read() if is_stdin else path.read_text("utf-8-sig")
    except OSError as error:
        raise Failed(Exit.USAGE, f"{name} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Failed(Exit.USAGE, f"{name} isn't UTF-8 text") from error
    try:
        return name, text, json.loads(text, parse_float=str, parse_constant=_refuse, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise Failed(Exit.USAGE, f"{name}:{error.lineno}:{error.colno}: {error.msg}", mend=mend) from error
    except ValueError as error:
        raise Failed(Exit.USAGE, f"{name}: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A name given twice is a mistake that would silently drop one of two quantities."""
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'"{twice}" is given twice in one object')
    return document


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number that an order can have")


def _position(text: str, start: int, tokens: Sequence[str]) -> int:
    """Where the value stands that `tokens` lead to from `start`; its container, when it isn't there."""
    start = _skip(text, start)
    if not tokens or text[start : start + 1] not in ("{", "["):
        return start
    decoder = JSONDecoder()
    is_object = text[start] == "{"
    at, index = _skip(text, start + 1), 0
    while text[at : at + 1] not in ("}", "]", ""):
        name = str(index)
        if is_object:
            name, at = decoder.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # over the colon
        if name == tokens[0]:
            return _position(text, at, tokens[1:])
        at = _skip(text, decoder.raw_decode(text, at)[1])
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        index += 1
    return start


def _skip(text: str, at: int) -> int:
    found = WHITESPACE.match(text, at)
    return int(found.end()) if found else at
