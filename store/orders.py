"""Orders: their rows, read under lock and written in sets together with the events that changed them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from domain.events import Event
from domain.groups import GroupPolicy
from domain.lifecycle import OrderState
from domain.orders import Order, OrderType, Product, Side, Validity
from store.json import dump
from store.rows import Rows
from store.unit import Unit, array

COLUMNS = (
    "id, intent_id, parent_id, slices, line, correlation_id, user_id, instrument, side, quantity, product, order_type, validity, price,"
    " trigger_price, disclosed_quantity, market_protection, wanted_broker, wanted_account, strategy, tag, broker_tag,"
    " broker, account_id, broker_order_id, state, last_seq, version, filled_quantity, average_price, reason_code,"
    " reason, blocked_paise, exposure_paise, cancel_requested, accepted_at, send_before, changing, modifies, policy, after"
)
_SIDES = {member.value: member for member in Side}
_PRODUCTS = {member.value: member for member in Product}
_TYPES = {member.value: member for member in OrderType}
_VALIDITIES = {member.value: member for member in Validity}
_STATES = {member.value: member for member in OrderState}
_POLICIES: dict[str | None, GroupPolicy | None] = {None: None, **{member.value: member for member in GroupPolicy}}


def lock(unit: Unit, order_ids: Sequence[str]) -> dict[str, Order]:
    """The orders by id, their rows locked in the order of their ids; parents after all others, as everybody locks them."""
    sql = f"select {COLUMNS} from orders where id = any(%s::uuid[]) order by slices > 0, id for no key update"  # noqa: S608
    return {order.id: order for order in map(from_row, unit.rows(sql, (array(order_ids),)))}


def lock_with_parents(unit: Unit, order_ids: Sequence[str]) -> dict[str, Order]:
    """As `lock`, with the parents of those that are slices: for whoever may hold a parent of other slices, too."""
    sql = (
        f"select {COLUMNS} from orders where id in (select unnest(%(ids)s::uuid[]) union"  # noqa: S608
        " select parent_id from orders where id = any(%(ids)s::uuid[]) and parent_id is not null)"
        " order by slices > 0, id for no key update"
    )
    return {order.id: order for order in map(from_row, unit.rows(sql, {"ids": array(order_ids)}))}


def lock_known(unit: Unit, order_ids: Sequence[str], known: Mapping[str, Order]) -> dict[str, Order]:
    """As `lock`, where some were read before: of these only what has moved since is read again.

    Whatever changes an order is an event and moves `last_seq`, but for the end of a modify or cancel of it.
    """
    sql = (
        "select id, last_seq, cancel_requested, changing from orders where id = any(%s::uuid[])"
        " order by slices > 0, id for no key update"
    )
    held: dict[str, Order] = {}
    for order_id, *told in unit.rows(sql, (array(order_ids),)):
        order = known.get(order_id)
        if order is not None and [order.last_seq, order.cancel_requested, order.changing] == told:
            held[order_id] = order
    unknown = [order_id for order_id in order_ids if order_id not in held]
    return held | lock(unit, unknown) if unknown else held


def known_by_tag(unit: Unit, tags: Sequence[str]) -> list[tuple[str, str, str | None, str | None, OrderState, int]]:
    """(tag, id, id at the broker, account, state, modifies called for) of the orders with these tags."""
    rows = unit.rows(
        "select broker_tag, id, broker_order_id, account_id, state, modifies from orders where broker_tag = any(%s)",
        (list(tags),),
    )
    return [
        (tag, id_, broker_order_id, account_id, _STATES[state], modifies)
        for tag, id_, broker_order_id, account_id, state, modifies in rows
    ]


def from_row(row: tuple[Any, ...]) -> Order:
    (order_id, intent_id, parent_id, slices, line, correlation_id, user_id, instrument, side, quantity, product, order_type, validity,
     price, trigger_price, disclosed, protection, wanted_broker, wanted_account, strategy, tag, broker_tag, broker,
     account_id, broker_order_id, state, last_seq, version, filled, average, reason_code, reason, blocked, exposure,
     cancel_requested, accepted_at, send_before, changing, modifies, policy, after) = row  # fmt: skip
    return Order(
        id=order_id,
        intent_id=intent_id,
        parent_id=parent_id,
        slices=slices,
        line=line,
        correlation_id=correlation_id,
        user_id=user_id,
        instrument=instrument,
        side=_SIDES[side],
        quantity=quantity,
        product=_PRODUCTS[product],
        order_type=_TYPES[order_type],
        validity=_VALIDITIES[validity],
        price=price,
        trigger_price=trigger_price,
        disclosed_quantity=disclosed,
        market_protection=protection,
        wanted_broker=wanted_broker,
        wanted_account=wanted_account,
        strategy=strategy,
        tag=tag,
        broker_tag=broker_tag,
        broker=broker,
        account_id=account_id,
        broker_order_id=broker_order_id,
        state=_STATES[state],
        last_seq=last_seq,
        version=version,
        filled_quantity=filled,
        average_price=average,
        reason_code=reason_code,
        reason=reason,
        blocked_paise=blocked,
        exposure_paise=exposure,
        cancel_requested=cancel_requested,
        accepted_at=accepted_at,
        send_before=send_before,
        changing=changing,
        modifies=modifies,
        policy=_POLICIES[policy],
        after=after,
    )


# The columns that an event may change, with their types; `state` and `last_seq` move with each event.
_CHANGEABLE = {
    "instrument": "text",
    "quantity": "bigint",
    "order_type": "text",
    "validity": "text",
    "price": "numeric",
    "trigger_price": "numeric",
    "disclosed_quantity": "bigint",
    "version": "int",
    "broker": "text",
    "account_id": "text",
    "broker_order_id": "text",
    "filled_quantity": "bigint",
    "average_price": "numeric",
    "reason_code": "text",
    "reason": "text",
    "blocked_paise": "bigint",
    "exposure_paise": "bigint",
    "slices": "int",
    "changing": "int",
    "modifies": "int",
    "cancel_requested": "boolean",
}


def save(unit: Unit, orders: Sequence[Order], columns: Collection[str], at: datetime) -> None:
    """Write locked orders back in one statement: their states, and those columns that changed in any of them."""
    changed = tuple(sorted(columns))
    sql, saved = _save(changed)
    parameters = saved.parameters(
        [order.id for order in orders],
        [order.state for order in orders],
        [order.last_seq for order in orders],
        *([getattr(order, column) for order in orders] for column in changed),
    )
    unit.run(sql, (at, *parameters))


@lru_cache(maxsize=256)
def _save(columns: tuple[str, ...]) -> tuple[str, Rows]:
    """The statement that writes these columns, and its rows. Nearly every batch changes one of three or four sets of them."""
    kinds = {"state": "word", "last_seq": "int"} | {column: _CHANGEABLE[column] for column in columns}
    saved = Rows(id="uuid", **kinds)
    changes = ", ".join(f"{name} = v.{name}" for name in kinds)
    return f"update orders o set {changes}, updated_at = %s from {saved.sql} where o.id = v.id", saved  # noqa: S608 - our own names


def slices_of(
    unit: Unit, parent_ids: Sequence[str]
) -> list[tuple[str, str, OrderState, int, int, Decimal | None]]:
    """(parent, id, state, quantity, filled quantity, average price) of every slice of these parents."""
    rows = unit.rows(
        "select parent_id, id, state, quantity, filled_quantity, average_price from orders"
        " where parent_id = any(%s::uuid[]) order by id",
        (array(parent_ids),),
    )
    return [(parent, id_, _STATES[state], *figures) for parent, id_, state, *figures in rows]


_MADE = Rows(
    id="uuid",
    intent_id="uuid",
    parent_id="uuid",
    line="int",
    correlation_id="text",
    user_id="uuid",
    instrument="text",
    side="word",
    quantity="bigint",
    product="word",
    order_type="word",
    validity="word",
    price="numeric",
    trigger_price="numeric",
    disclosed_quantity="bigint",
    market_protection="numeric",
    wanted_broker="text",
    wanted_account="text",
    strategy="text",
    tag="text",
    broker_tag="word",
    policy="word",
    after="text",
    send_before="timestamptz",
)
_INSERT = (
    f"insert into orders ({_MADE.names}, state, last_seq, version, accepted_at, updated_at)"  # noqa: S608 - our own names
    f" select v.*, 'RECEIVED', 0, 1, %s, %s from {_MADE.sql}"
)


def insert(unit: Unit, orders: Sequence[Order], at: datetime) -> None:
    parameters = _MADE.parameters(
        [order.id for order in orders],
        [order.intent_id for order in orders],
        [order.parent_id for order in orders],
        [order.line for order in orders],
        [order.correlation_id for order in orders],
        [order.user_id for order in orders],
        [order.instrument for order in orders],
        [order.side for order in orders],
        [order.quantity for order in orders],
        [order.product for order in orders],
        [order.order_type for order in orders],
        [order.validity for order in orders],
        [order.price for order in orders],
        [order.trigger_price for order in orders],
        [order.disclosed_quantity for order in orders],
        [order.market_protection for order in orders],
        [order.wanted_broker for order in orders],
        [order.wanted_account for order in orders],
        [order.strategy for order in orders],
        [order.tag for order in orders],
        [order.broker_tag for order in orders],
        [order.policy for order in orders],
        [order.after for order in orders],
        [order.send_before for order in orders],
    )
    unit.run(_INSERT, (at, at, *parameters))


_TOLD = Rows(
    order_id="uuid",
    seq="int",
    event_type="word",
    prev_state="word",
    new_state="word",
    source="word",
    at="timestamptz",
    detail="json",
)
_EVENTS = f"insert into order_events ({_TOLD.names}) select * from {_TOLD.sql}"  # noqa: S608 - our own names


def append_events(unit: Unit, events: Sequence[Event]) -> None:
    unit.run(
        _EVENTS,
        _TOLD.parameters(
            [event.order_id for event in events],
            [event.seq for event in events],
            [event.event_type for event in events],
            [event.prev_state for event in events],
            [event.new_state for event in events],
            [event.source for event in events],
            [event.at for event in events],
            [dump(event.detail) for event in events],
        ),
    )


def events_of(unit: Unit, order_ids: Iterable[str]) -> list[tuple[Any, ...]]:
    """(order_id, seq, event_type, prev_state, new_state, detail), by order and seq."""
    return unit.rows(
        "select order_id, seq, event_type, prev_state, new_state, detail from order_events"
        " where order_id = any(%s::uuid[]) order by order_id, seq",
        (array(list(order_ids)),),
    )
