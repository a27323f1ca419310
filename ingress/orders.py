"""Orders over HTTP: placing many in one intent, and what has become of them."""

from __future__ import annotations

import orjson

from domain.errors import NotFound
from domain.intents import Acceptance, PlaceRequest, Submission
from ingress import parameters, shape
from ingress.answers import Accepted, History, OrderDetail, OrderPage, PlaceIntent, TradePage
from ingress.door import Door, scope_of
from ingress.intents import as_it_stands, path_of
from ingress.operations import EVERY_ROLE, INTENT_KEY_PROBLEMS, PLACES, REPLAYED_HEADER, Answer, Call, op
from ingress.wire import REPLAYED, Reply, idempotency_key, json_body, refused_for_now, wait_preference
from readmodel import changes, queries
from readmodel.queries import Filters

PLACE_EXAMPLE = {
    "orders": [
        {
            "correlationId": "leg-1",
            "instrument": "NSE:INFY",
            "side": "BUY",
            "quantity": 10,
            "product": "CNC",
            "orderType": "LIMIT",
            "price": "1512.50",
        },
        {
            "correlationId": "leg-2",
            "instrument": "NSE:TCS",
            "side": "SELL",
            "quantity": 5,
            "product": "MIS",
            "orderType": "MARKET",
            "broker": "UPSTOX",
        },
    ],
    "maxUnsentSec": 120,
}


@op(
    "POST",
    "/v2/orders/multi",
    tag="Placing",
    roles=PLACES,
    parameters=(parameters.IDEMPOTENCY_KEY, parameters.PREFER),
    body=PlaceRequest,
    body_example=PLACE_EXAMPLE,
    answers={
        202: Answer(
            description="Accepted and durable; with Prefer: wait, no line has settled yet (then as in 200).",
            model=Accepted,
            headers={"Location": "The intent.", **REPLAYED_HEADER},
        ),
        200: Answer(description="With Prefer: wait: every line has settled.", model=PlaceIntent),
        207: Answer(description="With Prefer: wait: some lines have settled.", model=PlaceIntent),
    },
    problems=(*INTENT_KEY_PROBLEMS, "OVERLOADED"),
)
async def place_multi(door: Door, call: Call) -> Reply:
    """Place one or many orders.

    The answer comes as soon as the orders are durable; it does not wait for any broker. Sending the same request with
    the same Idempotency-Key again is always safe: it gives the same answer, from any process, and places nothing more.

    What can be told of a request alone is checked here, and a request that is refused stores nothing and uses up no
    key. What needs data (does the instrument exist, is there margin) is told per line afterwards, as REJECTED with
    its reason.
    """
    request = call.request
    key = idempotency_key(request)
    wait_s = wait_preference(request.get_header("PREFER"), longest_s=parameters.WAIT_MAX_S)
    body = await json_body(request)
    refusal = door.intake.refuse()
    if refusal is not None and not await door.known_keys.has(call.key.user_id, key):
        return refused_for_now(request, refusal)  # before it costs more: most of what is sent now gets this answer
    wanted, canonical = shape.read_place_request(body, lines_max=door.settings.max_orders_per_batch)
    submission = Submission(
        user_id=call.key.user_id,
        key_id=call.key.id,
        idempotency_key=key,
        fingerprint=shape.fingerprint("POST", "/v2/orders/multi", canonical),
        request=wanted,
    )
    acceptance = await door.landing.of(door.intake.submit(submission))
    return await _after_waiting(door, call, acceptance, wait_s) if wait_s else _accepted(acceptance)


def _accepted(acceptance: Acceptance) -> Reply:
    path = path_of(acceptance.intent_id)
    document = {
        "intentId": acceptance.intent_id,
        "status": "RUNNING",
        "orders": [
            {"line": at.line, "correlationId": at.correlation_id, "orderId": at.order_id, "state": "RECEIVED"}
            for at in acceptance.lines
        ],
        "links": {"intent": path},
    }
    headers = {"Location": path, **REPLAYED} if acceptance.replayed else {"Location": path}
    return Reply(202, orjson.dumps(document), headers)


async def _after_waiting(door: Door, call: Call, acceptance: Acceptance, wait_s: int) -> Reply:
    """The intent as it stands when all lines have settled or the time is over; the acceptance is durable already."""
    await door.waiters.until_settled(acceptance.intent_id, [line.order_id for line in acceptance.lines], wait_s)
    view = await as_it_stands(door, call, acceptance.intent_id)
    status = 200 if view["settled"] == view["total"] else 207 if view["settled"] else 202
    headers = {"Location": path_of(acceptance.intent_id), "Preference-Applied": f"wait={wait_s}"}
    return Reply(status, orjson.dumps(view), headers | REPLAYED if acceptance.replayed else headers)


@op(
    "GET",
    "/v2/orders",
    tag="Orders",
    roles=EVERY_ROLE,
    parameters=(
        parameters.STATE,
        parameters.BROKER,
        parameters.ACCOUNT,
        parameters.INSTRUMENT,
        parameters.INTENT,
        parameters.PARENT,
        parameters.LIMIT,
        parameters.AFTER_ID,
    ),
    answers={200: Answer(description="A page of orders, newest first.", model=OrderPage)},
)
async def list_orders(door: Door, call: Call) -> Reply:
    """Orders, newest first."""
    query = call.query
    filters = Filters(
        states=query["state"],
        broker=query["broker"],
        account=query["account"],
        instrument=query["instrument"],
        intent=query["intent"],
        parent=query["parent"],
    )
    page = await door.reader.ask(
        queries.order_page, scope_of(call.key), filters, limit=query["limit"], after=query["after"]
    )
    return Reply(200, orjson.dumps({"orders": page.rows, "next": page.next}))


@op(
    "GET",
    "/v2/orders/{orderId}",
    tag="Orders",
    roles=EVERY_ROLE,
    answers={200: Answer(description="The order.", model=OrderDetail, headers={"ETag": "The order's version."})},
    problems=("NOT_FOUND",),
)
async def show_order(door: Door, call: Call) -> Reply:
    """One order as it stands, with the modifies and cancels of it that are under way."""
    order_id = parameters.id_in_path(call.path["orderId"], "order")
    view = await door.reader.ask(queries.order, scope_of(call.key), order_id)
    if view is None:
        raise NotFound("order", order_id)
    view["changes"] = await door.reader.ask(changes.undone_of, order_id) if view["changing"] else []
    return Reply(200, orjson.dumps(view), {"ETag": f'"{view["version"]}"'})


@op(
    "GET",
    "/v2/orders/{orderId}/history",
    tag="Orders",
    roles=EVERY_ROLE,
    answers={200: Answer(description="Every event of the order, oldest first.", model=History)},
    problems=("NOT_FOUND",),
)
async def show_history(door: Door, call: Call) -> Reply:
    """What happened to an order: its events, and its calls to brokers by their kind, oldest first."""
    order_id = parameters.id_in_path(call.path["orderId"], "order")
    view = await door.reader.ask(queries.history, scope_of(call.key), order_id)
    if view is None:
        raise NotFound("order", order_id)
    return Reply(200, orjson.dumps(view))


@op(
    "GET",
    "/v2/orders/{orderId}/trades",
    tag="Orders",
    roles=EVERY_ROLE,
    answers={200: Answer(description="The order's trades, oldest first.", model=TradePage)},
    problems=("NOT_FOUND",),
)
async def show_trades(door: Door, call: Call) -> Reply:
    """The trades of one order, oldest first."""
    order_id = parameters.id_in_path(call.path["orderId"], "order")
    view = await door.reader.ask(queries.trades_of, scope_of(call.key), order_id)
    if view is None:
        raise NotFound("order", order_id)
    return Reply(200, orjson.dumps(view))
