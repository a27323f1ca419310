"""Slices: an order over the freeze quantity goes out as several, each with a tag of its own; its figures are their sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from domain.events import EVENT_OF_STATE, Event, EventType, Source, advance
from domain.ids import broker_tag, new_id
from domain.instruments import Instrument
from domain.lifecycle import TERMINAL, OrderState, may_move
from domain.orders import Order

# Of live slices the first of these states that one of them has is their parent's.
_PRECEDENCE = (
    OrderState.OPEN,
    OrderState.TRIGGER_PENDING,
    OrderState.SUBMITTED,
    OrderState.UNKNOWN,
    OrderState.SENDING,
    OrderState.RECEIVED,
)


def sizes(quantity: int, instrument: Instrument) -> list[int]:
    """The quantities of an order's slices: as many whole lots as one order may have, and the rest."""
    most = instrument.freeze_quantity // instrument.lot_size * instrument.lot_size
    full, rest = divmod(quantity, most)
    return [most] * full + ([rest] if rest else [])


def cut(
    order: Order,
    instrument: Instrument,
    installation: str,
    at: datetime,
    make_id: Callable[[], str] | None = None,
) -> list[tuple[Order, Event]]:
    """The slices of a cleared order, each with its first event; they share what it has blocked, and it keeps nothing."""
    quantities = sizes(order.quantity, instrument)
    blocked = _shares(order.blocked_paise, quantities)
    exposures = _shares(order.exposure_paise, quantities)
    made = []
    for number, (quantity, block, exposure) in enumerate(zip(quantities, blocked, exposures, strict=True), 1):
        id_ = (make_id or new_id)()
        part = replace(
            order,
            id=id_,
            parent_id=order.id,
            slices=0,
            quantity=quantity,
            disclosed_quantity=-(-order.disclosed_quantity * quantity // order.quantity),
            broker_tag=broker_tag(installation, id_),
            state=OrderState.RECEIVED,
            last_seq=0,
            version=1,
            blocked_paise=block,
            exposure_paise=exposure,
        )
        terms = {
            "instrument": part.instrument,
            "quantity": part.quantity,
            "order_type": part.order_type,
            "validity": part.validity,
            "price": part.price,
            "trigger_price": part.trigger_price,
            "broker": part.broker,
            "account_id": part.account_id,
            "blocked_paise": block,
            "exposure_paise": exposure,
        }
        detail = {"set": terms, "slice": number, "of": len(quantities), "parent": order.id}
        event = Event(id_, 0, EventType.RECEIVED, None, OrderState.RECEIVED, Source.PIPELINE, at, detail)
        made.append((part, event))
    return made


def _shares(amount: int, quantities: Sequence[int]) -> Iterator[int]:
    """An amount in parts proportional to quantities, without losing a paisa."""
    total, seen, given = sum(quantities), 0, 0
    for quantity in quantities:
        seen += quantity
        share = amount * seen // total - given
        given += share
        yield share


@dataclass(frozen=True, slots=True)
class Part:
    """What a parent's sums need of one of its slices."""

    state: OrderState
    quantity: int
    filled_quantity: int
    average_price: Decimal | None


def sum_up(parent: Order, parts: Sequence[Part], at: datetime) -> Event | None:
    """Bring a parent up to its slices; None where nothing of it changes."""
    filled = sum(part.filled_quantity for part in parts)
    state = _state_of(parent, parts, filled)
    changes: dict[str, object] = {}
    if filled != parent.filled_quantity:
        paid = sum(((part.average_price or Decimal(0)) * part.filled_quantity for part in parts), Decimal(0))
        changes["filled_quantity"] = filled
        changes["average_price"] = (paid / filled).quantize(Decimal("0.0001"))
    moved = state if state is not parent.state else None
    if moved is None and not changes:
        return None
    if moved in (OrderState.REJECTED, OrderState.CANCELLED):
        ended = sum(part.state is not OrderState.FILLED for part in parts)
        changes["reason_code"] = f"SLICES_{moved}"
        changes["reason"] = f"{ended} of {len(parts)} slices did not fill"
    event_type = EVENT_OF_STATE.get(state, EventType(state) if state in EventType.__members__ else EventType.SLICED)
    return advance(parent, event_type, Source.PIPELINE, at, state=moved, changes=changes)


def _state_of(parent: Order, parts: Sequence[Part], filled: int) -> OrderState:
    states = {part.state for part in parts}
    if states <= TERMINAL:
        wanted = _end_of(states, filled)
    elif filled:
        wanted = OrderState.PARTIALLY_FILLED
    else:
        wanted = next((state for state in _PRECEDENCE if state in states), parent.state)
    return wanted if may_move(parent.state, wanted) else parent.state


def _end_of(states: set[OrderState], filled: int) -> OrderState:
    if len(states) == 1:
        return next(iter(states))
    if filled or OrderState.CANCELLED in states:
        return OrderState.CANCELLED
    return OrderState.EXPIRED if OrderState.EXPIRED in states else OrderState.REJECTED


def parts_of(rows: Mapping[str, Part], changed: Mapping[str, Order]) -> list[Part]:
    """The slices as they stand with this batch's own changes."""
    return [
        Part(order.state, order.quantity, order.filled_quantity, order.average_price)
        if (order := changed.get(id_)) is not None
        else part
        for id_, part in rows.items()
    ]
