"""What an operator is refused, and why: nothing is sent again, given up or settled against what the record knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from domain.changes import ATTEMPTS_OF_A_SEQ, Change, Told, attempt_number
from domain.commands import Command, CommandKind, CommandState
from domain.errors import Malformed, Refused
from domain.lifecycle import AT_BROKER, TERMINAL, UNSENT, OrderState
from domain.orders import Order
from domain.settlements import Settlement, Taken, find_faults
from pipeline.chain import OUTCOME
from readmodel.views import broker_text
from store import changes, commands, orders, stuck
from store.stuck import Called
from store.unit import Unit

IN_DOUBT = frozenset({OrderState.SENDING, OrderState.UNKNOWN})  # sent perhaps: only a settlement tells


class MayHaveBeenSent(Refused):
    """The broker may have this order: evidence has to come first."""

    code: ClassVar[str] = "MAY_HAVE_BEEN_SENT"


class NotStuck(Refused):
    """Nothing has stopped here that an operator could work on."""

    code: ClassVar[str] = "NOT_STUCK"


class NotUnknown(Refused):
    """There is nothing to settle: the record knows what became of the order's calls."""

    code: ClassVar[str] = "NOT_UNKNOWN"


class Contradicted(Refused):
    """The record holds evidence against what the operator says."""

    code: ClassVar[str] = "CONTRADICTED"


@dataclass(frozen=True, slots=True)
class Case:
    """One order in an operator's hands, its rows locked: its placement, or with a `change` a modify or cancel of it.

    `calls` are those of that command.
    """

    command: Command
    order: Order
    calls: Sequence[Called]
    has_waiting_reports: bool
    change: Change | None = None

    @property
    def newest(self) -> Called | None:
        seq, fence = self.command.seq, self.command.fence
        number = attempt_number(seq, fence)
        return next((call for call in self.calls if call.number == number), None)


def cases_of(unit: Unit, order_ids: Sequence[str], seqs: Mapping[str, int] | None = None) -> dict[str, Case]:
    """The orders that are there, their rows locked in the order of their ids.

    Of each the command with the seq given, else the one that has stopped: the placement first, and also where nothing has.
    """
    stopped, held = commands.lock_stopped(unit, order_ids), orders.lock(unit, order_ids)
    calls, waiting = stuck.calls_of(unit, order_ids), stuck.with_waiting_reports(unit, order_ids)
    chosen = {
        order_id: _chosen(of, (seqs or {}).get(order_id)) for order_id, of in stopped.items() if order_id in held
    }
    found = changes.of(unit, [(command.order_id, command.seq) for command in chosen.values() if command.seq])
    return {
        order_id: Case(
            command := chosen[order_id],
            held[order_id],
            [call for call in calls.get(order_id, []) if call.number // ATTEMPTS_OF_A_SEQ == command.seq],
            order_id in waiting,
            found.get((order_id, command.seq)),
        )
        for order_id in order_ids
        if order_id in chosen
    }


def _chosen(of: Sequence[Command], seq: int | None) -> Command:
    for command in of:
        if command.seq == seq or (seq is None and command.state in (CommandState.STUCK, CommandState.UNKNOWN)):
            return command
    return of[0]


def refuse_to_requeue(case: Case) -> None:
    _refuse_unless_stuck(case)
    # A modify or cancel first looks how its order stands. After a placement's call nothing is sent: what came of it is
    # written down.
    if case.change is None and case.command.stage not in OUTCOME:
        _refuse_if_sent(case)


def refuse_to_discard(case: Case) -> None:
    _refuse_unless_stuck(case)
    if case.change is None:
        _refuse_if_sent(case)
    elif case.order.state in TERMINAL:
        return
    elif case.command.kind is not CommandKind.CANCEL:
        raise Contradicted(
            f"the {case.command.kind} of order {case.order.id} holds part of its account, which its own stage gives back: requeue it"
        )
    elif case.order.state not in AT_BROKER:
        raise Contradicted(
            f"order {case.order.id} is {case.order.state}: what was asked for holds for it all the same; requeue it"
        )
    elif case.change.told not in (None, Told.NOT_SENT, Told.REFUSED):
        raise MayHaveBeenSent(
            f"{named(case.order)} may have heard of it: requeued, it looks at what has come of it before anything else"
        )


def refuse_to_settle(case: Case, settlement: Settlement | None, at: datetime, proof: timedelta) -> None:
    """With no settlement: whether any could be made."""
    command, order = case.command, case.order
    if case.change is not None:
        raise NotUnknown(f"the {command.kind} of order {order.id} waits for the order's book: there is nothing to settle")
    is_unknown = command.state is CommandState.UNKNOWN
    if not (is_unknown or (command.state is CommandState.STUCK and order.state in IN_DOUBT)):
        raise NotUnknown(f"order {order.id} is {order.state}, its work {command.state}: there is nothing to settle")
    if settlement is None:
        return
    for call in case.calls:
        if call.outcome == "ACCEPTED" and call.broker_order_id != _number_in(settlement):
            raise Contradicted(
                f"attempt {call.number} of order {order.id} was ACCEPTED as {call.broker_order_id}:"
                " the record can't be settled otherwise"
            )
    if isinstance(settlement, Taken):
        if order.broker_order_id not in (None, settlement.broker_order_id):
            raise Contradicted(f"order {order.id} is {order.broker_order_id} at {named(order)} already")
        faults = tuple(find_faults(settlement, quantity=order.quantity))
        if faults:
            raise Malformed(faults)
        return
    if case.has_waiting_reports:
        raise _waits_for_reports(order)
    until = _proof_from(case, proof)
    if until is not None and at < until:
        raise MayHaveBeenSent(
            f"{named(order)} may still take order {order.id} until {until.isoformat(timespec='seconds')}: look again then"
        )


def named(order: Order) -> str:
    """The order's broker, as people read it."""
    return broker_text(order.broker) or "its broker"


def _number_in(settlement: Settlement) -> str | None:
    return settlement.broker_order_id if isinstance(settlement, Taken) else None


def _proof_from(case: Case, proof: timedelta) -> datetime | None:
    """From when on a look that finds nothing means something: a call may be taken some time after its end."""
    newest = case.newest
    return None if newest is None else max(newest.ended_at or newest.lease_until, newest.lease_until) + proof


def refuse_unless_stopped(case: Case) -> None:
    if case.command.state not in (CommandState.STUCK, CommandState.UNKNOWN):
        raise NotStuck(_where(case))


def _refuse_unless_stuck(case: Case) -> None:
    if case.command.state is CommandState.UNKNOWN:
        raise MayHaveBeenSent(
            f"nobody knows yet whether {named(case.order)} has order {case.order.id}: its book is searched,"
            " and an operator may settle it with evidence"
        )
    if case.command.state is not CommandState.STUCK:
        raise NotStuck(_where(case))


def _where(case: Case) -> str:
    return f"order {case.order.id} is {case.command.state} at {case.command.stage}, not stuck"


def _refuse_if_sent(case: Case) -> None:
    """That an order is unsent is known of its state, which evidence alone brings back to it; and of its newest call."""
    order, newest = case.order, case.newest
    if case.has_waiting_reports:
        raise _waits_for_reports(order)
    if order.state in UNSENT:
        doubtful = next((call for call in case.calls if call.outcome == "ACCEPTED"), None)
    elif order.state is OrderState.SENDING and newest is not None and newest.outcome == "NOT_SENT":
        doubtful = None
    elif order.state in IN_DOUBT and newest is not None:
        doubtful = newest
    else:
        raise MayHaveBeenSent(f"order {order.id} is {order.state} at {named(order)}: requeue it at its outcome only")
    if doubtful is not None:
        raise MayHaveBeenSent(
            f"attempt {doubtful.number} of order {order.id} ended {doubtful.outcome or 'without an outcome'}:"
            " the broker may have it; settle it with evidence first"
        )


def _waits_for_reports(order: Order) -> MayHaveBeenSent:
    return MayHaveBeenSent(f"{named(order)} has said something of order {order.id} that is just being applied")
