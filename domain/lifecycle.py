"""The life of an order: its states, and the one table of legal moves between them."""

from __future__ import annotations

from enum import StrEnum


class OrderState(StrEnum):
    RECEIVED = "RECEIVED"  # durably ours; no stage has refused it
    HELD = "HELD"  # waits for its group, or for the leg it comes after
    SENDING = "SENDING"  # an attempt is committed; the broker may be hearing of it now
    UNKNOWN = "UNKNOWN"  # sent or not, nobody can say yet; left by evidence or by a named operator only
    SUBMITTED = "SUBMITTED"  # the broker gave a receipt; the exchange may not have it yet
    OPEN = "OPEN"  # rests at the exchange
    TRIGGER_PENDING = "TRIGGER_PENDING"  # a stop order that waits for its trigger
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"  # keeps what was filled before
    REJECTED = "REJECTED"  # by a stage of ours, by the broker or by the exchange: the reason says which
    EXPIRED = "EXPIRED"  # the day ended first


TERMINAL = frozenset({OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.EXPIRED})
AT_BROKER = frozenset({OrderState.SUBMITTED, OrderState.OPEN, OrderState.TRIGGER_PENDING, OrderState.PARTIALLY_FILLED})
UNSENT = frozenset({OrderState.RECEIVED, OrderState.HELD})

_AFTER_SUBMISSION = AT_BROKER | TERMINAL

MOVES: dict[OrderState, frozenset[OrderState]] = {
    OrderState.RECEIVED: frozenset(
        {OrderState.HELD, OrderState.SENDING, OrderState.REJECTED, OrderState.CANCELLED, OrderState.EXPIRED}
    ),
    OrderState.HELD: frozenset(
        {OrderState.RECEIVED, OrderState.SENDING, OrderState.REJECTED, OrderState.CANCELLED, OrderState.EXPIRED}
    ),
    # RECEIVED again: the call was provably not sent, and the order waits for its next attempt.
    OrderState.SENDING: _AFTER_SUBMISSION | {OrderState.UNKNOWN, OrderState.RECEIVED},
    OrderState.UNKNOWN: _AFTER_SUBMISSION | {OrderState.RECEIVED},
    OrderState.SUBMITTED: _AFTER_SUBMISSION,
    OrderState.OPEN: _AFTER_SUBMISSION - {OrderState.SUBMITTED},
    OrderState.TRIGGER_PENDING: _AFTER_SUBMISSION - {OrderState.SUBMITTED},
    OrderState.PARTIALLY_FILLED: frozenset({OrderState.PARTIALLY_FILLED}) | TERMINAL,
    OrderState.FILLED: frozenset(),
    OrderState.CANCELLED: frozenset(),
    OrderState.REJECTED: frozenset(),
    OrderState.EXPIRED: frozenset(),
}


def may_move(before: OrderState, after: OrderState) -> bool:
    """Whether an order may go from one state to the other; staying in a state is no move."""
    return after in MOVES[before]
