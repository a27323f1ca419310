"""Trades over HTTP."""

from __future__ import annotations

import orjson

from ingress import parameters
from ingress.answers import TradePage
from ingress.door import Door, scope_of
from ingress.operations import EVERY_ROLE, Answer, Call, op
from ingress.wire import Reply
from readmodel import queries
from readmodel.queries import Filters


@op(
    "GET",
    "/v2/trades",
    tag="Trades",
    roles=EVERY_ROLE,
    parameters=(
        parameters.BROKER,
        parameters.ACCOUNT,
        parameters.INSTRUMENT,
        parameters.LIMIT,
        parameters.AFTER_TRADE,
    ),
    answers={200: Answer(description="A page of trades, newest first.", model=TradePage)},
)
async def list_trades(door: Door, call: Call) -> Reply:
    """Trades, newest first."""
    query = call.query
    filters = Filters(broker=query["broker"], account=query["account"], instrument=query["instrument"])
    page = await door.reader.ask(
        queries.trade_page, scope_of(call.key), filters, limit=query["limit"], after=query["after"]
    )
    return Reply(200, orjson.dumps({"trades": page.rows, "next": page.next}))
