"""Events: immutable facts about one order, numbered without a gap; folding them gives the order's row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from domain.lifecycle import TERMINAL, OrderState, may_move
from domain.orders import Order


class EventType(StrEnum):
    RECEIVED = "RECEIVED"
    CLEARED = "CLEARED"  # validate, risk, margin and route have spoken; their verdicts are in the detail
    RELEASED = "RELEASED"  # what it waited for in its group has come
    SENDING = "SENDING"
    NOT_SENT = "NOT_SENT"
    SUBMITTED = "SUBMITTED"
    UNKNOWN = "UNKNOWN"
    OPENED = "OPENED"
    TRIGGER_PENDING = "TRIGGER_PENDING"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    SLICED = "SLICED"  # cut into orders of at most the freeze quantity
    STUCK = "STUCK"  # the state stays; the work on it has stopped
    REQUEUED = "REQUEUED"  # by an operator, who takes it off the dead letters
    SETTLED = "SETTLED"  # an operator says, with evidence, what the broker did; what follows of it comes next
    PROVEN_ABSENT = "PROVEN_ABSENT"  # the broker's book proves that it wasn't taken
    CANCEL_REQUESTED = "CANCEL_REQUESTED"  # by its client, a switch or a clock; the state stays
    CANCEL_REFUSED = "CANCEL_REFUSED"  # the broker didn't take the cancel, and its book shows the order live: it stays as it was
    CANCEL_WITHDRAWN = "CANCEL_WITHDRAWN"  # not tried: another line of its intent failed first, or an operator gave it up
    MODIFYING = "MODIFYING"  # a modify call is committed: the book will say what became of it
    MODIFIED = "MODIFIED"  # the broker's book shows these terms
    MODIFY_REFUSED = "MODIFY_REFUSED"  # its terms stay as they were
    RECONCILED = "RECONCILED"  # what the broker has was missing here, and is there now; the state stays


class Source(StrEnum):
    """Who brought the fact."""

    CLIENT = "CLIENT"
    PIPELINE = "PIPELINE"
    BROKER_ANSWER = "BROKER_ANSWER"
    POLL = "POLL"
    POSTBACK = "POSTBACK"
    STREAM = "STREAM"
    LATE_ANSWER = "LATE_ANSWER"
    EVIDENCE = "EVIDENCE"  # what complete reads of the broker's book prove
    RECONCILE = "RECONCILE"
    OPERATOR = "OPERATOR"
    CLOCK = "CLOCK"


EVENT_OF_STATE = {
    OrderState.SUBMITTED: EventType.SUBMITTED,
    OrderState.OPEN: EventType.OPENED,
    OrderState.TRIGGER_PENDING: EventType.TRIGGER_PENDING,
    OrderState.PARTIALLY_FILLED: EventType.PARTIALLY_FILLED,
    OrderState.FILLED: EventType.FILLED,
    OrderState.CANCELLED: EventType.CANCELLED,
    OrderState.REJECTED: EventType.REJECTED,
    OrderState.EXPIRED: EventType.EXPIRED,
    OrderState.UNKNOWN: EventType.UNKNOWN,
}

# What an event may change besides the state, and fold therefore rebuilds. The terms of event 0 come first.
TERMS = ("instrument", "quantity", "order_type", "validity", "price", "trigger_price")
FOLDED = (
    *TERMS,
    "state",
    "last_seq",
    "version",
    "broker",
    "account_id",
    "broker_order_id",
    "filled_quantity",
    "average_price",
    "reason_code",
    "reason",
    "blocked_paise",
    "exposure_paise",
    "slices",
    "modifies",
)
_LATER = ("disclosed_quantity",)  # rebuilt only where an event has changed them: event 0 has never told them
_DECIMALS = frozenset({"price", "trigger_price", "average_price"})


class IllegalMove(Exception):
    """Code asked an order to move as the lifecycle table forbids: a defect, never a broker's doing."""


@dataclass(frozen=True, slots=True)
class Event:
    order_id: str
    seq: int
    event_type: EventType
    prev_state: OrderState | None
    new_state: OrderState
    source: Source
    at: datetime
    detail: Mapping[str, Any]  # "set": the changed columns; beside it whatever explains the fact


def advance(
    order: Order,
    event_type: EventType,
    source: Source,
    at: datetime,
    *,
    state: OrderState | None = None,
    changes: Mapping[str, Any] | None = None,
    because: Mapping[str, Any] | None = None,
) -> Event:
    """Change an order and give the event that says so; both are recorded in one transaction.

    Raises IllegalMove where the lifecycle has no such move.
    """
    before = order.state
    after = state or before
    if after is not before and not may_move(before, after):
        raise IllegalMove(f"order {order.id} can't go from {before} to {after}")
    changed = dict(changes) if changes else {}
    if after in TERMINAL and before not in TERMINAL and order.account_id is not None:
        changed["blocked_paise"] = 0
        changed["exposure_paise"] = 0
    for name, value in changed.items():
        setattr(order, name, value)
    order.state = after
    order.last_seq += 1
    detail: dict[str, Any] = {"set": changed} if changed else {}
    if because:
        detail.update(because)
    return Event(order.id, order.last_seq, event_type, before, after, source, at, detail)


def fold(events: Iterable[tuple[int, str, str | None, str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The folded columns of an order's row, from its events as (seq, type, prev_state, new_state, detail).

    Raises ValueError at a gap, or where an event begins in another state than the one before ended in.
    """
    row: dict[str, Any] = dict.fromkeys(("filled_quantity", "blocked_paise", "exposure_paise", "slices", "modifies"), 0)
    row["version"] = 1
    state: str | None = None
    for expected, (seq, _, prev_state, new_state, detail) in enumerate(events):
        if seq != expected:
            raise ValueError(f"event {expected} is missing: found {seq}")
        if prev_state != state:
            raise ValueError(f"event {seq} begins in {prev_state}, the one before ended in {state}")
        state = new_state
        for name, value in detail.get("set", {}).items():
            row[name] = Decimal(value) if name in _DECIMALS and value is not None else value
        row["state"], row["last_seq"] = new_state, seq
    return {name: row.get(name) for name in FOLDED} | {name: row[name] for name in _LATER if name in row}
