"""One request and its answer on the wire: the body within its limits, the id that follows it through every log."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import falcon
import falcon.asgi

from domain.errors import Busy
from domain.ids import new_id
from ingress.problems import CONTENT_TYPE, Headers, Problem, bad_parameter, prepared

BODY_MAX = 64 * 1024
JOB_MAX = 1024 * 1024  # of what may name ten thousand orders
BODY_S = 10.0  # a body must be complete after this time
DISCARD_MAX = 16 * 1024 * 1024  # of a body that is too large: read on, so that the client hears why
JSON = "application/json"

REPLAYED = {"Idempotency-Replayed": "true"}
_KEY = re.compile(r"[!-~]{16,255}")
_VERSION = re.compile(r'"([0-9]{1,9})"|([0-9]{1,9})')
_REQUEST_ID = re.compile(r"[!-~]{1,128}")


@dataclass(slots=True)
class Reply:
    """An answer, ready to be sent."""

    status: int
    body: bytes
    headers: Headers | None = None
    content_type: str = JSON


class Request(falcon.asgi.Request):
    """Falcon's request, with a body that is complete and within its limit, or refused."""

    __slots__ = ("_our_id",)

    _our_id: str

    @property
    def request_id(self) -> str:
        """The client's X-Request-Id where it is a sensible one, else one of ours."""
        try:
            return self._our_id
        except AttributeError:
            given = self.get_header("X-REQUEST-ID")
            self._our_id = given if given is not None and _REQUEST_ID.fullmatch(given) else new_id()
            return self._our_id

    async def body(self, most: int = BODY_MAX) -> bytes:
        """The whole body, of at most so many bytes.

        Raises Problem: it is too large, by its Content-Length or as it arrives; it came too slowly, or not whole. A
        request that was cut off is never taken for a shorter one.
        """
        length = self.content_length
        if length is not None and length > most:
            await self._discard(length)
            raise _too_large(most)
        event = self._first_event or {}
        first: bytes = event.get("body", b"")
        if not event.get("more_body", False) and len(first) <= most:
            return first
        try:
            async with asyncio.timeout(BODY_S):
                return await self._rest(first, event.get("more_body", False), most)
        except TimeoutError:
            raise Problem("BAD_REQUEST", f"the body was not complete after {BODY_S:g} s") from None

    async def _rest(self, first: bytes, more: bool, most: int) -> bytes:
        chunks, size = [first], len(first)
        while more or size > most:
            if size > most:
                if more:
                    await self._discard(DISCARD_MAX)
                raise _too_large(most)
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise Problem("BAD_REQUEST", "the connection ended before the body did")
            chunk = event.get("body", b"")
            chunks.append(chunk)
            size += len(chunk)
            more = event.get("more_body", False)
        return b"".join(chunks)

    async def _discard(self, length: int) -> None:
        """Read what is still coming and keep none of it: a connection closed on unread bytes loses the answer, too."""
        event = self._first_event or {}
        left = min(length, DISCARD_MAX) - len(event.get("body", b""))
        try:
            async with asyncio.timeout(2.0):
                while left > 0 and event.get("more_body", False):
                    event = await self._receive()
                    left -= len(event.get("body", b""))
        except TimeoutError:
            return


def write(request: Request, response: falcon.asgi.Response, reply: Reply) -> None:
    response.status = reply.status
    response.data = reply.body
    headers = response._headers  # in lower case, as Falcon keeps them
    headers["content-type"] = reply.content_type
    headers["x-request-id"] = request.request_id
    if reply.headers:
        for name, value in reply.headers.items():
            headers[name.lower()] = value


def problem_reply(request: Request, problem: Problem) -> Reply:
    return Reply(problem.status, problem.document(request.request_id), problem.headers, CONTENT_TYPE)


def refused_for_now(request: Request, error: Busy) -> Reply:
    """What `problem_reply` would give, for an error that many requests are told: most of it is made once."""
    made = prepared(error)
    return Reply(made.status, made.document(request.request_id), made.headers, CONTENT_TYPE)


def idempotency_key(request: Request) -> str:
    key = request.get_header("IDEMPOTENCY-KEY")
    if key is None:
        raise Problem("IDEMPOTENCY_KEY_MISSING", "send an Idempotency-Key of your own, a new one for each new request")
    if not _KEY.fullmatch(key):
        raise Problem("IDEMPOTENCY_KEY_INVALID", "an Idempotency-Key is 16 to 255 visible ASCII characters")
    return key


def version_matched(request: Request) -> int:
    """The version of `If-Match`: `"3"` or `3`. Raises Problem where it is missing, or is none.

    A weak one, a list and `*` are refused: a modify is for one version that the client has seen.
    """
    given = request.get_header("IF-MATCH")
    if given is None or not given.strip():
        detail = "send the order's version as If-Match: it is its ETag and its `version`"
        raise Problem("PRECONDITION_REQUIRED", detail)
    found = _VERSION.fullmatch(given.strip())
    if found is None:
        raise bad_parameter("If-Match", 'one version is wanted, such as "3"')
    return int(found[1] or found[2])


async def json_body(request: Request, most: int = BODY_MAX) -> bytes:
    if not is_json(request.get_header("CONTENT-TYPE")):
        raise Problem("NOT_JSON", "send the body as application/json, in UTF-8", headers={"Accept": "application/json"})
    return await request.body(most)


def is_json(content_type: str | None) -> bool:
    """application/json, with any parameters; UTF-8 where one names a charset."""
    if content_type == JSON:
        return True
    kind, _, parameters = (content_type or "").partition(";")
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]+)", parameters, re.IGNORECASE)
    return kind.strip().lower() == JSON and (charset is None or charset[1].lower() in ("utf-8", "utf8"))


def wait_preference(value: str | None, *, longest_s: int) -> int:
    """Seconds of `Prefer: wait=N`; preferences we don't know are ignored, as RFC 7240 wants."""
    if value is None:
        return 0
    for preference in value.split(","):
        name, _, wanted = preference.strip().partition("=")
        if name.strip().lower() == "wait":
            wanted = wanted.partition(";")[0].strip().strip('"')
            if not (wanted.isascii() and wanted.isdigit() and len(wanted) <= 4 and int(wanted) <= longest_s):
                raise _bad_wait(longest_s)
            return int(wanted)
    return 0


def _bad_wait(longest_s: int) -> Problem:
    detail = f"wait takes whole seconds from 0 to {longest_s}"
    where: dict[str, Any] = {"parameter": "Prefer", "code": "BAD_PARAMETER", "detail": detail}
    return Problem("BAD_PARAMETER", f"Prefer: {detail}", errors=[where])


def _too_large(most: int) -> Problem:
    return Problem("BODY_TOO_LARGE", f"a body has at most {most} bytes here")
