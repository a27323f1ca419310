"""What went wrong, over HTTP: RFC 9457 problem documents. Only here do our errors meet status codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from domain import errors

Headers = Mapping[str, str]

# The whole list of codes, each with its status and title; the API page and openapi.json show it.
CODES: dict[str, tuple[int, str]] = {
    "MALFORMED_JSON": (400, "The body is not JSON"),
    "DUPLICATE_FIELD": (400, "A field stands twice in one object"),
    "IDEMPOTENCY_KEY_MISSING": (400, "The Idempotency-Key header is missing"),
    "IDEMPOTENCY_KEY_INVALID": (400, "The Idempotency-Key header is not 16 to 255 visible ASCII characters"),
    "BAD_PARAMETER": (400, "A parameter does not make sense"),
    "UNKNOWN_PARAMETER": (400, "There is no such parameter here"),
    "BAD_REQUEST": (400, "The request can't be understood"),
    "NOT_AUTHENTICATED": (401, "No valid API key came with the request"),
    "NOT_ALLOWED": (403, "This key may not do that"),
    "NOT_FOUND": (404, "There is no such thing that this key may see"),
    "METHOD_NOT_ALLOWED": (405, "This path does not take that method"),
    "IDEMPOTENCY_KEY_SPENT": (409, "The Idempotency-Key's window is over"),
    "STALE_VERSION": (409, "The order was changed in the meantime"),
    "STALE_DOCUMENT": (409, "The switch or the settings were changed in the meantime"),
    "ORDER_NOT_MODIFIABLE": (409, "The order can't be modified, or not so"),
    "SOFT_CANCEL_DISABLED": (409, "The administrator allows no soft cancels"),
    "SCHEDULE_OVER": (409, "The schedule was carried out, or is over"),
    "SIGNALS_DISABLED": (409, "The signal strategy is switched off"),
    "NOT_STUCK": (409, "The command is not stuck"),
    "MAY_HAVE_BEEN_SENT": (409, "The broker may have the order"),
    "NOT_UNKNOWN": (409, "There is nothing to settle"),
    "CONTRADICTED": (409, "The record holds evidence against it"),
    "BODY_TOO_LARGE": (413, "The body is too large"),
    "NOT_JSON": (415, "The body must be application/json"),
    "MALFORMED": (422, "The request's form is wrong"),
    "IDEMPOTENCY_KEY_REUSED": (422, "The Idempotency-Key belongs to another request"),
    "NONCE_REUSED": (422, "The signal's nonce belongs to another order"),
    "PRECONDITION_REQUIRED": (428, "The If-Match header is missing"),
    "RATE_LIMITED": (429, "Too many requests with this key"),
    "INTERNAL": (500, "A defect of ours"),
    "OVERLOADED": (503, "More work is waiting than can be finished in time"),
    "STORE_UNAVAILABLE": (503, "The database can't be reached"),
    "DRAINING": (503, "This process is shutting down"),
}
CONTENT_TYPE = "application/problem+json"
_AUTHENTICATE = 'Bearer realm="order coordinator"'


@dataclass(slots=True)
class Problem(Exception):
    """A request that ends here, in the words of the answer."""

    code: str
    detail: str
    errors: Sequence[Mapping[str, str]] = ()
    headers: Headers = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)  # further members of the document

    @property
    def status(self) -> int:
        return CODES[self.code][0]

    def document(self, request_id: str) -> bytes:
        document: dict[str, Any] = {
            "type": type_of(self.code),
            "title": CODES[self.code][1],
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "requestId": request_id,
            **self.members,
        }
        if self.errors:
            document["errors"] = self.errors
        return orjson.dumps(document)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A problem's document, made but for the request's id."""

    status: int
    headers: Headers
    before: bytes
    after: bytes

    def document(self, request_id: str) -> bytes:
        return self.before + orjson.dumps(request_id) + self.after


@lru_cache(maxsize=8)
def prepared(error: errors.Busy) -> Prepared:
    """For one error that is told to many; each error of its own is prepared anew."""
    problem = Problem(error.code, str(error), headers={"Retry-After": str(error.retry_after_s)})
    before, _, after = problem.document("").partition(b'"requestId":""')
    return Prepared(problem.status, problem.headers, before + b'"requestId":', after)


def type_of(code: str) -> str:
    return "/problems/" + code.lower().replace("_", "-")


def bad_parameter(name: str, detail: str, *, code: str = "BAD_PARAMETER") -> Problem:
    return Problem(code, f"{name}: {detail}", errors=[{"parameter": name, "code": code, "detail": detail}])


def problem_of(error: Exception) -> Problem | None:
    """Our error as a problem; None for what only a defect can raise."""
    match error:
        case Problem():
            return error
        case errors.Malformed():
            faults = [{"pointer": at.pointer, "code": at.code, "detail": at.detail} for at in error.faults]
            return Problem(error.code, "the fields in `errors` need mending; nothing was stored", errors=faults)
        case errors.NotAuthenticated():
            return Problem(error.code, str(error), headers={"WWW-Authenticate": _AUTHENTICATE})
        case errors.KeySpent():
            link = f"/v2/intents/{error.intent_id}"
            members = {"intentId": error.intent_id, "links": {"intent": link}}
            return Problem(error.code, str(error), headers={"Location": link}, members=members)
        case errors.StaleVersion():
            return Problem(error.code, str(error), members={"version": error.found})
        case errors.NotModifiable():
            return Problem(error.code, str(error), members={"reason": {"code": error.why, "text": error.words}})
        case errors.StaleDocument():
            return Problem(error.code, str(error), members={"version": error.found})
        case errors.Busy():
            return Problem(error.code, str(error), headers={"Retry-After": str(error.retry_after_s)})
        case errors.Refused():
            return Problem(error.code, str(error))
        case _:
            return None
