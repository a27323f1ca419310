"""Brokers over HTTP: the accounts a caller has, and how their brokers are doing."""

from __future__ import annotations

import orjson

from ingress.answers import BrokerList
from ingress.door import Door, scope_of
from ingress.operations import EVERY_ROLE, Answer, Call, op
from ingress.wire import Reply
from readmodel import queries


@op(
    "GET",
    "/v2/brokers",
    tag="Brokers",
    roles=EVERY_ROLE,
    answers={200: Answer(description="Brokers, each with the caller's accounts.", model=BrokerList)},
)
async def list_brokers(door: Door, call: Call) -> Reply:
    """Brokers with their accounts: sessions, money blocked, orders waiting.

    `multiPlace` is how many lines the broker takes in one call, null where it is not known. `circuit` is OPEN while calls
    to the broker get nowhere and wait, else CLOSED.
    """
    views = await door.reader.ask(queries.broker_views, scope_of(call.key))
    names = {view["broker"].lower() for view in views}
    circuits = await door.reader.run(lambda: {name: door.circuit(name) for name in names})
    for view in views:
        view["circuit"] = circuits[view["broker"].lower()]
        view["multiPlace"] = door.lines_per_call.get(view["broker"].lower())
    return Reply(200, orjson.dumps({"brokers": views}))
