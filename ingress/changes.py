"""Modifying and cancelling over HTTP: accepted at once and durable, carried out once, told line by line."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter

from domain import cancels
from domain.cancels import CancelAcceptance, CancelRequest, CancelSubmission
from domain.errors import Busy, NotModifiable, StaleVersion
from domain.modifies import ModifyRequest, ModifySubmission
from domain.schedules import ScheduledCancel, now_or_later
from ingress import parameters, schedules, shape
from ingress.answers import ChangeIntent
from ingress.change_forms import AcceptedCancel, AcceptedModify, MatchPage
from ingress.door import Door, scope_of
from ingress.intents import as_it_stands, path_of
from ingress.operations import INTENT_KEY_PROBLEMS, PLACES, REPLAYED_HEADER, Answer, Call, op
from ingress.operators import there
from ingress.problems import Problem, problem_of
from ingress.schedule_forms import CancelOrSchedule
from ingress.wire import (
    BODY_MAX,
    JOB_MAX,
    REPLAYED,
    Reply,
    idempotency_key,
    json_body,
    version_matched,
    wait_preference,
)
from readmodel import queries
from readmodel.pages import id_cursor
from readmodel.views import View, broker_text

if TYPE_CHECKING:
    from pipeline.desk import Desk

TAG = "Modifying and cancelling"
_MODIFY, _CANCEL, _SCHEDULED = TypeAdapter(ModifyRequest), TypeAdapter(CancelRequest), TypeAdapter(ScheduledCancel)
_HEADERS = {"Location": "The intent.", **REPLAYED_HEADER}
_WAITED = {
    200: Answer(description="With Prefer: wait: it is known what came of every line.", model=ChangeIntent),
    207: Answer(description="With Prefer: wait: it is known of some lines.", model=ChangeIntent),
}
CANCEL_EXAMPLE = {"filter": {"broker": "UPSTOX", "strategy": "breakout"}, "mode": "HARD", "policy": "BEST_EFFORT"}


@op(
    "PUT",
    "/v3/orders/{orderId}",
    tag=TAG,
    roles=PLACES,
    parameters=(parameters.IDEMPOTENCY_KEY, parameters.IF_MATCH, parameters.PREFER),
    body=ModifyRequest,
    body_example={"quantity": 12, "price": "1515.00"},
    answers={
        202: Answer(description="Accepted and durable.", model=AcceptedModify, headers=_HEADERS),
        **_WAITED,
    },
    problems=(
        *INTENT_KEY_PROBLEMS,
        "NOT_FOUND",
        "PRECONDITION_REQUIRED",
        "BAD_PARAMETER",
        "STALE_VERSION",
        "ORDER_NOT_MODIFIABLE",
    ),
)
async def modify_order(door: Door, call: Call) -> Reply:
    """Change the terms of an order that its broker has.

    `If-Match` carries the version that you have read: where the order has moved on since, nothing is done, and the answer
    shows it as it stands. What isn't named stays as it is; only what differs reaches the broker. One modify of an order is
    under way at a time.
    """
    from pipeline import modifying

    request = call.request
    order_id = parameters.id_in_path(call.path["orderId"], "order")
    key = idempotency_key(request)
    wait_s = wait_preference(request.get_header("PREFER"), longest_s=parameters.WAIT_MAX_S)
    version = version_matched(request)
    wanted, canonical = shape.read_change(await json_body(request), _MODIFY)
    submission = ModifySubmission(
        user_id=call.key.user_id,
        key_id=call.key.id,
        idempotency_key=key,
        fingerprint=shape.fingerprint("PUT", f"/v3/orders/{order_id}", canonical, version=version),
        order_id=order_id,
        if_match_version=version,
        request=wanted,
    )
    try:
        accepted = await there(door.changers).run(lambda desk: modifying.accept(desk, submission))
    except (StaleVersion, NotModifiable) as refused:
        raise await _with_current(door, call, refused) from None
    if wait_s:
        return await _after_waiting(door, call, accepted.intent_id, wait_s, replayed=accepted.replayed)
    links = {"intent": path_of(accepted.intent_id), "order": f"/v2/orders/{accepted.order_id}"}
    document = {"intentId": accepted.intent_id, "orderId": accepted.order_id, "status": "RUNNING", "links": links}
    return _accepted(document, accepted.intent_id, replayed=accepted.replayed)


@op(
    "POST",
    "/v2/orders/multi/cancel",
    tag=TAG,
    roles=PLACES,
    parameters=(parameters.IDEMPOTENCY_KEY, parameters.PREFER),
    body=ScheduledCancel,
    body_example=CANCEL_EXAMPLE,
    answers={
        202: Answer(description="Accepted and durable; with a time, scheduled.", model=CancelOrSchedule, headers=_HEADERS),
        **_WAITED,
    },
    problems=(*INTENT_KEY_PROBLEMS, "SOFT_CANCEL_DISABLED"),
)
async def cancel_multi(door: Door, call: Call) -> Reply:
    """Cancel many orders: those of these ids, or those that a filter means at this moment.

    From the answer on, no order that is meant and was not sent is sent any more. `answered` are the lines of which the
    truth is known at once: orders that are unknown, had ended, or are being cancelled already. A body has at most 1 MB.

    HARD (the default) asks the broker now, and has settled when its book has told what came of it. SOFT marks the orders,
    and is carried out in its own time. A cancel is let in however much work waits.

    With `at` or `atSessionEnd` nothing is cancelled now: the answer is a schedule (`/v2/schedules`), and its filter means
    what it means when it is carried out.
    """
    request = call.request
    key = idempotency_key(request)
    wait_s = wait_preference(request.get_header("PREFER"), longest_s=parameters.WAIT_MAX_S)
    wanted, canonical = await _read_cancel(call, _SCHEDULED)
    fingerprint = shape.fingerprint("POST", "/v2/orders/multi/cancel", canonical)
    if isinstance(wanted, ScheduledCancel):
        return await schedules.schedule_cancel(door, call, wanted, key, fingerprint)
    return await _cancel(door, call, wanted, key, fingerprint, wait_s)


@op(
    "POST",
    "/v2/orders/multi/cancel/preview",
    tag=TAG,
    roles=PLACES,
    parameters=(parameters.LIMIT, parameters.AFTER_ID),
    body=CancelRequest,
    body_example=CANCEL_EXAMPLE,
    answers={200: Answer(description="The orders that would be cancelled, oldest first, in pages.", model=MatchPage)},
)
async def preview_cancel(door: Door, call: Call) -> Reply:
    """What a cancel would reach at this moment. Nothing is stored, marked or sent, and no Idempotency-Key is needed.

    The body is that of `POST /v2/orders/multi/cancel`. `matched` counts the live orders that are meant and that nobody
    cancels yet.
    """
    from pipeline import cancelling

    wanted, _ = await _read_cancel(call)
    user_id, limit, after = call.key.user_id, call.query["limit"], call.query["after"]

    def look(desk: Desk) -> cancelling.Matching:
        with desk.store.unit() as unit:
            return cancelling.matching(unit, user_id, wanted, limit=limit, after=after)

    found = await there(door.changers).run(look)
    orders: list[View] = [
        {
            "orderId": match.order_id,
            "state": match.state,
            "instrument": match.instrument,
            "side": match.side,
            "quantity": match.quantity,
            "filledQuantity": match.filled_quantity,
            "broker": broker_text(match.broker),
            "account": match.account,
            "tag": match.tag,
            "strategy": match.strategy,
        }
        for match in found.orders
    ]
    cursor = id_cursor(found.last) if found.last else None
    return Reply(200, orjson.dumps({"matched": found.matched, "orders": orders, "next": cursor}))


@op(
    "DELETE",
    "/v2/orders/{orderId}",
    tag=TAG,
    roles=PLACES,
    parameters=(parameters.IDEMPOTENCY_KEY, parameters.PREFER),
    answers={
        202: Answer(description="Accepted and durable.", model=AcceptedCancel, headers=_HEADERS),
        **_WAITED,
    },
    problems=(*INTENT_KEY_PROBLEMS, "NOT_FOUND"),
)
async def cancel_order(door: Door, call: Call) -> Reply:
    """Cancel one order: `POST /v2/orders/multi/cancel` with its id, and nothing else."""
    request = call.request
    order_id = parameters.id_in_path(call.path["orderId"], "order")
    key = idempotency_key(request)
    wait_s = wait_preference(request.get_header("PREFER"), longest_s=parameters.WAIT_MAX_S)
    fingerprint = shape.fingerprint("DELETE", f"/v2/orders/{order_id}", b"")
    return await _cancel(door, call, CancelRequest(order_ids=(order_id,)), key, fingerprint, wait_s, must_be_there=True)


async def _read_cancel(call: Call, form: TypeAdapter[Any] = _CANCEL) -> tuple[CancelRequest, bytes]:
    """The request, a ScheduledCancel only where it is one. Raises Problem and Malformed.

    A large body is read beside the event loop: other requests needn't wait for it.
    """

    def read() -> tuple[CancelRequest, bytes]:
        wanted, canonical = shape.read_change(body, form)
        return cancels.check(now_or_later(wanted)), canonical

    body = await json_body(call.request, JOB_MAX)
    return await asyncio.to_thread(read) if len(body) > BODY_MAX else read()


async def _cancel(
    door: Door,
    call: Call,
    wanted: CancelRequest,
    key: str,
    fingerprint: bytes,
    wait_s: int,
    *,
    must_be_there: bool = False,
) -> Reply:
    from pipeline import cancelling

    submission = CancelSubmission(
        user_id=call.key.user_id,
        key_id=call.key.id,
        idempotency_key=key,
        fingerprint=fingerprint,
        request=wanted,
        must_be_there=must_be_there,
    )
    accepted = await there(door.cancellers).run(lambda desk: cancelling.accept(desk, submission))
    if wait_s:
        return await _after_waiting(door, call, accepted.intent_id, wait_s, replayed=accepted.replayed)
    return _accepted(_cancel_view(accepted), accepted.intent_id, replayed=accepted.replayed)


def _cancel_view(accepted: CancelAcceptance) -> View:
    return {
        "intentId": accepted.intent_id,
        "status": "RUNNING",
        "matched": accepted.matched,
        "answered": [
            {
                "line": line.line,
                "orderId": line.order_id,
                "code": line.code,
                "state": line.state,
                "intentId": line.intent_id,
            }
            for line in accepted.answered
        ],
        "links": {"intent": path_of(accepted.intent_id)},
    }


def _accepted(document: View, intent_id: str, *, replayed: bool) -> Reply:
    headers = {"Location": path_of(intent_id)}
    return Reply(202, orjson.dumps(document), headers | REPLAYED if replayed else headers)


async def _after_waiting(door: Door, call: Call, intent_id: str, wait_s: int, *, replayed: bool) -> Reply:
    """The intent as it stands when all is known or the time is over; the acceptance is durable already."""
    await door.waiters.until_settled(intent_id, None, wait_s)
    view = await as_it_stands(door, call, intent_id)
    status = 200 if view["settled"] == view["total"] else 207 if view["settled"] else 202
    headers = {"Location": path_of(intent_id), "Preference-Applied": f"wait={wait_s}"}
    return Reply(status, orjson.dumps(view), headers | REPLAYED if replayed else headers)


async def _with_current(door: Door, call: Call, refused: StaleVersion | NotModifiable) -> Exception:
    """The refusal with the order as it stands, where that can be read now."""
    problem = problem_of(refused)
    if problem is None:
        return refused
    try:
        current = await door.reader.ask(queries.order, scope_of(call.key), refused.order_id)
    except Busy:
        return refused
    if current is None:
        return refused
    headers = {**problem.headers, "ETag": f'"{current["version"]}"'}
    return Problem(problem.code, problem.detail, headers=headers, members={**problem.members, "current": current})
