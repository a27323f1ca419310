"""What can be asked of the door: each operation with its path, its roles, its parameters and its answers.

The table that `@op` fills is what the routes are made of and what openapi.json is written from, so that neither can
say what the other does not do. An operation that names no role is closed to everyone.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from ingress.door import Door
from ingress.problems import bad_parameter
from ingress.wire import Reply, Request
from store.users import ApiKey, Role

EVERY_ROLE = frozenset(Role)
READS_ALL = frozenset({Role.AUDITOR, Role.OPERATOR, Role.ADMIN})
OPERATES = frozenset({Role.OPERATOR, Role.ADMIN})
PLACES = frozenset({Role.TRADER, Role.ADMIN})

KEY_PROBLEMS = ("IDEMPOTENCY_KEY_MISSING", "IDEMPOTENCY_KEY_INVALID", "IDEMPOTENCY_KEY_REUSED")
INTENT_KEY_PROBLEMS = (*KEY_PROBLEMS, "IDEMPOTENCY_KEY_SPENT")
REPLAYED_HEADER = {"Idempotency-Replayed": "true: this key was used before."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One query or header parameter: its schema for the reader, its `read` for the request (ValueError: why not)."""

    name: str
    schema: Mapping[str, Any]
    description: str
    read: Callable[[str], Any]
    where: str = "query"
    required: bool = False
    default: Any = None
    example: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    description: str
    model: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None  # of an answer that is no JSON


@dataclass(slots=True)
class Call:
    """One request under way: who asks, and with which parameters. Public operations have no caller."""

    request: Request
    caller: ApiKey | None
    path: Mapping[str, str]
    query: Mapping[str, Any]

    @property
    def key(self) -> ApiKey:
        if self.caller is None:
            raise TypeError("a public operation has no caller")
        return self.caller


Handler = Callable[[Door, Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    name: str
    method: str
    path: str
    summary: str
    description: str
    tag: str
    roles: frozenset[Role] | None  # None: public, no key needed
    parameters: tuple[Parameter, ...]
    body: type[BaseModel] | None
    body_example: Any
    answers: Mapping[int, Answer]
    problems: tuple[str, ...]  # codes, beside those that every operation of its kind can give
    handle: Handler


def op(
    method: str,
    path: str,
    *,
    tag: str,
    answers: Mapping[int, Answer],
    roles: frozenset[Role] | None = frozenset(),
    parameters: tuple[Parameter, ...] = (),
    body: type[BaseModel] | None = None,
    body_example: Any = None,
    problems: tuple[str, ...] = (),
) -> Callable[[Handler], Operation]:
    """Make a handler an operation; its docstring's first line is the summary."""

    def declare(handle: Handler) -> Operation:
        summary, _, description = (handle.__doc__ or "").strip().partition("\n")
        return Operation(
            name=handle.__name__,
            method=method,
            path=path,
            summary=summary.rstrip("."),
            description=re.sub(r"\n[ ]+", "\n", description).strip(),
            tag=tag,
            roles=roles,
            parameters=parameters,
            body=body,
            body_example=body_example,
            answers=answers,
            problems=problems,
            handle=handle,
        )

    return declare


def read_query(operation: Operation, request: Request) -> Mapping[str, Any]:
    """The query parameters by name. Raises Problem naming the one that is unknown, repeated or makes no sense."""
    declared = {parameter.name: parameter for parameter in operation.parameters if parameter.where == "query"}
    values = {name: parameter.default for name, parameter in declared.items()}
    for name, given in request.params.items():
        parameter = declared.get(name)
        if parameter is None:
            shown = name[:64] if name.isascii() and name.isprintable() else "that name"
            raise bad_parameter(shown, "there is no such parameter here", code="UNKNOWN_PARAMETER")
        if not isinstance(given, str):
            raise bad_parameter(name, "it may be given once")
        try:
            values[name] = parameter.read(given)
        except ValueError as error:
            raise bad_parameter(name, str(error)) from None
    return values


def whole_number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
            raise ValueError(f"a whole number from {least} to {most} is wanted")
        return int(text)

    return read


def one_of(words: frozenset[str]) -> Callable[[str], tuple[str, ...]]:
    """One or more of these words, with commas between."""
    listed = ", ".join(sorted(words))

    def read(text: str) -> tuple[str, ...]:
        given = tuple(text.split(","))
        if not words.issuperset(given):
            raise ValueError(f"one or more of {listed} are wanted, with commas between")
        return given

    return read


def matching(pattern: str, wanted: str) -> Callable[[str], str]:
    form = re.compile(pattern)

    def read(text: str) -> str:
        if not form.fullmatch(text):
            raise ValueError(wanted)
        return text

    return read


def true_or_false(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("true or false is wanted")
    return text == "true"


_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise ValueError("an id of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx is wanted")
    return str(UUID(text))
