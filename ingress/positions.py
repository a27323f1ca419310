"""Positions over HTTP: closing them with one intent."""

from __future__ import annotations

import orjson
from pydantic import TypeAdapter

from domain.squareoff import SquareOff
from ingress import parameters, schedules, shape
from ingress.door import Door
from ingress.intents import path_of
from ingress.operations import INTENT_KEY_PROBLEMS, PLACES, REPLAYED_HEADER, Answer, Call, op
from ingress.operators import there
from ingress.schedule_forms import SquaredOffView
from ingress.wire import REPLAYED, Reply, idempotency_key, json_body

_SQUARE_OFF = TypeAdapter(SquareOff)


@op(
    "POST",
    "/v2/positions/square-off",
    tag="Positions",
    roles=PLACES,
    parameters=(parameters.IDEMPOTENCY_KEY,),
    body=SquareOff,
    body_example={"filter": {"account": "UP0001", "product": "MIS"}, "cancelOpen": True, "marketProtection": "2"},
    answers={
        202: Answer(
            description="Accepted and durable: these orders close the positions.",
            model=SquaredOffView,
            headers={"Location": "The intent, or the schedule.", **REPLAYED_HEADER},
        ),
        200: Answer(description="Nothing is to be closed; or, of a dry run, what would be.", model=SquaredOffView),
    },
    problems=(*INTENT_KEY_PROBLEMS, "NOT_FOUND"),
)
async def square_off(door: Door, call: Call) -> Reply:
    """Close positions: one intent with an order on the other side for each, at most 500.

    Positions are those of the record: what was bought less what was sold, of MIS today, of NRML on any day; CNC and MTF only
    where they are named. What open orders on the other side may still take is left to them, and told in `left`: asking
    twice, even with two keys, never turns a position over. With `cancelOpen` these are cancelled, and what they leave is
    closed by a schedule as soon as they have ended.

    It is let in however much work waits in the stages. Nothing to close is a 200 with empty lists, and uses up no key.
    """
    from pipeline import squareoff

    request = call.request
    key = idempotency_key(request)
    wanted, canonical = shape.read_change(await json_body(request), _SQUARE_OFF)
    wanted.check()
    fingerprint = shape.fingerprint("POST", "/v2/positions/square-off", canonical)
    asked = squareoff.Asked(call.key.user_id, call.key.id, key, fingerprint)
    told = await there(door.changers).run(lambda desk: squareoff.accept(desk, asked, wanted))
    links = {
        "intent": told.intent_id and path_of(told.intent_id),
        "cancelIntent": told.cancel_intent_id and path_of(told.cancel_intent_id),
        "schedule": told.schedule_id and schedules.path_of(told.schedule_id),
    }
    document = {
        "intentId": told.intent_id,
        "orders": told.orders,
        "left": told.left,
        "cancelIntentId": told.cancel_intent_id,
        "scheduleId": told.schedule_id,
        "links": links,
    }
    where = links["intent"] or links["schedule"]
    headers = {"Location": where} if where else {}
    return Reply(202 if where else 200, orjson.dumps(document), headers | (REPLAYED if told.replayed else {}))
