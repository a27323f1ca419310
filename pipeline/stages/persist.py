"""Persist: the only place where a call's outcome or a broker's report becomes an order's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from domain.commands import Command, CommandState
from domain.events import EVENT_OF_STATE, Event, EventType, Source, advance
from domain.lifecycle import AT_BROKER, TERMINAL, UNSENT, OrderState, may_move
from domain.orders import Order
from domain.outcomes import Accepted, BookRow, NotSent, Outcome, Refused, Unknown
from pipeline.batch import Batch
from pipeline.chain import dispatch_stage
from pipeline.stage import Policy
from store import attempts
from store.unit import Unit

RESEND_FIRST_S, RESEND_MAX_S = 0.2, 5.0
LEASE_OVER = Unknown("the lease ended without an outcome")


@dataclass(frozen=True, slots=True)
class OutcomeGroup:
    """persist and notify: one transaction carries a command through both; the telling follows the commit."""

    policies: Mapping[str, Policy]

    def decide(self, unit: Unit, claimed: Sequence[Command], held: Mapping[str, Order], batch: Batch) -> None:
        outcomes = attempts.newest(unit, [(command.order_id, command.fence) for command in claimed])
        for command in claimed:
            order = held[command.order_id]
            try:
                settle(order, command, outcomes.get(command.order_id) or LEASE_OVER, batch)
            except Exception as error:  # noqa: BLE001 - one order's failure is its own
                batch.failures[command.order_id] = error
                continue
            batch.commands.append(command)
            batch.news.add(order.intent_id)


OUTCOME = OutcomeGroup({"persist": Policy(10, (200, 10_000)), "notify": Policy(10, (200, 10_000))})


def settle(order: Order, command: Command, outcome: Outcome, batch: Batch) -> None:
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
            event = advance(
                order,
                EventType.SUBMITTED,
                Source.BROKER_ANSWER,
                batch.at,
                state=OrderState.SUBMITTED,
                changes=changes,
            )
            command.finish("notify", batch.at)
            if order.broker is not None:
                batch.books.add(order.broker)
        case Refused(code, message):
            changes = {"reason_code": "BROKER_REFUSED", "reason": f"{order.broker}: {message} ({code})"}
            event = advance(
                order, EventType.REJECTED, Source.BROKER_ANSWER, batch.at, state=OrderState.REJECTED, changes=changes
            )
            command.finish("notify", batch.at)
        case NotSent():
            event = _send_again(order, command, outcome, batch)
        case Unknown(why):
            event = _unknown(order, command, why, batch)
    batch.change(order, event)


def _send_again(order: Order, command: Command, outcome: NotSent, batch: Batch) -> Event:
    wait_s = outcome.retry_after_s or min(RESEND_MAX_S, RESEND_FIRST_S * 2 ** min(command.fence - 1, 10))
    assert order.broker is not None
    stage = dispatch_stage(order.broker)
    # No later than its limit, at which it is refused: however long the broker wants to be left alone.
    command.go_to(stage, min(batch.at + timedelta(seconds=wait_s), max(batch.at, order.send_before)))
    batch.later[stage] = min(wait_s, batch.later.get(stage, wait_s))
    because = {"why": outcome.why, "attempt": command.fence, "againInS": wait_s}
    return advance(
        order, EventType.NOT_SENT, Source.BROKER_ANSWER, batch.at, state=OrderState.RECEIVED, because=because
    )


def _unknown(order: Order, command: Command, why: str, batch: Batch) -> Event:
    command.stage, command.state, command.due_at, command.error = "persist", CommandState.UNKNOWN, batch.at, why
    if order.broker is not None:
        batch.books.add(order.broker)
    state = OrderState.UNKNOWN if order.state is not OrderState.UNKNOWN else None
    return advance(
        order,
        EventType.UNKNOWN,
        Source.BROKER_ANSWER,
        batch.at,
        state=state,
        because={"why": why, "attempt": command.fence},
    )


def _settle_late(order: Order, outcome: Outcome, batch: Batch) -> None:
    """The book spoke before the answer did: keep the broker's order id if the book had none."""
    if isinstance(outcome, Accepted) and order.broker_order_id is None:
        changes = {"broker_order_id": outcome.broker_order_id}
        batch.change(order, advance(order, EventType.SUBMITTED, Source.BROKER_ANSWER, batch.at, changes=changes))


def apply_row(order: Order, command: Command, row: BookRow, source: Source, batch: Batch) -> None:
    """Bring an order up to what the broker's book shows of it.

    Filled quantity never falls, terminal states stay, and a move that the lifecycle has not is not made: late,
    repeated and reordered reports end where the newest alone would.
    """
    if was_unsent := order.state in UNSENT:
        # The broker has what we took for unsent: it must not be sent again.
        found = {"why": "found in the broker's book"}
        event = advance(order, EventType.SENDING, source, batch.at, state=OrderState.SENDING, because=found)
        batch.change(order, event)
    batch.fills.extend((order, fill) for fill in row.fills)
    filled = max(order.filled_quantity, min(row.filled_quantity, order.quantity))
    changes: dict[str, object] = {}
    if filled != order.filled_quantity:
        changes["filled_quantity"] = filled
        changes["average_price"] = row.average_price
    if order.broker_order_id is None:
        changes["broker_order_id"] = row.broker_order_id
    state = _state_after(order, row, filled)
    if state in (OrderState.REJECTED, OrderState.CANCELLED) and state is not order.state:
        changes["reason_code"] = f"BROKER_{state}"
        changes["reason"] = row.message or f"{order.broker}: {row.status}"
    if (was_unsent or command.state in (CommandState.UNKNOWN, CommandState.SENDING)) and state is not order.state:
        command.finish("notify", batch.at)
        batch.commands.append(command)
    if state is order.state and not changes:
        return
    event_type = EVENT_OF_STATE.get(state, EventType.SUBMITTED)
    because = {"status": row.status, "exchangeOrderId": row.exchange_order_id} if row.exchange_order_id else None
    moved = state if state is not order.state else None
    batch.change(
        order, advance(order, event_type, source, batch.at, state=moved, changes=changes, because=because)
    )
    batch.news.add(order.intent_id)


def _state_after(order: Order, row: BookRow, filled: int) -> OrderState:
    if order.state in TERMINAL:
        return order.state
    wanted = row.state or (OrderState.SUBMITTED if order.state not in AT_BROKER else order.state)
    if wanted not in TERMINAL and 0 < filled < order.quantity:
        wanted = OrderState.PARTIALLY_FILLED
    if order.state is OrderState.OPEN and wanted is OrderState.TRIGGER_PENDING:
        return order.state  # an old report: what was triggered can't be untriggered
    return wanted if wanted is not order.state and may_move(order.state, wanted) else order.state
