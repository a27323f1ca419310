"""Postbacks over HTTP: where brokers tell of their orders. Anyone can reach it, so nothing it hears is believed."""

from __future__ import annotations

from ingress.answers import Heard
from ingress.door import Door
from ingress.operations import Answer, Call, Parameter, matching, op
from ingress.wire import Reply

BROKER = Parameter(
    name="broker",
    where="path",
    required=True,
    schema={"type": "string", "pattern": "^[a-z]{2,20}$"},
    description="The broker that calls, as in `upstox`.",
    read=matching(r"[a-z]{2,20}", "a broker's name in lower case is wanted"),
    example="upstox",
)


@op(
    "POST",
    "/postbacks/{broker}",
    tag="Brokers",
    roles=None,
    parameters=(BROKER,),
    answers={202: Answer(description="Heard; the broker's book will be read.", model=Heard)},
    problems=("NOT_FOUND", "MALFORMED"),
)
async def hear_postback(door: Door, call: Call) -> Reply:
    """Hear a broker's order update.

    It needs no key and changes nothing: it makes the coordinator read the broker's book itself, as far as the read
    budget goes. Where the broker signs its postbacks, one that is not signed rightly is ignored.
    """
    body = await call.request.body()
    headers = {name.lower(): value for name, value in call.request.headers.items()}
    await door.reader.run(lambda: door.hear(call.path["broker"], headers, body))
    return Reply(202, b'{"status":"heard"}')
