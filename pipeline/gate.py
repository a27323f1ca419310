"""The last gate: whether an order may be sent at this moment, asked inside the transaction that writes its attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from domain.accounts import Account
from domain.commands import Command
from domain.events import EventType, Source, advance
from domain.instruments import Instrument
from domain.lifecycle import UNSENT, OrderState
from domain.market import phase_for
from domain.orders import Order
from domain.verdicts import Proceed, Reject, Verdict, Wait
from pipeline.batch import Batch
from pipeline.desk import Desk
from pipeline.permits import Asked, Permits, permits_at_gate
from pipeline.unsent import CANCELLED, ends_of
from store import intents
from store.unit import Unit

WAIT_FOR_SESSION = timedelta(seconds=1)


def last_gate(
    order: Order,
    account: Account,
    instrument: Instrument,
    *,
    key_revoked: bool,
    at: datetime,
    permits: Permits = Permits({}),  # noqa: B008 - nothing is switched off
    cancelled: Reject = CANCELLED,
) -> Verdict:
    """Proceed, or why not: the order is over, where its cancel was asked for with what that says, or waits for its broker session."""
    if order.cancel_requested:
        return cancelled
    if at >= order.send_before:
        return Reject("EXPIRED_UNSENT", (f"not sent by {order.send_before.isoformat(timespec='seconds')}, its limit",))
    if key_revoked:
        return Reject("KEY_REVOKED", ("the API key, or the signal strategy's secret, that it came with was revoked",))
    if not phase_for(instrument, account.calendar, at).takes_orders:
        return Reject("EXPIRED_UNSENT", (f"the session of {instrument.exchange} ended before it was sent",))
    if (forbidden := permits.judge(order, account.id, order.instrument)) is not None:
        return forbidden
    if account.session != "ALIVE":
        return Wait(at + WAIT_FOR_SESSION, f"the session of {account.id} is dead")
    return Proceed()


def let_through(
    unit: Unit, desk: Desk, claimed: Sequence[Command], held: Mapping[str, Order], batch: Batch
) -> list[tuple[Command, Order]]:
    """Those that the gate lets pass; in the batch, the others end here or wait."""
    revoked, passed = _by_revoked_keys(unit, desk, held), []
    directory, instruments = desk.directory(), desk.instruments()
    ends, permits = ends_of(unit, held.values()), _permits(unit, held, batch.at)
    for command in claimed:
        order = held[command.order_id]
        batch.hold(order)
        if order.state not in UNSENT:
            command.finish("notify", batch.at)
            batch.commands.append(command)
            continue
        account, instrument = directory.by_id[order.account_id or ""], instruments[order.instrument]
        key_revoked = order.intent_id in revoked
        cancelled = ends.get(order.id, CANCELLED)
        match last_gate(
            order, account, instrument, key_revoked=key_revoked, at=batch.at, permits=permits, cancelled=cancelled
        ):
            case Wait(until, why):
                command.due_at, command.error = until, why
                batch.commands.append(command)
            case Reject() as verdict:
                _close(command, order, verdict, batch)
            case _:
                permits.take(order, account.id, order.instrument)
                passed.append((command, order))
    return passed


def _permits(unit: Unit, held: Mapping[str, Order], at: datetime) -> Permits:
    """For what isn't sent yet; of what this batch sends, each finds less than the one before."""
    asked: list[Asked] = [
        (order, order.account_id, order.instrument)
        for order in held.values()
        if order.account_id is not None and order.state in UNSENT
    ]
    return permits_at_gate(unit, asked, at)


def _by_revoked_keys(unit: Unit, desk: Desk, held: Mapping[str, Order]) -> frozenset[str]:
    """The intents that came with a key, or from a signal strategy, that has been revoked since."""
    revoked = desk.directory().revoked_keys
    if not revoked:
        return frozenset()
    accepted = {order.intent_id: order.accepted_at for order in held.values()}
    keys = intents.keys_of(unit, sorted(accepted))
    return frozenset(id_ for id_, key_id in keys.items() if key_id in revoked and accepted[id_] < revoked[key_id])


def _close(command: Command, order: Order, verdict: Reject, batch: Batch) -> None:
    event_type = EventType.CANCELLED if order.cancel_requested else EventType.REJECTED
    state = OrderState.CANCELLED if order.cancel_requested else OrderState.REJECTED
    changes = {"reason_code": verdict.code, "reason": verdict.text}
    batch.change(order, advance(order, event_type, Source.PIPELINE, batch.at, state=state, changes=changes))
    command.finish("notify", batch.at)
    batch.commands.append(command)
    batch.news.add(order.intent_id)
