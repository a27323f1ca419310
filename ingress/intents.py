"""Intents over HTTP: what was asked, and how far it has got."""

from __future__ import annotations

import orjson

from domain.errors import NotFound
from ingress import parameters
from ingress.answers import IntentPage, IntentView
from ingress.door import Door, scope_of
from ingress.operations import EVERY_ROLE, Answer, Call, op
from ingress.wire import Reply
from readmodel import queries
from readmodel.views import View


def path_of(intent_id: str) -> str:
    return f"/v2/intents/{intent_id}"


async def as_it_stands(door: Door, call: Call, intent_id: str) -> View:
    """Raises NotFound where the caller may not see it, or nothing is there to see."""
    view = await door.reader.ask(queries.intent, scope_of(call.key), intent_id)
    if view is None:
        raise NotFound("intent", intent_id)
    return view


@op(
    "GET",
    "/v2/intents/{intentId}",
    tag="Intents",
    roles=EVERY_ROLE,
    parameters=(parameters.WAIT,),
    answers={200: Answer(description="The intent with every line.", model=IntentView)},
    problems=("NOT_FOUND",),
)
async def show_intent(door: Door, call: Call) -> Reply:
    """One intent with its orders.

    `status` is RUNNING until every line has settled: it has ended, or the exchange has confirmed it. Then it is DONE,
    PARTIAL (some lines were rejected) or REJECTED (all were).
    """
    intent_id = parameters.id_in_path(call.path["intentId"], "intent")
    view = await as_it_stands(door, call, intent_id)
    if call.query["wait"] and view["settled"] < view["total"]:
        order_ids = [order["orderId"] for order in view["orders"]]
        await door.waiters.until_settled(intent_id, order_ids, call.query["wait"])
        view = await as_it_stands(door, call, intent_id)
    return Reply(200, orjson.dumps(view))


@op(
    "GET",
    "/v2/intents",
    tag="Intents",
    roles=EVERY_ROLE,
    parameters=(parameters.LIMIT, parameters.AFTER_ID),
    answers={200: Answer(description="A page of intents, newest first, without their lines.", model=IntentPage)},
)
async def list_intents(door: Door, call: Call) -> Reply:
    """Intents, newest first, without their lines."""
    page = await door.reader.ask(
        queries.intent_page, scope_of(call.key), limit=call.query["limit"], after=call.query["after"]
    )
    return Reply(200, orjson.dumps({"intents": page.rows, "next": page.next}))
