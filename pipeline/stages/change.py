"""Change: the calls that modify and cancel, each kind on a queue and call slots of its own, one order a call."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from brokers.base import Line
from domain.cancels import is_soft
from domain.changes import Change, Told, attempt_number
from domain.commands import Command, CommandKind, CommandState
from domain.events import EventType, Source, advance
from domain.ids import new_id
from domain.lifecycle import AT_BROKER
from domain.modifies import modified, terms_of
from domain.orders import Order
from domain.outcomes import Accepted, NotSent, Outcome, Refused, Unknown
from pipeline.batch import Batch
from pipeline.calls import CIRCUIT_LOOK_S, Answer
from pipeline.chain import change_stage, soft_cancel_stage
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.gate import WAIT_FOR_SESSION
from pipeline.modifying_stage import at_their_accounts, gate, revoked_intents
from pipeline.permits import permits_at_gate
from pipeline.pump import Pump
from pipeline.stage import announce
from pipeline.terms import HOLDS
from store import attempts, changes, commands, orders
from store.attempts import Attempt
from store.unit import Unit

if TYPE_CHECKING:
    from brokers.health import Health
    from brokers.limits import RateBudget

log = logging.getLogger(__name__)

SLOTS = 8
CANCEL_SHOWS = timedelta(seconds=2)  # a repeated cancel harms nobody: so soon the book may be believed
RESEND_S = 0.5
SESSION_WAIT_MAX = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class ChangeCall:
    """One call that changes one order, its attempt committed. `target` is the order with the terms asked for."""

    id: str
    account_id: str
    broker_order_id: str
    target: Order
    changed: frozenset[str]
    seq: int
    fence: int
    send_by: float  # on the boot clock: past it no byte may leave

    @property
    def orders(self) -> tuple[Order, ...]:
        return (self.target,)


class Changer(Pump[ChangeCall]):
    """Makes one broker's modifies or cancels."""

    def __init__(
        self,
        desk: Desk,
        broker: str,
        kind: CommandKind,
        budget: RateBudget | None = None,
        health: Health | None = None,
        *,
        soft: bool = False,
    ) -> None:
        """With `soft` the cancels that nobody waits for: they find no more room in the rate budget than places do."""
        super().__init__(
            desk,
            broker,
            soft_cancel_stage(broker) if soft else change_stage(broker, kind),
            operation=kind.lower(),
            slots=SLOTS,
            settle=settle_changes,
            budget=budget,
            health=health,
            urgent=kind is CommandKind.CANCEL and not soft,
        )
        self._kind, self._soft = kind, soft

    def _attempts(
        self, unit: Unit, claimed: list[Command], held: dict[str, Order], free: int, batch: Batch
    ) -> tuple[list[ChangeCall], bool]:
        found = changes.of(unit, [(command.order_id, command.seq) for command in claimed])
        directory, settings = self._desk.directory(), self._desk.settings()
        lease_until = batch.at + timedelta(seconds=settings.place_timeout_s + settings.lease_margin_s)
        send_by = time.clock_gettime(time.CLOCK_BOOTTIME) + settings.lease_margin_s
        unfit = self._unfit(unit, claimed, held, found, batch.at) if self._kind is CommandKind.MODIFY else frozenset()
        calls: list[ChangeCall] = []
        for command in claimed:
            order = held[command.order_id]
            batch.hold(order)
            is_there = order.state in AT_BROKER and order.broker_order_id is not None and order.broker == self._broker
            is_urged = self._soft and not is_soft(found[command.order_id, command.seq].wanted)  # while it was claimed
            if not is_there or is_urged or order.id in unfit:
                command.go_to(self._kind.lower(), batch.at)
                batch.wakes.add(self._kind.lower())
                batch.commands.append(command)
            elif directory.by_id[order.account_id or ""].session != "ALIVE":
                _wait_for_session(command, found[command.order_id, command.seq], order, batch)
            elif len(calls) < free:
                change = found[command.order_id, command.seq]
                calls.append(self._start(command, change, order, lease_until, send_by, batch))
        return calls, len(calls) == free

    def _unfit(
        self,
        unit: Unit,
        claimed: Sequence[Command],
        held: Mapping[str, Order],
        found: Mapping[tuple[str, int], Change],
        at: datetime,
    ) -> frozenset[str]:
        """The orders whose modify may not be asked for any more; its first stage says why."""
        asked = [(held[command.order_id], found[command.order_id, command.seq]) for command in claimed]
        permits = permits_at_gate(unit, at_their_accounts([order for order, _ in asked]), at)
        revoked, settings = revoked_intents(unit, self._desk, [change for _, change in asked]), self._desk.settings()
        return frozenset(
            order.id for order, change in asked if gate(order, change, permits, revoked, settings, at) is not None
        )

    def _start(
        self, command: Command, change: Change, order: Order, lease_until: datetime, send_by: float, batch: Batch
    ) -> ChangeCall:
        command.fence += 1
        command.state, command.lease_until = CommandState.SENDING, lease_until
        batch.commands.append(command)
        call_id = new_id()
        target, changed = order, frozenset[str]()
        if self._kind is CommandKind.MODIFY:
            terms = terms_of(change.wanted)
            target, changed = modified(order, terms), frozenset(terms)
            because = {"attempt": attempt_number(command.seq, command.fence), "call": call_id, "modify": command.seq}
            event = advance(
                order,
                EventType.MODIFYING,
                Source.PIPELINE,
                batch.at,
                changes={"modifies": order.modifies + 1},
                because={**because, "wanted": terms},
            )
            batch.change(order, event)
        # Should nobody ever say how the call ended, this is when it is known to have: after its lease.
        change.told, change.told_detail = Told.UNKNOWN, "the lease ended without an outcome"
        change.proof_from = lease_until + self._shows()
        batch.changes.append(change)
        batch.attempts.append(
            Attempt(
                order_id=order.id,
                number=attempt_number(command.seq, command.fence),
                call_id=call_id,
                broker=self._broker,
                account_id=order.account_id or "",
                tag=order.broker_tag,
                fence=command.fence,
                request={"brokerOrderId": order.broker_order_id, **_asked_for(change)},
                started_at=batch.at,
                lease_until=lease_until,
                kind=self._kind,
            )
        )
        return ChangeCall(
            id=call_id,
            account_id=order.account_id or "",
            broker_order_id=order.broker_order_id or "",
            target=target,
            changed=changed,
            seq=command.seq,
            fence=command.fence,
            send_by=send_by,
        )

    def _shows(self) -> timedelta:
        return shows_after(self._desk, self._broker, self._kind)

    def _make(self, call: ChangeCall) -> Answer[ChangeCall]:
        return Answer(call, (self._outcome(call),), self._desk.now())

    def _outcome(self, call: ChangeCall) -> Outcome:
        if time.clock_gettime(time.CLOCK_BOOTTIME) >= call.send_by:
            return NotSent("the lease was over before the call")
        try:
            session, timeout_s = self._desk.session(call.account_id), self._desk.settings().place_timeout_s
            line = Line(call.target, self._desk.instruments()[call.target.instrument])
        except Exception as error:  # nothing has left yet: the database is away, or the account is gone
            log.warning("a change could not be asked for", extra={"call_id": call.id}, exc_info=True)
            return NotSent(f"{type(error).__name__}: {error}")
        if self._health is not None and (wait_s := self._health.wait_s(self._broker, self._operation)) > 0:
            return NotSent("the circuit is open", retry_after_s=min(wait_s, CIRCUIT_LOOK_S))
        adapter = self._desk.adapters[self._broker]
        try:
            crash("change.before_call")
            if self._kind is CommandKind.CANCEL:
                outcome = adapter.cancel(session, call.broker_order_id, timeout_s=timeout_s, send_by=call.send_by)
            else:
                outcome = adapter.modify(
                    session,
                    call.broker_order_id,
                    line,
                    changed=call.changed,
                    timeout_s=timeout_s,
                    send_by=call.send_by,
                )
            crash("change.after_call")
        except Exception as error:
            log.exception("a change ended in a defect", extra={"call_id": call.id})
            return Unknown(f"{type(error).__name__}: {error}")
        return outcome


def _asked_for(change: Change) -> dict[str, object]:
    """What goes out, without what the record keeps beside it."""
    return {name: value for name, value in change.wanted.items() if name not in (HOLDS, "base_version")}


def _wait_for_session(command: Command, change: Change, order: Order, batch: Batch) -> None:
    """Longer, the longer it has waited; who asked is told why."""
    why = f"the session of {order.account_id} is dead"
    waited = (batch.at - change.asked_at) / 10
    command.due_at, command.error = batch.at + min(SESSION_WAIT_MAX, max(WAIT_FOR_SESSION, waited)), why
    batch.commands.append(command)
    if change.told is None and change.told_detail != why:
        change.told_detail = why
        batch.changes.append(change)
        batch.news.add(change.intent_id)


def _count_back(order: Order, command: Command, why: str, batch: Batch) -> None:
    """A modify that wasn't sent is none that the broker counts."""
    because = {"why": why, "attempt": attempt_number(command.seq, command.fence), "modify": command.seq}
    changes = {"modifies": max(0, order.modifies - 1)}
    batch.change(
        order, advance(order, EventType.NOT_SENT, Source.BROKER_ANSWER, batch.at, changes=changes, because=because)
    )


def shows_after(desk: Desk, broker: str, kind: CommandKind) -> timedelta:
    """From a change's answer until its broker's book surely shows what came of it."""
    if kind is CommandKind.CANCEL:
        return CANCEL_SHOWS
    settings = desk.settings()
    return timedelta(seconds=settings.broker_proof_s.get(broker, settings.proof_s))


def settle_changes(desk: Desk, answers: Sequence[Answer[ChangeCall]], known: Mapping[str, Order]) -> None:
    """Write down how calls ended: outcomes of attempts, and where their changes go from there."""
    batch = Batch(at=desk.now())
    ended = {(answer.call.target.id, answer.call.seq, answer.call.fence): answer for answer in answers}
    with desk.store.unit() as unit:
        locked = commands.lock_changing(unit, list(ended))
        held = orders.lock(unit, sorted({command.order_id for command in locked}))
        found = changes.of(unit, [(command.order_id, command.seq) for command in locked])
        for command in locked:
            order, change = held[command.order_id], found[command.order_id, command.seq]
            answer = ended[command.order_id, command.seq, command.fence]
            batch.hold(order)
            _settle(desk, order, command, change, answer.outcomes[0], batch)
            batch.commands.append(command)
            batch.changes.append(change)
            batch.news.add(change.intent_id)
        ends = [
            (order_id, attempt_number(seq, fence), answer.outcomes[0], answer.at)
            for (order_id, seq, fence), answer in ended.items()
        ]
        attempts.end(unit, ends)
        batch.record(unit)
        crash("change.outcome.before_commit")
    crash("change.outcome.after_commit")
    announce(desk, batch)


def _settle(desk: Desk, order: Order, command: Command, change: Change, outcome: Outcome, batch: Batch) -> None:
    """An answer is no proof: the change goes back to its first stage, which judges it by the book."""
    stage = command.kind.lower()
    change.proof_from = batch.at + shows_after(desk, order.broker or "", command.kind)
    match outcome:
        case Accepted():
            change.told, change.told_detail = Told.ACCEPTED, None
            if command.kind is CommandKind.MODIFY:
                # It is in the broker's hands: once its book has had the time to catch up, what it shows is the truth.
                change.proof_from = batch.at + timedelta(seconds=desk.settings().book_lag_s)
        case Refused(code, message):
            change.told, change.told_detail = Told.REFUSED, f"{order.broker}: {message} ({code})"
            if command.kind is CommandKind.CANCEL:
                # It may be over already, and a book may be late: what it shows in a while is the truth.
                change.proof_from = batch.at + timedelta(seconds=desk.settings().book_lag_s)
        case NotSent(why, retry_after_s, session_dead):
            change.told, change.told_detail = Told.NOT_SENT, why
            if session_dead and order.account_id is not None:
                batch.dead_sessions.add(order.account_id)
            if command.kind is CommandKind.MODIFY:
                _count_back(order, command, why, batch)
            wait_s = retry_after_s or RESEND_S
            command.go_to(stage, batch.at + timedelta(seconds=wait_s))
            batch.wake_in(stage, wait_s)
            return
        case Unknown(why):
            change.told, change.told_detail = Told.UNKNOWN, why
    command.go_to(stage, batch.at)
    batch.wakes.add(stage)
    if order.broker is not None:
        batch.books.add(order.broker)
