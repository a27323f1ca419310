"""Preview: what would become of a place request at this moment, by the stages' own judges. Sends, stores and reserves nothing.

The lines are judged one after another as a batch would judge them, so that what one takes the next no longer has; the
accounts' totals are read without a lock. Calls are grouped as dispatch groups them when it finds every line ready and
room for all of them, and each adapter says what it would send. Orders have no ids before they are accepted, so that
their tags are stand-ins of the right form: the installation's letters and a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

from brokers.base import Line, Payload, Unsayable
from domain import groups
from domain.accounts import Account
from domain.groups import GroupPolicy, decide, holds
from domain.ids import broker_tag
from domain.intents import PlaceRequest, Submission
from domain.lifecycle import OrderState
from domain.orders import Order
from domain.verdicts import Proceed, Reject, Verdict, Wait
from pipeline.calls import lines_of_calls
from pipeline.choices import Choice, explain
from pipeline.desk import Desk
from pipeline.drafting import make_orders, policy_for
from pipeline.intake_group import Facts, Judges, no_route
from pipeline.slices import cut
from pipeline.steps import STEPS
from store import accounts

INTENT = str(UUID(int=0))  # of no row
PRICE, PERCENT = Decimal("0.0001"), Decimal("0.01")  # what the columns hold


@dataclass(slots=True)
class PreviewedLine:
    """One line: what every stage says of it, where it may go, and what is sent for it."""

    order: Order
    said: list[dict[str, Any]]  # as an order's history tells them; stages that it didn't get to are missing
    verdict: Verdict
    choices: Sequence[Choice]
    account: Account | None  # that it was judged for
    parts: Sequence[Order] = ()  # what goes to the broker: the order itself, or its slices; nothing where it isn't cleared
    held: str | None = None  # what it waits for within its request before it is sent


@dataclass(frozen=True, slots=True)
class PreviewedCall:
    """One request to a broker, with the orders that it carries, or why these are in none."""

    broker: str
    account_id: str
    orders: tuple[Order, ...]
    payload: Payload | None
    refusal: str | None = None  # the broker has no words for it


@dataclass(slots=True)
class Preview:
    at: datetime
    lines: list[PreviewedLine] = field(default_factory=list)
    calls: list[PreviewedCall] = field(default_factory=list)


def preview(desk: Desk, user_id: str, request: PlaceRequest) -> Preview:
    """What would become of the request. Raises StoreAway."""
    now = desk.now()
    ids = (str(UUID(int=number)) for number in count(1))
    orders = _orders(desk, user_id, request, now, ids)
    judges = Judges(desk, STEPS)
    with desk.store.unit() as unit:
        facts = judges.gather(orders, now, partial(accounts.look, unit), {}, unit)
    shown = Preview(now, [_judged(desk, judges, order, facts) for order in orders])
    _hold(shown.lines, now)
    for line in shown.lines:
        if isinstance(line.verdict, Proceed):
            line.parts = _parts(desk, line.order, facts, now, ids)
    shown.calls.extend(_calls(desk, [part for line in shown.lines for part in line.parts], facts))
    return shown


def _orders(
    desk: Desk, user_id: str, request: PlaceRequest, now: datetime, ids: Iterator[str]
) -> Sequence[Order]:
    """The orders that accepting would make, under ids of no row."""
    installation, settings = desk.environment.installation, desk.settings()
    submission = Submission(user_id, user_id, "", b"", request)
    send_before = now + timedelta(seconds=request.max_unsent_sec or settings.max_unsent_s)
    orders = make_orders(installation, submission, now, send_before, policy_for(desk, submission))
    for order in orders:
        order.intent_id, order.id = INTENT, next(ids)
        order.broker_tag = broker_tag(installation, order.id)
        # As the record gives them back: a price's digits are sent as they are.
        order.price, order.trigger_price = _stored(order.price, PRICE), _stored(order.trigger_price, PRICE)
        order.market_protection = _stored(order.market_protection, PERCENT)
    return orders


def _stored(number: Decimal | None, unit: Decimal) -> Decimal | None:
    return None if number is None else number.quantize(unit)


def _judged(desk: Desk, judges: Judges, order: Order, facts: Facts) -> PreviewedLine:
    account = facts.choices.get(order.id)
    owned = desk.directory().of_user.get(order.user_id, ())
    instrument = facts.instruments.get(order.instrument)
    choices = explain(order, facts.able[order.id], owned, facts.capabilities, instrument, facts.settings)
    if account is None:
        return PreviewedLine(order, [], no_route(order), choices, None)
    order.broker, order.account_id = account.broker, account.id
    said, verdict = judges.judge(order, facts)
    return PreviewedLine(order, said, verdict, choices, account)


def _hold(lines: Sequence[PreviewedLine], now: datetime) -> None:
    """What the group that the lines are, if they are one, decides once all of them have been judged."""
    policy = lines[0].order.policy
    if policy is None:
        return
    decision = decide(policy, [_as_grouped(line, policy) for line in lines], now)
    for number, why in decision.rejections.items():
        lines[number].verdict = Reject("GROUP_REJECTED", (why,))
    for number, why in decision.waits.items():
        lines[number].held = why


def _as_grouped(line: PreviewedLine, policy: GroupPolicy) -> groups.Line:
    order, is_cleared = line.order, isinstance(line.verdict, Proceed)
    is_held = is_cleared and holds(policy, order.line, order.after)
    state = OrderState.HELD if is_held else OrderState.RECEIVED
    if isinstance(line.verdict, Reject):
        state = OrderState.REJECTED
    return groups.Line(
        number=order.line,
        name=order.correlation_id,
        state=state,
        parts=(groups.Part(state, has_number=False),),
        send_before=order.send_before,
        after=order.after,
        is_held=is_held,
        quantity=order.quantity,
        why=line.verdict.text if isinstance(line.verdict, Reject) else "",
    )


def _wave(order: Order) -> str:
    """What is let go together; lines that wait for each other never are in one call."""
    if order.policy is GroupPolicy.FAIL_FAST:
        return str(order.line)
    return order.after or ""


def _parts(desk: Desk, order: Order, facts: Facts, now: datetime, ids: Iterator[str]) -> Sequence[Order]:
    instrument = facts.instruments[order.instrument]
    order.instrument = instrument.key
    if order.quantity <= instrument.freeze_quantity:
        return (order,)
    return [part for part, _ in cut(order, instrument, desk.environment.installation, now, lambda: next(ids))]


def _calls(desk: Desk, orders: Sequence[Order], facts: Facts) -> Iterator[PreviewedCall]:
    together: dict[tuple[str, str], list[Order]] = {}
    for order in orders:
        together.setdefault((_wave(order), order.broker or ""), []).append(order)
    for (_, broker), members in together.items():
        size = facts.capabilities[broker].lines_per_call
        for account_id, carried in lines_of_calls(members, lambda order: order, lines_per_call=size):
            yield from _said_of(desk, broker, account_id, carried, facts)


def _said_of(
    desk: Desk, broker: str, account_id: str, orders: Sequence[Order], facts: Facts
) -> Iterator[PreviewedCall]:
    lines = [Line(order, facts.instruments[order.instrument]) for order in orders]
    for said in desk.adapters[broker].payload(desk.session(account_id), lines):
        if isinstance(said, Unsayable):
            yield PreviewedCall(broker, account_id, (orders[said.line],), None, said.refusal.message)
        else:
            yield PreviewedCall(broker, account_id, tuple(orders[at] for at in said.lines), said)


def outcome_of(verdict: Verdict) -> str:
    match verdict:
        case Proceed():
            return "CLEARED"
        case Reject():
            return "REJECTED"
        case Wait():
            return "WAITING"


def facts_of(line: PreviewedLine, stage: str) -> Mapping[str, Any]:
    """The numbers that a stage let the line pass by; empty where it didn't."""
    return next((said.get("facts", {}) for said in line.said if said["stage"] == stage), {})
