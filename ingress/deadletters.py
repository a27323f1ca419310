"""Dead letters over HTTP, for operators: what is stuck or unknown, why, and what they may do about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from pydantic import TypeAdapter

from domain.errors import NotFound
from ingress import parameters, shape
from ingress.deadletter_forms import (
    ActView,
    Because,
    Drain,
    Drained,
    Explanation,
    Park,
    Settle,
    StuckPage,
)
from ingress.door import Door
from ingress.operations import (
    KEY_PROBLEMS,
    OPERATES,
    REPLAYED_HEADER,
    Answer,
    Call,
    Parameter,
    matching,
    one_of,
    op,
    true_or_false,
)
from ingress.operators import there
from ingress.wire import REPLAYED, Reply, idempotency_key, json_body
from readmodel.pages import id_cursor, read_id_cursor
from store.acts import Once
from store.json import storable
from store.stuck import STUCK, Wanted

if TYPE_CHECKING:
    from pipeline.deadletters import By
    from pipeline.desk import Desk

TAG = "Dead letters"
_Form = TypeVar("_Form", bound=Because)
_BECAUSE, _PARK, _SETTLE, _DRAIN = TypeAdapter(Because), TypeAdapter(Park), TypeAdapter(Settle), TypeAdapter(Drain)
_WORD = r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}"
_ACTED = {
    200: Answer(
        description="It was done, now or by an earlier request with this key.",
        model=ActView,
        headers=REPLAYED_HEADER,
    )
}


def _some_text(text: str) -> str:
    if not 1 <= len(text) <= 200:
        raise ValueError("1 to 200 characters are wanted")
    return storable(text)


WORK = Parameter(
    name="work",
    schema={"type": "string", "pattern": "^(STUCK|UNKNOWN)(,(STUCK|UNKNOWN))*$", "default": STUCK},
    description="STUCK: its stage gave it up. UNKNOWN: its call ended without a documented answer. Or both, with a comma.",
    read=one_of(frozenset({"STUCK", "UNKNOWN"})),
    default=(STUCK,),
)
STAGE = Parameter(
    name="stage",
    schema={"type": "string", "pattern": f"^{_WORD}$"},
    description="Only what is stuck there, such as `margin` or `dispatch.upstox`.",
    read=matching(_WORD, "a stage's name is wanted"),
)
ERROR = Parameter(
    name="error",
    schema={"type": "string", "minLength": 1, "maxLength": 200},
    description="Only those with this text in their last error, in any case.",
    read=_some_text,
)
PARKED = Parameter(
    name="parked",
    schema={"type": "boolean", "default": False},
    description="Those that are parked, instead of those that aren't.",
    read=true_or_false,
    default=False,
)


@op(
    "GET",
    "/v2/dlq",
    tag=TAG,
    roles=OPERATES,
    parameters=(
        WORK,
        STAGE,
        parameters.BROKER,
        parameters.ACCOUNT,
        ERROR,
        PARKED,
        parameters.LIMIT,
        parameters.AFTER_ID,
    ),
    answers={200: Answer(description="A page of what has stopped, oldest order first.", model=StuckPage)},
)
async def list_dead_letters(door: Door, call: Call) -> Reply:
    """Orders that are stuck or unknown, oldest first, with their last errors.

    The rows of the database are what is listed; the dead-letter queues are another view of them.
    """
    from pipeline import stuck

    query = call.query
    wanted = Wanted(
        states=query["work"],
        stage=query["stage"],
        broker=query["broker"],
        account=query["account"],
        error=query["error"],
        parked=query["parked"],
    )
    page = await there(door.operators).run(
        lambda desk: stuck.list_stuck(desk, wanted, limit=query["limit"], after=query["after"])
    )
    return Reply(200, orjson.dumps({"items": page.rows, "next": page.next}))


@op(
    "GET",
    "/v2/dlq/{orderId}",
    tag=TAG,
    roles=OPERATES,
    answers={200: Answer(description="Why it stopped, and what may be done.", model=Explanation)},
    problems=("NOT_FOUND",),
)
async def explain_dead_letter(door: Door, call: Call) -> Reply:
    """Why an order has stopped, and what may safely be done about it."""
    from pipeline import stuck

    order_id = _order_id(call)
    return Reply(200, orjson.dumps(await there(door.operators).run(lambda desk: stuck.explain(desk, order_id))))


@op(
    "POST",
    "/v2/dlq/{orderId}/requeue",
    tag=TAG,
    roles=OPERATES,
    parameters=(parameters.IDEMPOTENCY_KEY,),
    body=Because,
    body_example={"reason": "the reference price is back"},
    answers=_ACTED,
    problems=(*KEY_PROBLEMS, "NOT_FOUND", "NOT_STUCK", "MAY_HAVE_BEEN_SENT"),
)
async def requeue_dead_letter(door: Door, call: Call) -> Reply:
    """Send a stuck order back to its stage, with a clean count of tries.

    Refused where it would be sent again and a broker may have it already. One that was in a call goes on to what came of it.
    """
    from pipeline import deadletters

    order_id = _order_id(call)
    _, by = await _asked(call, _BECAUSE)
    return await _act(door, lambda desk: deadletters.requeue(desk, order_id, by))


@op(
    "POST",
    "/v2/dlq/{orderId}/park",
    tag=TAG,
    roles=OPERATES,
    parameters=(parameters.IDEMPOTENCY_KEY,),
    body=Park,
    body_example={"reason": "the broker was asked", "forMinutes": 120},
    answers=_ACTED,
    problems=(*KEY_PROBLEMS, "NOT_FOUND", "NOT_STUCK"),
)
async def park_dead_letter(door: Door, call: Call) -> Reply:
    """Take a stuck or unknown order out of the list, for a time or until it is taken back. It stays what it is."""
    from pipeline import deadletters

    order_id = _order_id(call)
    form, by = await _asked(call, _PARK)
    span = timedelta(minutes=form.for_minutes) if form.for_minutes else None
    return await _act(door, lambda desk: deadletters.park(desk, order_id, by, desk.now() + span if span else None))


@op(
    "POST",
    "/v2/dlq/{orderId}/unpark",
    tag=TAG,
    roles=OPERATES,
    parameters=(parameters.IDEMPOTENCY_KEY,),
    body=Because,
    body_example={"reason": "the broker has answered"},
    answers=_ACTED,
    problems=(*KEY_PROBLEMS, "NOT_FOUND", "NOT_STUCK"),
)
async def unpark_dead_letter(door: Door, call: Call) -> Reply:
    """Take a parked order back into the list."""
    from pipeline import deadletters

    order_id = _order_id(call)
    _, by = await _asked(call, _BECAUSE)
    return await _act(door, lambda desk: deadletters.unpark(desk, order_id, by))


@op(
    "POST",
    "/v2/dlq/{orderId}/settle",
    tag=TAG,
    roles=OPERATES,
    parameters=(parameters.IDEMPOTENCY_KEY,),
    body=Settle,
    body_example={
        "reason": "the broker's book could not be read",
        "evidence": "Kite web, order book of AB1234, tag OC7…, seen 10:31",
        "said": "TAKEN",
        "brokerOrderId": "261125000017",
        "state": "FILLED",
        "filledQuantity": 10,
        "averagePrice": "1512.50",
    },
    answers=_ACTED,
    problems=(*KEY_PROBLEMS, "NOT_FOUND", "NOT_UNKNOWN", "CONTRADICTED", "MAY_HAVE_BEEN_SENT"),
)
async def settle_dead_letter(door: Door, call: Call) -> Reply:
    """Say what the broker did with an order of which nobody else can tell, with evidence and a reason.

    For orders that are UNKNOWN, and for those that are stuck after their call. Refused where the record knows better, and
    `NOT_TAKEN` also while the broker may still take it. It can't be undone.
    """
    from pipeline import deadletters

    order_id = _order_id(call)
    form, by = await _asked(call, _SETTLE)

    def work(desk: Desk) -> dict[str, Any]:
        with desk.store.unit() as unit:
            if not unit.rows("select 1 from orders where id = %s", (order_id,)):
                raise NotFound("order", order_id)
        return deadletters.settle(desk, order_id, by, storable(form.evidence), form.settlement())

    return await _act(door, work)


@op(
    "POST",
    "/v2/dlq/{orderId}/discard",
    tag=TAG,
    roles=OPERATES,
    parameters=(parameters.IDEMPOTENCY_KEY,),
    body=Because,
    body_example={"reason": "the client gave it up"},
    answers=_ACTED,
    problems=(*KEY_PROBLEMS, "NOT_FOUND", "NOT_STUCK", "MAY_HAVE_BEEN_SENT"),
)
async def discard_dead_letter(door: Door, call: Call) -> Reply:
    """Give a stuck order up: it is rejected, and what it held of its account is freed. It can't be undone.

    Refused where a broker may have the order already.
    """
    from pipeline import deadletters

    order_id = _order_id(call)
    _, by = await _asked(call, _BECAUSE)
    return await _act(door, lambda desk: deadletters.discard(desk, order_id, by))


@op(
    "POST",
    "/v2/dlq/drain",
    tag=TAG,
    roles=OPERATES,
    parameters=(parameters.IDEMPOTENCY_KEY,),
    body=Drain,
    body_example={"act": "requeue", "reason": "the reference price is back", "stage": "margin"},
    answers={
        200: Answer(
            description="What was done and what was refused, of the next orders that match.",
            model=Drained,
            headers=REPLAYED_HEADER,
        )
    },
    problems=KEY_PROBLEMS,
)
async def drain_dead_letters(door: Door, call: Call) -> Reply:
    """Send back, or give up, the next stuck orders that match: at most 100 in one request, in one transaction.

    Go on with `after` = `next` and a new Idempotency-Key until `next` is null. Between two requests nothing is under way:
    whoever stops halfway has lost nothing.
    """
    from pipeline.drain import drain_part, tidy_after

    form, by = await _asked(call, _DRAIN)
    wanted = Wanted(
        stage=form.stage,
        broker=form.broker and form.broker.lower(),
        account=form.account,
        error=form.error and storable(form.error),
        parked=form.parked,
    )
    after = read_id_cursor(form.after) if form.after else None
    told = await there(door.operators).run(
        lambda desk: drain_part(desk, form.act, wanted, by, after=after, limit=form.limit, dry=form.dry_run)
    )
    if told["last"] is None and not form.dry_run:
        there(door.operators).afterwards(lambda desk: tidy_after(desk, wanted))
    cursor = id_cursor(told["last"]) if told["last"] else None
    document = {"done": told["done"], "refused": told["refused"], "next": cursor}
    return Reply(200, orjson.dumps(document), REPLAYED if told.get("replayed") else None)


def _order_id(call: Call) -> str:
    return parameters.id_in_path(call.path["orderId"], "order")


async def _asked(call: Call, form: TypeAdapter[_Form]) -> tuple[_Form, By]:
    """The request's form, and who acts: the API key by its name, with its id in the audit log."""
    from pipeline.deadletters import By

    key = idempotency_key(call.request)
    asked, canonical = shape.read_form(await json_body(call.request), form)
    once = Once(call.key.user_id, key, shape.fingerprint("POST", call.request.path, canonical))
    via = f"key {call.key.id}"
    return asked, By(operator=call.key.name, reason=storable(asked.reason), via=via, once=once)


async def _act(door: Door, work: Callable[[Desk], dict[str, Any]]) -> Reply:
    from pipeline import letters

    told = await there(door.operators).run(work)
    there(door.operators).afterwards(lambda desk: letters.tidy(desk, [told["from"]]))
    document = {
        "orderId": told["orderId"],
        "stage": told["from"],
        "state": told["state"],
        "goesTo": told.get("stage"),
        "parkedUntil": told.get("until"),
    }
    return Reply(200, orjson.dumps(document), REPLAYED if told.get("replayed") else None)
