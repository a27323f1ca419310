"""Intents over HTTP: what was asked, and how far it has got."""

from __future__ import annotations

import orjson

from domain.errors import NotFound
from ingress import parameters
from ingress.answers import IntentPage, IntentView
from ingress.door import Door, scope_of
from ingress.operations import EVERY_ROLE, Answer, Call, op
from ingress.wire import Reply
from readmodel import changes, queries
from readmodel.views import View


def path_of(intent_id: str) -> str:
    return f"/v2/intents/{intent_id}"


async def as_it_stands(
    door: Door, call: Call, intent_id: str, *, limit: int = parameters.LINES_DEFAULT, after: int | None = None
) -> View:
    """The intent; of one that changes orders, a page of its lines. Raises NotFound where there is nothing to be seen."""
    view = await door.reader.ask(queries.intent, scope_of(call.key), intent_id)
    if view is None:
        view = await door.reader.ask(changes.changes_intent, scope_of(call.key), intent_id, limit=limit, after=after)
    if view is None:
        raise NotFound("intent", intent_id)
    return view


@op(
    "GET",
    "/v2/intents/{intentId}",
    tag="Intents",
    roles=EVERY_ROLE,
    parameters=(parameters.WAIT, parameters.LINES, parameters.AFTER_LINE),
    answers={200: Answer(description="The intent with its lines.", model=IntentView)},
    problems=("NOT_FOUND",),
)
async def show_intent(door: Door, call: Call) -> Reply:
    """One intent with its lines: the orders of one that places, the changes of one that modifies or cancels.

    `status` is RUNNING until every line has settled. A line that places has settled when its order has ended, or the exchange
    has confirmed it; then the intent is DONE, PARTIAL (some lines were rejected) or REJECTED (all were). A line that modifies
    or cancels has settled when it is known what came of it; then it is DONE (all were cancelled, or modified), PARTIAL (some)
    or NONE. A soft cancel has settled once it is marked: MARKED until each is carried out.

    The lines of an intent that modifies or cancels come in pages: go on with `after` = `next`.
    """
    intent_id = parameters.id_in_path(call.path["intentId"], "intent")
    query = call.query
    view = await as_it_stands(door, call, intent_id, limit=query["limit"], after=query["after"])
    if query["wait"] and view["settled"] < view["total"]:
        await door.waiters.until_settled(intent_id, _orders_of(view), query["wait"])
        view = await as_it_stands(door, call, intent_id, limit=query["limit"], after=query["after"])
    return Reply(200, orjson.dumps(view))


def _orders_of(view: View) -> list[str] | None:
    """The orders that an intent waits for; none of one that changes orders."""
    return [order["orderId"] for order in view["orders"]] if "orders" in view else None


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
