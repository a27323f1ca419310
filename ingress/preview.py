"""A place request tried out over HTTP: what every stage says of it and what each broker would be sent, and nothing done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from domain.intents import PlaceRequest
from domain.verdicts import Reject, Wait
from ingress import shape
from ingress.door import Door
from ingress.operations import PLACES, Answer, Call, op
from ingress.operators import there
from ingress.orders import PLACE_EXAMPLE
from ingress.preview_forms import PreviewView
from ingress.wire import Reply, json_body
from readmodel.views import View, broker_text, decimal_text, moment_text, paise_text
from store.json import dump

if TYPE_CHECKING:
    from pipeline.preview import Preview, PreviewedCall, PreviewedLine

STAGES = ("validate", "risk", "margin", "route")
NOTES = (
    "Nothing was sent, stored or reserved; the next request may find other totals, prices and sessions.",
    "Tags are stand-ins: an order's own tag is made of its id when it is accepted, and has the same length.",
    "Calls are grouped as they are when all lines are ready at once and the rate budget has room for them.",
)


@op(
    "POST",
    "/v2/orders/preview",
    tag="Placing",
    roles=PLACES,
    body=PlaceRequest,
    body_example=PLACE_EXAMPLE,
    answers={200: Answer(description="What would become of it at this moment.", model=PreviewView)},
)
async def preview_orders(door: Door, call: Call) -> Reply:
    """Try a place request out: each stage's verdict, margin, charges, route and the exact requests to the brokers.

    The body is that of `POST /v2/orders/multi`. Nothing is sent, stored or reserved, and no Idempotency-Key is needed.
    Lines are judged one after another: what one takes, the next no longer has.
    """
    from pipeline.preview import preview

    body = await json_body(call.request)
    wanted, _ = shape.read_place_request(body, lines_max=door.settings.max_orders_per_batch)
    user_id = call.key.user_id
    shown = await there(door.trials).run(lambda desk: preview(desk, user_id, wanted))
    return Reply(200, orjson.dumps(view_of(shown)))


def view_of(shown: Preview) -> View:
    calls = [_call_view(number, call) for number, call in enumerate(shown.calls)]
    orders = [_line_view(line, calls) for line in shown.lines]
    cleared = sum(order["outcome"] == "CLEARED" for order in orders)
    return {
        "at": moment_text(shown.at),
        "status": "CLEARED" if cleared == len(orders) else "PARTIAL" if cleared else "NONE",
        "orders": orders,
        "calls": calls,
        "notes": list(NOTES),
    }


def _line_view(line: PreviewedLine, calls: list[View]) -> View:
    from pipeline.preview import facts_of, outcome_of

    order, margin = line.order, facts_of(line, "margin")
    cut = len(line.parts) > 1
    return {
        "line": order.line,
        "correlationId": order.correlation_id,
        "instrument": order.instrument,
        "side": order.side,
        "quantity": order.quantity,
        "product": order.product,
        "orderType": order.order_type,
        "price": decimal_text(order.price),
        "triggerPrice": decimal_text(order.trigger_price),
        "outcome": outcome_of(line.verdict),
        "reason": _reason(line),
        "held": line.held,
        "stages": _stages(line),
        "margin": _margin(margin) if margin else None,
        "charges": _charges(margin) if margin else None,
        "broker": broker_text(line.account.broker) if line.account else None,
        "account": line.account.id if line.account else None,
        "route": [
            {
                "broker": broker_text(choice.account.broker),
                "account": choice.account.id,
                "place": choice.place,
                "chosen": choice.is_chosen,
                "why": choice.why,
            }
            for choice in line.choices
        ],
        "slices": [{"quantity": part.quantity, "tag": part.broker_tag} for part in line.parts] if cut else [],
        "calls": [call["number"] for call in calls if any(at["line"] == order.line for at in call["lines"])],
    }


def _margin(facts: Mapping[str, Any]) -> View:
    required, available = paise_text(facts["required_paise"]), paise_text(facts["available_paise"])
    return {"required": required, "available": available, "basis": facts["basis"]}


def _charges(facts: Mapping[str, Any]) -> View:
    return {
        "total": paise_text(facts["charges_paise"]),
        "lines": {name: format(amount, "f") for name, amount in facts["charges"].items()},
        "rateCard": facts["rate_card"],
        "assumed": list(facts["assumed"]),
    }


def _reason(line: PreviewedLine) -> View | None:
    match line.verdict:
        case Reject(code, _) as rejected:
            return {"code": code, "text": rejected.text}
        case Wait(_, why):
            return {"code": "WAITING", "text": why}
    return None


def _stages(line: PreviewedLine) -> list[View]:
    """As an order's history tells them, and a word for each that the order doesn't get to."""
    reached: list[dict[str, Any]] = orjson.loads(dump(line.said))
    told = [{name: of for name, of in said.items() if name != "until"} for said in reached]
    missing = STAGES[len(told) :]
    return told + [{"stage": stage, "verdict": "NOT_REACHED"} for stage in missing]


def _call_view(number: int, call: PreviewedCall) -> View:
    payload = call.payload
    return {
        "number": number,
        "broker": broker_text(call.broker),
        "account": call.account_id,
        "lines": [
            {"line": order.line, "quantity": order.quantity, "tag": order.broker_tag} for order in call.orders
        ],
        "request": payload
        and {
            "method": payload.method,
            "url": payload.base_url + payload.target,
            "headers": dict(payload.headers),
            "hiddenHeaders": sorted(payload.secret_headers),
            "body": payload.body.decode(),
        },
        "refusal": call.refusal,
    }
