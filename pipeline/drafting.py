"""Drafting: the orders that a request asks for, as they are when nobody has looked at them yet."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from domain.events import Event, EventType, Source
from domain.groups import GroupPolicy
from domain.ids import broker_tag, new_id
from domain.intents import OrderLine, Submission
from domain.lifecycle import OrderState
from domain.orders import Order
from pipeline.desk import Desk


def policy_for(desk: Desk, submission: Submission) -> GroupPolicy:
    """What the request says; where it says nothing, what its user has chosen."""
    request = submission.request
    if request.policy is not None or len(request.orders) == 1:
        return request.policy or GroupPolicy.BEST_EFFORT
    chosen = desk.user_settings().get(submission.user_id)
    is_partial = chosen is None or chosen.allow_partial_multi_order
    return GroupPolicy.BEST_EFFORT if is_partial else GroupPolicy.ALL_OR_NONE


def make_orders(
    installation: str,
    submission: Submission,
    now: datetime,
    send_before: datetime,
    policy: GroupPolicy = GroupPolicy.BEST_EFFORT,
) -> tuple[Order, ...]:
    """The orders of a request; they are a group where its lines, by the policy or by what they come after, wait for others."""
    intent_id = new_id()
    lines = submission.request.orders
    is_group = len(lines) > 1 and (
        policy is not GroupPolicy.BEST_EFFORT or any(line.after is not None for line in lines)
    )
    made = []
    for number, line in enumerate(submission.request.orders):
        order_id = new_id()
        made.append(
            Order(
                id=order_id,
                intent_id=intent_id,
                line=number,
                correlation_id=line.correlation_id,
                user_id=submission.user_id,
                instrument=line.instrument,
                side=line.side,
                quantity=line.quantity,
                product=line.product,
                order_type=line.order_type,
                validity=line.validity,
                price=line.price,
                trigger_price=line.trigger_price,
                disclosed_quantity=line.disclosed_quantity,
                market_protection=line.market_protection,
                wanted_broker=line.broker.lower() if line.broker else None,
                wanted_account=line.account,
                strategy=line.strategy,
                tag=line.tag,
                broker_tag=broker_tag(installation, order_id),
                accepted_at=now,
                send_before=send_before,
                policy=policy if is_group else None,
                after=line.after,
            )
        )
    return tuple(made)


def received(order: Order, line: OrderLine) -> Event:
    terms = {
        "instrument": order.instrument,
        "quantity": order.quantity,
        "order_type": order.order_type,
        "validity": order.validity,
        "price": order.price,
        "trigger_price": order.trigger_price,
    }
    detail: dict[str, Any] = {"set": terms, "request": line.model_dump(mode="json", by_alias=True, exclude_none=True)}
    if order.policy is not None:
        detail["policy"] = order.policy
    return Event(order.id, 0, EventType.RECEIVED, None, OrderState.RECEIVED, Source.CLIENT, order.accepted_at, detail)
