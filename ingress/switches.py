"""Switches over HTTP: what may be sent for everything, a user, an account or a strategy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson
from pydantic import TypeAdapter

from domain.switches import Scope
from ingress import parameters, shape
from ingress.door import Door
from ingress.operations import (
    EVERY_ROLE,
    KEY_PROBLEMS,
    OPERATES,
    PLACES,
    REPLAYED_HEADER,
    Answer,
    Call,
    Parameter,
    op,
)
from ingress.operators import there
from ingress.problems import bad_parameter
from ingress.switch_forms import SwitchList, SwitchView, TurnSwitch
from ingress.wire import REPLAYED, Reply, Request, idempotency_key, json_body
from store.acts import Once
from store.json import storable
from store.users import Role

if TYPE_CHECKING:
    from pipeline.switches import By

TAG = "Switches"
_TURN = TypeAdapter(TurnSwitch)
_VERSION = re.compile(r'"?([0-9]{1,9})"?')
SCOPE = Parameter(
    name="scope",
    where="path",
    schema={"type": "string", "enum": [scope.value for scope in Scope]},
    description="What it is for; in any case.",
    read=str,
    required=True,
)
SUBJECT = Parameter(
    name="subject",
    where="path",
    schema={"type": "string", "minLength": 1, "maxLength": 200},
    description="Of ALL `all`; of USER an id or `me`, for operators a name as well; of ACCOUNT its id; of STRATEGY its name,"
    " for operators `<user>:<strategy>`.",
    read=str,
    required=True,
)
VERSION = Parameter(
    name="If-Match",
    where="header",
    schema={"type": "string", "pattern": r'^"?[0-9]{1,9}"?$'},
    description="Only if this is its version; 0 where there is none yet.",
    read=str,
)


@op(
    "GET",
    "/v2/switches",
    tag=TAG,
    roles=EVERY_ROLE,
    answers={200: Answer(description="Every switch that was ever turned, and counts for the caller.", model=SwitchList)},
)
async def list_switches(door: Door, call: Call) -> Reply:
    """The switches with their modes, reasons, and what followed them; a trader sees those that count for its orders."""
    from pipeline import switches

    by = _by(call)
    if call.key.role is Role.AUDITOR:
        by = switches.By(name=by.name, user_id=by.user_id, is_operator=True)
    found = await there(door.switchers).run(lambda desk: switches.show(desk, by))
    return Reply(200, orjson.dumps({"switches": found}))


@op(
    "PUT",
    "/v2/switches/{scope}/{subject}",
    tag=TAG,
    roles=PLACES | OPERATES,
    parameters=(SCOPE, SUBJECT, parameters.IDEMPOTENCY_KEY, VERSION),
    body=TurnSwitch,
    body_example={"mode": "HALTED", "reason": "the strategy runs away", "cancelOpen": True},
    answers={
        200: Answer(
            description="It is turned, now or by an earlier request with this key. What follows is carried out meanwhile.",
            model=SwitchView,
            headers={"ETag": "Its version.", **REPLAYED_HEADER},
        )
    },
    problems=(*KEY_PROBLEMS, "BAD_PARAMETER", "NOT_FOUND", "STALE_DOCUMENT"),
)
async def turn_switch(door: Door, call: Call) -> Reply:
    """Halt, restrict or resume.

    From the answer on nothing that it forbids begins to be sent. A halt ends what was not sent yet as well. A trader turns its
    own user, accounts and strategies, and may not loosen what an operator has set; operators and admins turn everything.
    """
    from pipeline import switches

    scope, subject = _scope(call.path["scope"]), storable(call.path["subject"])
    version = version_wanted(call.request)
    key = idempotency_key(call.request)
    form, canonical = shape.read_form(await json_body(call.request), _TURN)
    once = Once(call.key.user_id, key, shape.fingerprint("PUT", call.request.path, canonical, version=version))
    asked = switches.Turn(
        mode=form.mode,
        reason=storable(form.reason),
        cancel_open=form.cancel_open,
        flatten=form.flatten,
        version=version,
    )
    told = await there(door.switchers).run(lambda desk: switches.turn(desk, scope, subject, asked, _by(call, once)))
    door.follow()
    is_replayed = told.pop("replayed", False)
    headers = {"ETag": f'"{told["version"]}"', **(REPLAYED if is_replayed else {})}
    return Reply(200, orjson.dumps(told), headers)


def version_wanted(request: Request) -> int | None:
    """The version of an `If-Match` that isn't required. Raises Problem where it is none."""
    given = request.get_header("IF-MATCH")
    if given is None:
        return None
    found = _VERSION.fullmatch(given.strip())
    if found is None:
        raise bad_parameter("If-Match", 'one version is wanted, such as "3"')
    return int(found[1])


def _scope(text: str) -> Scope:
    try:
        return Scope(text.upper())
    except ValueError:
        raise bad_parameter("scope", f"one of {', '.join(scope.value for scope in Scope)} is wanted") from None


def _by(call: Call, once: Once | None = None) -> By:
    from pipeline.switches import By

    key = call.key
    return By(name=key.name, user_id=key.user_id, is_operator=key.role in OPERATES, via=f"key {key.id}", once=once)
