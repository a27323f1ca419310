"""Signals over HTTP: strategies that users define, and the webhook where charting programs deliver without an API key."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter

from domain.errors import (
    CoordinatorError,
    Fault,
    Malformed,
    NoSuchSignal,
    NotFound,
    StoreAway,
    TooManyRequests,
)
from domain.guards import Guard
from domain.ids import new_id
from domain.intents import PlaceRequest, Submission
from domain.signals import SECRET, SignalForm, digest_of, nonce_of, order_of, template_faults
from ingress import parameters, shape
from ingress.door import Door
from ingress.intents import path_of
from ingress.operations import KEY_PROBLEMS, PLACES, REPLAYED_HEADER, Answer, Call, Parameter, matching, op
from ingress.operators import there
from ingress.problems import Problem
from ingress.signal_bodies import fields_of
from ingress.signal_forms import (
    DeliveryPage,
    NewSecret,
    SignalRemoved,
    SignalStrategyDefined,
    SignalStrategyList,
    SignalStrategyView,
    SignalTaken,
)
from ingress.wire import REPLAYED, Reply, idempotency_key, json_body
from readmodel import signals
from readmodel.views import View
from store.acts import Once
from store.users import ApiKey, Role

if TYPE_CHECKING:
    from pipeline.signals import Who
    from store.signals import Strategy

TAG = "Signals"
SIGNALS_PER_S = 100  # of one strategy, over all processes
WRONG_PER_S = 5  # deliveries to one address whose secret is wrong
_NAME = r"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}"
_NAMED = re.compile(_NAME)
_FORM = TypeAdapter(SignalForm)

NAME = Parameter(
    name="name",
    where="path",
    required=True,
    schema={"type": "string", "pattern": f"^{_NAME}$"},
    description="The strategy's name.",
    read=matching(_NAME, "a strategy's name is wanted"),
    example="breakout",
)
USER = Parameter(
    name="user",
    where="path",
    required=True,
    schema={"type": "string", "minLength": 1},
    description="The name of the user who defined the strategy; `path` of the strategy has it.",
    read=str,
    example="ada",
)
SECRET_IN_QUERY = Parameter(
    name="secret",
    schema={"type": "string", "maxLength": 128},
    description="The strategy's secret, where neither a header nor the body can have it. Proxies like to log it.",
    read=str,
)
SECRET_IN_HEADER = Parameter(
    name="X-Signal-Secret",
    where="header",
    schema={"type": "string"},
    description="The strategy's secret. The safest place, for programs that can set headers.",
    read=str,
)
EXAMPLE = {
    "windowSec": 60,
    "broker": "UPSTOX",
    "maxUnsentSec": 30,
    "template": {
        "instrument": {"field": "ticker", "prefix": "NSE:", "aliases": {"NIFTY1!": "NFO:NIFTY-FUT"}},
        "side": {"field": "action", "map": {"buy": "BUY", "sell": "SELL"}},
        "quantity": {"field": "contracts"},
        "product": {"value": "MIS"},
        "orderType": {"value": "LIMIT"},
        "price": {"field": "price"},
        "tag": {"field": "comment"},
    },
}


@op(
    "GET",
    "/v2/signals",
    tag=TAG,
    roles=PLACES,
    answers={200: Answer(description="The caller's signal strategies, by name.", model=SignalStrategyList)},
)
async def list_signals(door: Door, call: Call) -> Reply:
    """The caller's signal strategies."""
    found = await door.reader.ask(signals.strategies, call.key.user_id)
    return Reply(200, orjson.dumps({"strategies": found}))


@op(
    "GET",
    "/v2/signals/{name}",
    tag=TAG,
    roles=PLACES,
    parameters=(NAME,),
    answers={200: Answer(description="The strategy, without its secret.", model=SignalStrategyView)},
    problems=("NOT_FOUND",),
)
async def show_signal(door: Door, call: Call) -> Reply:
    """One signal strategy. Its secret can't be shown again."""
    return Reply(200, orjson.dumps(await _view(door, call)))


@op(
    "PUT",
    "/v2/signals/{name}",
    tag=TAG,
    roles=PLACES,
    parameters=(NAME, parameters.IDEMPOTENCY_KEY),
    body=SignalForm,
    body_example=EXAMPLE,
    answers={
        201: Answer(
            description="A new strategy; its secret is shown this once.", model=SignalStrategyDefined, headers=REPLAYED_HEADER
        ),
        200: Answer(description="It was changed and keeps its secret.", model=SignalStrategyDefined, headers=REPLAYED_HEADER),
    },
    problems=(*KEY_PROBLEMS, "NOT_FOUND", "BAD_PARAMETER"),
)
async def define_signal(door: Door, call: Call) -> Reply:
    """Define a signal strategy, or change one: how an order is made of what a charting program sends.

    The template says for each word of the order which field of the signal it is, or gives it a fixed value. What of it
    can never make an order is refused here. Switched off (`enabled`), what it has placed and isn't sent yet is not sent.
    """
    from pipeline.signals import define

    name = _name(call, wanted=True)
    key = idempotency_key(call.request)
    form, canonical = shape.read_form(await json_body(call.request), _FORM)
    faults = tuple(template_faults(form))
    if faults:
        raise Malformed(faults[: shape.FAULTS_MAX])
    who = _who(call, key, "PUT", canonical)
    told = await there(door.changers).run(lambda desk: define(desk, who, name, form))
    view = await _view(door, call)
    headers = REPLAYED if told["replayed"] else None
    return Reply(201 if told["created"] else 200, orjson.dumps({**view, "secret": told["secret"]}), headers)


@op(
    "POST",
    "/v2/signals/{name}/rotate",
    tag=TAG,
    roles=PLACES,
    parameters=(NAME, parameters.IDEMPOTENCY_KEY),
    answers={200: Answer(description="The new secret, shown this once.", model=NewSecret, headers=REPLAYED_HEADER)},
    problems=(*KEY_PROBLEMS, "NOT_FOUND"),
)
async def rotate_signal(door: Door, call: Call) -> Reply:
    """Give a strategy a new secret. The old one stops at once, and what it has placed and isn't sent yet is not sent."""
    from pipeline.signals import rotate

    name = _name(call)
    who = _who(call, idempotency_key(call.request), "POST", b"")
    told = await there(door.changers).run(lambda desk: rotate(desk, who, name))
    document = {"name": name, "secret": told["secret"]}
    return Reply(200, orjson.dumps(document), REPLAYED if told["replayed"] else None)


@op(
    "DELETE",
    "/v2/signals/{name}",
    tag=TAG,
    roles=PLACES,
    parameters=(NAME, parameters.IDEMPOTENCY_KEY),
    answers={200: Answer(description="It is gone.", model=SignalRemoved, headers=REPLAYED_HEADER)},
    problems=(*KEY_PROBLEMS, "NOT_FOUND"),
)
async def remove_signal(door: Door, call: Call) -> Reply:
    """Remove a strategy: its signals are refused from now on, and what it has placed and isn't sent yet is not sent."""
    from pipeline.signals import remove

    name = _name(call)
    who = _who(call, idempotency_key(call.request), "DELETE", b"")
    told = await there(door.changers).run(lambda desk: remove(desk, who, name))
    return Reply(200, orjson.dumps({"name": name, "status": "REMOVED"}), REPLAYED if told["replayed"] else None)


@op(
    "GET",
    "/v2/signals/{name}/received",
    tag=TAG,
    roles=PLACES,
    parameters=(NAME, parameters.LIMIT, parameters.AFTER_ID),
    answers={200: Answer(description="A page of deliveries, newest first.", model=DeliveryPage)},
    problems=("NOT_FOUND",),
)
async def list_received(door: Door, call: Call) -> Reply:
    """What the strategy has received: accepted, suppressed, replayed or refused, and why. Without a right secret: nothing."""
    name, user_id = _name(call), call.key.user_id
    limit, after = call.query["limit"], call.query["after"]
    if await door.reader.ask(signals.strategy, user_id, name) is None:
        raise NotFound("signal strategy", name)
    rows, cursor = await door.reader.ask(signals.received, user_id, name, limit=limit, after=after)
    return Reply(200, orjson.dumps({"signals": rows, "next": cursor}))


@op(
    "POST",
    "/signals/{user}/{name}",
    tag=TAG,
    roles=None,
    parameters=(USER, NAME, SECRET_IN_QUERY, SECRET_IN_HEADER),
    answers={
        202: Answer(
            description="Accepted and durable: an order was made of it.",
            model=SignalTaken,
            headers={"Location": "The intent."},
        ),
        200: Answer(
            description="SUPPRESSED: the same signal came within the window before. REPLAYED: its nonce did.",
            model=SignalTaken,
            headers={"Location": "The intent of the first one."},
        ),
    },
    problems=(
        "NOT_AUTHENTICATED",
        "MALFORMED",
        "MALFORMED_JSON",
        "DUPLICATE_FIELD",
        "BODY_TOO_LARGE",
        "BAD_REQUEST",
        "SIGNALS_DISABLED",
        "NONCE_REUSED",
        "RATE_LIMITED",
        "OVERLOADED",
        "STORE_UNAVAILABLE",
    ),
)
async def hear_signal(door: Door, call: Call) -> Reply:
    """Deliver a signal: JSON or a form, of which the strategy's template makes one order.

    It needs no API key but the strategy's secret: in the header `X-Signal-Secret`, in the body's field `secret`, or as
    `?secret=`. The same order again within the strategy's window makes no second order, unless it has a new `nonce`.
    """
    body = await call.request.body()
    fields, fault = _read(body)
    secret = call.request.get_header("X-SIGNAL-SECRET") or call.query[SECRET.lower()] or fields.get(SECRET)
    strategy = await _let_in(door, call, secret if isinstance(secret, str) else None)
    signal_id = new_id()
    try:
        if fault is not None:
            raise fault
        submission = _submission(strategy, signal_id, {name: of for name, of in fields.items() if name != SECRET})
        _keep_out(secret, submission)
    except (CoordinatorError, Problem) as error:
        await _note_refused(door, strategy, signal_id, error)
        raise
    try:
        acceptance = await door.landing.of(door.intake.submit(submission))
    except StoreAway:
        raise
    except CoordinatorError as error:
        if error.code == "OVERLOADED":  # what the intake itself refuses it has written down
            await _note_refused(door, strategy, signal_id, error)
        raise
    path = path_of(acceptance.intent_id)
    repeated = "SUPPRESSED" if submission.guard is not None and submission.guard.nonce is None else "REPLAYED"
    document = {
        "status": repeated if acceptance.replayed else "ACCEPTED",
        "signalId": signal_id,
        "intentId": acceptance.intent_id,
        "links": {"intent": path},
    }
    return Reply(200 if acceptance.replayed else 202, orjson.dumps(document), {"Location": path})


def _read(body: bytes) -> tuple[Mapping[str, Any], Problem | None]:
    """The fields, and what is wrong with the body: told only to those who know a secret."""
    try:
        return fields_of(body), None
    except Problem as problem:
        return {}, problem


async def _let_in(door: Door, call: Call, secret: str | None) -> Strategy:
    """The strategy whose secret came along. Raises NoSuchSignal, and TooManyRequests for either.

    Anybody may ask, without a key: so many at once that they would wait long get Overloaded.
    """
    from pipeline.signals import find

    user, name = call.path["user"], call.path["name"]
    strategy = await there(door.signallers).run(lambda desk: find(desk, user, name, secret))
    if strategy is None:
        address = hashlib.blake2s(f"{user}/{name}".encode("utf-8", "replace"), digest_size=16).hexdigest()
        await _throttle(door, f"signal-wrong:{address}", WRONG_PER_S, "too many signals with a wrong secret came here")
        raise NoSuchSignal
    await _throttle(
        door, f"signal:{strategy.id}", SIGNALS_PER_S, f"this strategy may receive {SIGNALS_PER_S} signals a second"
    )
    return strategy


async def _throttle(door: Door, name: str, rate: int, words: str) -> None:
    """Signals have no key; they are counted as those of one would be."""
    try:
        await door.throttle.take(ApiKey(name, "", "", Role.TRADER, rate))
    except TooManyRequests:
        raise TooManyRequests(words, retry_after_s=1) from None


def _submission(strategy: Strategy, signal_id: str, fields: Mapping[str, Any]) -> Submission:
    form = SignalForm.model_validate(strategy.form)
    line = order_of(form, strategy.name, fields)
    digest = digest_of(line)
    return Submission(
        user_id=strategy.user_id,
        key_id=strategy.id,
        idempotency_key=f"signal {strategy.id} {signal_id}",  # with blanks, as no client's key has
        fingerprint=digest,
        request=PlaceRequest(orders=(line,), max_unsent_sec=form.max_unsent_sec),
        guard=Guard(signal_id, strategy.id, digest, nonce_of(fields)),
    )


def _keep_out(secret: object, submission: Submission) -> None:
    """No secret gets into the record, not even as a note of the order. Raises Malformed."""
    (line,), nonce = submission.request.orders, submission.guard and submission.guard.nonce
    if isinstance(secret, str) and (secret in (line.tag or "") or secret in (nonce or "")):
        raise Malformed((Fault("", "HOLDS_SECRET", "the secret stands in the order's tag or in the nonce"),))


async def _note_refused(door: Door, strategy: Strategy, signal_id: str, error: CoordinatorError | Problem) -> None:
    from pipeline.signals import note_refused

    await there(door.signallers).run(lambda desk: note_refused(desk, strategy, signal_id, error.code, _words(error)))


def _words(error: CoordinatorError | Problem) -> str:
    return error.detail if isinstance(error, Problem) else str(error)


async def _view(door: Door, call: Call) -> View:
    name = _name(call)
    view = await door.reader.ask(signals.strategy, call.key.user_id, name)
    if view is None:
        raise NotFound("signal strategy", name)
    return view


def _name(call: Call, *, wanted: bool = False) -> str:
    """The name in the path; whatever can't be one names nothing. Raises NotFound, or Problem where one is to be given."""
    name = call.path["name"]
    if _NAMED.fullmatch(name):
        return name
    if wanted:
        detail = "name: letters, digits, dots, dashes and underscores are wanted, 64 at most"
        fault = {"parameter": "name", "code": "BAD_PARAMETER", "detail": detail}
        raise Problem("BAD_PARAMETER", detail, errors=[fault])
    raise NotFound("signal strategy", "of this name")


def _who(call: Call, key: str, method: str, canonical: bytes) -> Who:
    from pipeline.signals import Who

    once = Once(call.key.user_id, key, shape.fingerprint(method, call.request.path, canonical))
    return Who(call.key.user_id, call.key.name, f"key {call.key.id}", once)
