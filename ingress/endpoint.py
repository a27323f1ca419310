"""One path: every method of it passes the same checks in the same order before its operation sees the request."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import falcon
from falcon.asgi import Response

from domain.errors import NotAllowed
from ingress.door import Door, scope_of
from ingress.operations import Call, Operation, read_query
from ingress.operators import there
from ingress.problems import Problem, problem_of
from ingress.wire import Reply, Request, problem_reply, write
from store.json import storable
from store.users import ApiKey

log = logging.getLogger(__name__)

_NOTHING: dict[str, Any] = {}


class Endpoint:
    """What Falcon calls for a path."""

    def __init__(self, door: Door, operations: Sequence[Operation]) -> None:
        for operation in operations:
            setattr(self, f"on_{operation.method.lower()}", _responder(door, operation))


def _responder(door: Door, operation: Operation) -> Callable[..., Awaitable[None]]:
    handle, has_query = operation.handle, any(at.where == "query" for at in operation.parameters)
    is_read = operation.method == "GET"

    async def respond(request: Request, response: Response, **path: str) -> None:
        began = time.perf_counter()
        try:
            caller = None if operation.roles is None else await _let_in(door, operation, request)
            query = read_query(operation, request) if has_query or request.query_string else _NOTHING
            call = Call(request, caller, path, query)
            if caller is not None and is_read and door.settings.audit_level == "ALL":
                await _note_read(door, operation, call)
            age_max_s = door.recent.age_max_s(operation.name, caller.user_id, door.settings) if caller is not None else 0.0
            reply = await (_recently(door, operation, call, age_max_s) if age_max_s else handle(door, call))
        except falcon.HTTPError:
            raise  # Falcon's own refusal of what it reads for us
        except Exception as error:  # noqa: BLE001 - told as a problem, and logged where it is a defect
            reply = refusal(request, error, operation.name)
        write(request, response, reply)
        door.metrics.answered(operation.name, reply.status, time.perf_counter() - began)

    return respond


async def _recently(door: Door, operation: Operation, call: Call, age_max_s: float) -> Reply:
    """The answer of a moment ago, or a new one that others may have."""
    key = scope_of(call.key).user_id, call.request.relative_uri
    reply = door.recent.find(key, age_max_s)
    if reply is None:
        asked_at = time.monotonic()
        reply = await operation.handle(door, call)
        door.recent.keep(key, asked_at, reply)
    return reply


async def _note_read(door: Door, operation: Operation, call: Call) -> None:
    """In the audit log, before it is answered. Raises StoreAway."""
    from pipeline import reads

    key, path = call.key, storable(call.request.relative_uri[:500])
    await there(door.noters).run(lambda desk: reads.note(desk, key.name, operation.name, path, f"key {key.id}"))


async def _let_in(door: Door, operation: Operation, request: Request) -> ApiKey:
    """The caller, known, allowed and within its rate. Raises NotAuthenticated, NotAllowed, TooManyRequests or Busy."""
    authorization = request.get_header("AUTHORIZATION")
    caller = door.keys.at_hand(authorization) or await door.keys.find(authorization)
    if operation.roles is None or caller.role not in operation.roles:
        raise NotAllowed(f"a key with the role {caller.role} may not do this")
    if not door.throttle.take_at_hand(caller):
        await door.throttle.take(caller)
    return caller


def refusal(request: Request, error: Exception, operation: str) -> Reply:
    """What an exception is told as; one that only a defect can raise is logged with everything, and tells nothing."""
    problem = problem_of(error)
    if problem is None:
        log.error("a request failed", exc_info=error, extra={"request_id": request.request_id, "operation": operation})
        problem = Problem("INTERNAL", "the defect is in our log under this requestId; the request may have had effects")
    return problem_reply(request, problem)
