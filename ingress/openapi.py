"""openapi.json, written from the operations themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from ingress.answers import ProblemView
from ingress.operations import Operation, Parameter
from ingress.problems import CODES, CONTENT_TYPE, type_of
from ingress.wire import BODY_MAX, JSON

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_WITH_KEY = ("NOT_AUTHENTICATED", "NOT_ALLOWED", "RATE_LIMITED", "STORE_UNAVAILABLE", "OVERLOADED")
_WITH_BODY = ("MALFORMED_JSON", "DUPLICATE_FIELD", "MALFORMED", "BODY_TOO_LARGE", "NOT_JSON", "BAD_REQUEST")
_ALWAYS = ("UNKNOWN_PARAMETER",)
_DESCRIPTION = f"""\
Places orders exactly once at several Indian stockbrokers, and says truthfully what became of them.

Amounts and prices are decimal strings, quantities are integers, times are UTC (RFC 3339, microseconds, `Z`). A body has
at most {BODY_MAX} bytes. Every answer carries `X-Request-Id`: yours, or one of ours. Errors are
`application/problem+json` (RFC 9457) with a stable `code`.
"""
_REQUEST_ID = {"description": "The client's X-Request-Id, or one of ours.", "schema": {"type": "string"}}
_RETRY_AFTER = {"description": "Seconds to wait.", "schema": {"type": "integer"}}


def document(operations: Sequence[Operation], version: str) -> Json:
    """The whole interface, OpenAPI 3.1."""
    names, schemas = _schemas(operations)
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, names)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Order coordinator", "version": version, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "security": [{"apiKey": []}],
        "components": {
            "schemas": schemas,
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "description": "An API key: oc_…"}},
        },
    }


def _schemas(operations: Sequence[Operation]) -> tuple[Mapping[type[BaseModel], str], Json]:
    """The component name of each model, and the components."""
    wanted: dict[type[BaseModel], JsonSchemaMode] = {ProblemView: "serialization"}
    for operation in operations:
        if operation.body is not None:
            wanted[operation.body] = "validation"
        for answer in operation.answers.values():
            if answer.model is not None:
                wanted[answer.model] = "serialization"
    refs, definitions = models_json_schema(list(wanted.items()), by_alias=True, ref_template=_REF)
    schemas: Json = definitions["$defs"]
    return {model: refs[model, mode]["$ref"].rpartition("/")[2] for model, mode in wanted.items()}, schemas


def _operation(operation: Operation, names: Mapping[type[BaseModel], str]) -> Json:
    told: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": _responses(operation, names),
        "security": [{"apiKey": []}] if operation.roles is not None else [],
    }
    description = operation.description
    if operation.roles is not None:
        roles = ", ".join(sorted(role.value for role in operation.roles))
        description = f"{description}\n\nRoles: {roles}.".strip()
    if description:
        told["description"] = description
    declared = {parameter.name for parameter in operation.parameters}
    in_path = re.findall(r"\{(\w+)\}", operation.path)
    parameters = [_path_parameter(name) for name in in_path if name not in declared]
    parameters += [_parameter(parameter) for parameter in operation.parameters]
    if parameters:
        told["parameters"] = parameters
    if operation.body is not None:
        content: Json = {"schema": {"$ref": _REF.format(model=names[operation.body])}}
        if operation.body_example is not None:
            content["examples"] = {"typical": {"value": operation.body_example}}
        told["requestBody"] = {"required": True, "content": {JSON: content}}
    return told


def _parameter(parameter: Parameter) -> Json:
    told: Json = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }
    if parameter.example is not None:
        told["example"] = parameter.example
    return told


def _path_parameter(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}


def _responses(operation: Operation, names: Mapping[type[BaseModel], str]) -> Json:
    responses: Json = {}
    for status, answer in operation.answers.items():
        headers = {"X-Request-Id": _REQUEST_ID}
        headers |= {
            name: {"description": words, "schema": {"type": "string"}} for name, words in answer.headers.items()
        }
        told: Json = {"description": answer.description, "headers": headers}
        if answer.model is not None:
            told["content"] = {JSON: {"schema": {"$ref": _REF.format(model=names[answer.model])}}}
        elif answer.content_type is not None:
            told["content"] = {answer.content_type: {"schema": {"type": "string"}}}
        responses[str(status)] = told
    for status, codes in _problems_of(operation).items():
        problem = _problem(codes, names)
        if str(status) in responses:
            responses[str(status)]["content"] |= problem["content"]
        else:
            responses[str(status)] = problem
    return dict(sorted(responses.items()))


def _problems_of(operation: Operation) -> Mapping[int, list[str]]:
    codes = [*operation.problems, *_ALWAYS]
    if operation.roles is not None:
        codes += _WITH_KEY
    if operation.body is not None:
        codes += _WITH_BODY
    if any(parameter.where == "query" or parameter.name == "Prefer" for parameter in operation.parameters):
        codes.append("BAD_PARAMETER")
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(CODES[code][0], []).append(code)
    return by_status


def _problem(codes: Sequence[str], names: Mapping[type[BaseModel], str]) -> Json:
    status = CODES[codes[0]][0]
    examples = {
        code: {
            "value": {
                "type": type_of(code),
                "title": CODES[code][1],
                "status": status,
                "code": code,
                "detail": CODES[code][1],
                "requestId": "0197f3a2-6b1c-7c3e-9d55-0a4f6d1e2b3c",
            }
        }
        for code in codes
    }
    headers: Json = {"X-Request-Id": _REQUEST_ID}
    if status in (429, 503):
        headers["Retry-After"] = _RETRY_AFTER
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
    return {
        "description": " ".join(f"`{code}`: {CODES[code][1]}." for code in codes),
        "headers": headers,
        "content": {CONTENT_TYPE: {"schema": {"$ref": _REF.format(model=names[ProblemView])}, "examples": examples}},
    }
