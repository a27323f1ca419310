"""Persist: the only place where a call's outcome or a broker's report becomes an order's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from domain.commands import Command, CommandState
from domain.events import EVENT_OF_STATE, EventType, Source, advance
from domain.evidence import search
from domain.lifecycle import AT_BROKER, TERMINAL, UNSENT, OrderState, may_move
from domain.orders import Order
from domain.outcomes import Accepted, BookRow, NotSent, Outcome, Refused, Unknown
from pipeline.batch import Batch
from pipeline.desk import Desk
from pipeline.stage import Policy
from pipeline.terms import Following, Read, follow
from pipeline.wayback import WayBack, go_back, way_back
from store import attempts
from store.unit import Unit

AFTER_THE_CALL = frozenset({CommandState.SENDING, CommandState.UNKNOWN, CommandState.STUCK})  # the book may end it
LEASE_OVER = Unknown("the lease ended without an outcome")


class OutcomeGroup:
    """persist and notify: one transaction carries a command through both; the telling follows the commit."""

    policies: Mapping[str, Policy] = MappingProxyType(
        {"persist": Policy(10, (200, 10_000)), "notify": Policy(10, (200, 10_000))}
    )

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def decide(self, unit: Unit, claimed: Sequence[Command], held: Mapping[str, Order], batch: Batch) -> None:
        outcomes = attempts.newest(unit, [(command.order_id, command.fence) for command in claimed])
        way = way_back(self._desk)
        for command in claimed:
            order = held[command.order_id]
            try:
                settle(order, command, outcomes.get(command.order_id) or LEASE_OVER, batch, way)
            except Exception as error:  # noqa: BLE001 - one order's failure is its own
                batch.failures[command.order_id] = error
                continue
            batch.commands.append(command)
            batch.news.add(order.intent_id)


def settle(order: Order, command: Command, outcome: Outcome, batch: Batch, way: WayBack) -> None:
    """Turn the outcome of a placement's newest attempt into the order's state.

    A report may have come first: evidence from the broker's book stands, whatever the answer was.
    """
    if order.state not in (OrderState.SENDING, OrderState.UNKNOWN):
        _settle_late(order, outcome, batch)
        command.finish("notify", batch.at)
        return
    match outcome:
        case Accepted(broker_order_id):
            changes = {"broker_order_id": broker_order_id}
            _move(order, EventType.SUBMITTED, OrderState.SUBMITTED, batch, changes=changes)
            command.finish("notify", batch.at)
            if order.broker is not None:
                batch.books.add(order.broker)
        case Refused(code, message):
            changes = {"reason_code": "BROKER_REFUSED", "reason": f"{order.broker}: {message} ({code})"}
            _move(order, EventType.REJECTED, OrderState.REJECTED, batch, changes=changes)
            command.finish("notify", batch.at)
        case NotSent(why, retry_after_s, session_dead):
            because = {"why": why, "attempt": command.fence}
            _move(order, EventType.NOT_SENT, OrderState.RECEIVED, batch, because=because)
            if session_dead and order.account_id is not None:
                batch.dead_sessions.add(order.account_id)
            go_back(order, command, why, batch, way, retry_after_s=retry_after_s)
        case Unknown(why):
            _unknown(order, command, why, batch, way)


def _move(
    order: Order,
    event_type: EventType,
    state: OrderState,
    batch: Batch,
    *,
    changes: Mapping[str, Any] | None = None,
    because: Mapping[str, Any] | None = None,
) -> None:
    source = Source.BROKER_ANSWER
    batch.change(
        order, advance(order, event_type, source, batch.at, state=state, changes=changes, because=because)
    )


def _unknown(order: Order, command: Command, why: str, batch: Batch, way: WayBack) -> None:
    """The order keeps what it has blocked, and is looked for in its account's book."""
    ended_at = max(batch.at, command.lease_until) if why == LEASE_OVER.why and command.lease_until else batch.at
    command.stage, command.state, command.due_at, command.error = "persist", CommandState.UNKNOWN, batch.at, why
    if order.broker is not None:
        batch.books.add(order.broker)
    batch.searches.append(
        search(
            order.id,
            order.account_id or "",
            command.fence,
            asked_at=batch.at,
            ended_at=ended_at,
            proof=way.proof_at(order.broker),
            now=batch.at,
        )
    )
    if order.state is not OrderState.UNKNOWN:
        because = {"why": why, "attempt": command.fence}
        _move(order, EventType.UNKNOWN, OrderState.UNKNOWN, batch, because=because)


def apply_absence(
    order: Order, command: Command, fence: int, proof: Mapping[str, Any], batch: Batch, way: WayBack
) -> None:
    """Two clean reads of the book prove that an attempt was not taken. Whatever came since stands against it."""
    if order.state is not OrderState.UNKNOWN or command.state is not CommandState.UNKNOWN or command.fence != fence:
        return
    because = {"attempt": fence, **proof}
    event = advance(
        order, EventType.PROVEN_ABSENT, Source.EVIDENCE, batch.at, state=OrderState.RECEIVED, because=because
    )
    batch.change(order, event)
    batch.commands.append(command)
    batch.news.add(order.intent_id)
    go_back(order, command, "its broker's book proves that it was not taken", batch, way, retry_after_s=None)


def _settle_late(order: Order, outcome: Outcome, batch: Batch) -> None:
    """The book spoke before the answer did: keep the broker's order id if the book had none."""
    if isinstance(outcome, Accepted) and order.broker_order_id is None:
        changes = {"broker_order_id": outcome.broker_order_id}
        batch.change(order, advance(order, EventType.SUBMITTED, Source.BROKER_ANSWER, batch.at, changes=changes))


def apply_row(
    order: Order,
    command: Command,
    row: BookRow,
    source: Source,
    batch: Batch,
    *,
    account: tuple[str, str] | None = None,
    differs: Mapping[str, Any] | None = None,
    read: Read | None = None,
    following: Following | None = None,
) -> None:
    """Bring an order up to what the broker's book shows of it. `account` is (account, broker) where it was read.

    `differs` is what the reconciler found different; trades that were missing are then an event of their own. `read` is
    when the row was read, and `following` what is known of orders whose modify was called for: their terms follow the book.

    Filled quantity never falls, terminal states stay, and a move that the lifecycle has not is not made: late,
    repeated and reordered reports end where the newest alone would. A row with another id at the broker is a twin's: it
    was taken for the order's own before anybody knew that, and says nothing of the order that the record follows.
    """
    if order.broker_order_id not in (None, row.broker_order_id):
        return
    if was_unsent := order.state in UNSENT:
        # The broker has what we took for unsent: it must not be sent again.
        found = {"why": "found in the broker's book"}
        back = {"account_id": account[0], "broker": account[1]} if account and account[0] != order.account_id else {}
        event = advance(
            order, EventType.SENDING, source, batch.at, state=OrderState.SENDING, changes=back, because=found
        )
        batch.change(order, event)
    if order.modifies and following is not None:
        follow(order, row, source, batch, read, following)
    batch.fills.extend((order, fill) for fill in row.fills)
    filled = max(order.filled_quantity, min(row.filled_quantity, order.quantity))
    changes: dict[str, object] = {}
    if filled != order.filled_quantity:
        changes["filled_quantity"] = filled
        changes["average_price"] = row.average_price
    if order.broker_order_id is None:
        changes["broker_order_id"] = row.broker_order_id
    state = state_after(order, row, filled)
    if state in (OrderState.REJECTED, OrderState.CANCELLED, OrderState.EXPIRED) and state is not order.state:
        changes["reason_code"] = f"BROKER_{state}"
        changes["reason"] = row.message or f"{order.broker}: {row.status}"
    if (was_unsent or command.state in AFTER_THE_CALL) and state is not order.state:
        command.finish("notify", batch.at)
        batch.commands.append(command)
    event_type = EVENT_OF_STATE.get(state, EventType.SUBMITTED)
    if state is order.state and not changes:
        if not differs or "trades" not in differs:
            return
        event_type = EventType.RECONCILED
    because: dict[str, Any] = {}
    if row.exchange_order_id:
        because = {"status": row.status, "exchangeOrderId": row.exchange_order_id}
    if differs:
        because["differs"] = dict(differs)
    moved = state if state is not order.state else None
    batch.change(
        order, advance(order, event_type, source, batch.at, state=moved, changes=changes, because=because)
    )
    batch.news.add(order.intent_id)


def state_after(order: Order, row: BookRow, filled: int) -> OrderState:
    """The state in which a row of the book leaves an order that has been sent."""
    if order.state in TERMINAL:
        return order.state
    wanted = row.state or (OrderState.SUBMITTED if order.state not in AT_BROKER else order.state)
    if wanted not in TERMINAL and 0 < filled < order.quantity:
        wanted = OrderState.PARTIALLY_FILLED
    if order.state is OrderState.OPEN and wanted is OrderState.TRIGGER_PENDING:
        return order.state  # an old report: what was triggered can't be untriggered
    return wanted if wanted is not order.state and may_move(order.state, wanted) else order.state
