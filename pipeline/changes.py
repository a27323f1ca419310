"""Changes: cancels of orders that are there already, decided under the order's lock, and what modifies have in common with them.

A cancel of what was not sent ends here, without a broker. One of what is at the broker goes to its dispatch, comes
back with the answer, and waits for the book: an answer is no proof, and what the book shows is what is told. It is asked
again only after a read of the book that began later and still shows the order live; a modify is never repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from domain.cancels import is_soft
from domain.changes import Change, Result, Told, result_of_end
from domain.commands import Command, CommandKind, CommandState
from domain.events import EventType, Source, advance
from domain.lifecycle import AT_BROKER, TERMINAL, UNSENT, OrderState
from domain.orders import Order
from pipeline.batch import Batch
from pipeline.chain import change_stage, soft_cancel_stage
from pipeline.desk import Desk
from pipeline.failfast import GO, Turn, lines_of
from pipeline.stage import Policy
from pipeline.unsent import end_of
from store import changes, commands, reports
from store.unit import Unit

LOOK_AGAIN = timedelta(milliseconds=100)  # where another worker holds the placement: it sees the request itself
LOOK_AGAIN_FOR = timedelta(seconds=5)
SKIPPED = "a line before it was not cancelled, and the intent wanted to stop there"
WAIT_FIRST, WAIT_MAX = timedelta(milliseconds=500), timedelta(seconds=15)
BOOK_EVERY = timedelta(seconds=2.6)  # a live account's book is read about so often


class ChangeGroup:
    """The stage `cancel`: what to do next about each cancel, in one transaction for the batch. Modifies have a group of their own."""

    policies: Mapping[str, Policy] = MappingProxyType({"cancel": Policy(10, (200, 10_000))})

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def decide(self, unit: Unit, claimed: Sequence[Command], held: Mapping[str, Order], batch: Batch) -> None:
        found = changes.of(unit, [(command.order_id, command.seq) for command in claimed])
        unsent = [order.id for order in held.values() if order.state in UNSENT]
        placements = commands.lock_free(unit, unsent) if unsent else {}
        # The reads first: what one of them has shown is in the inbox with it, or applied before these orders were locked.
        reads = changes.reads_of(unit, sorted({order.account_id for order in held.values() if order.account_id}))
        waiting = reports.waiting_of(unit, list(held))
        lines, parts = lines_of(unit, found), _cancelling_parts(unit, held)
        # Line by line, and orders after their slices.
        def place(command: Command) -> tuple[int, bool]:
            return found[command.order_id, command.seq].line, held[command.order_id].is_parent

        for command in sorted(claimed, key=place):
            order, change = held[command.order_id], found[command.order_id, command.seq]
            batch.hold(order)
            # What its book has shown may wait to be applied: until then nobody knows what a read has shown.
            read_at = None if order.id in waiting else reads.get(order.account_id or "")
            try:
                if command.kind is CommandKind.CANCEL:
                    placement = placements.get(order.id) if order.id not in waiting else None
                    facts = Facts(placement, read_at, lines.turn(change), parts.get(order.id, 0))
                    decide_cancel(order, command, change, facts, batch)
                    lines.settled(change)
            except Exception as error:  # noqa: BLE001 - one order's failure is its own
                batch.failures[order.id] = error
                continue
            batch.commands.append(command)
            batch.changes.append(change)
            batch.news.add(change.intent_id)
        if lines.wake_next(unit, batch.at):
            batch.wakes.add("cancel")
        _wake_parents(unit, claimed, held, batch)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a cancel is judged by, beside its order."""

    placement: Command | None = None  # the order's own command, if it could be had and no word of its broker waits
    read_at: datetime | None = None  # when the newest read of its account's book began
    turn: Turn = GO  # among the lines of its intent
    parts: int = 0  # slices of it with a cancel under way


def decide_cancel(order: Order, command: Command, change: Change, facts: Facts, batch: Batch) -> None:
    """What follows for one cancel."""
    if order.state in TERMINAL:
        finish(order, command, change, result_of_end(order.state, cancel=True), batch)
    elif order.is_parent:
        _decide_parent(order, command, change, facts, batch)
    elif order.state in UNSENT:
        if facts.placement is None:
            _look_again(command, change, batch)
            return
        _cancel_unsent(order, facts.placement, change, batch)
        finish(order, command, change, Result.CANCELLED, batch)
    elif order.state not in AT_BROKER or order.broker is None or order.broker_order_id is None:
        wait(command, change, batch)  # its call is under way, or nobody knows what came of it
    elif change.told is None and facts.turn.is_skipped:
        give_up_cancel(order, command, change, Result.SKIPPED, batch, reason=SKIPPED)
    elif change.told is None and facts.turn.behind:
        _wait_for_turn(command, facts.turn, batch)
    elif change.told in (None, Told.NOT_SENT) or (is_shown(change, facts.read_at) and change.told is not Told.REFUSED):
        send(order, command, batch, stage=soft_cancel_stage(order.broker) if is_soft(change.wanted) else None)
    elif is_shown(change, facts.read_at):
        give_up_cancel(
            order, command, change, Result.REFUSED, batch, code="BROKER_REFUSED", reason=change.told_detail
        )
    else:
        wait(command, change, batch, order=order)


def _decide_parent(order: Order, command: Command, change: Change, facts: Facts, batch: Batch) -> None:
    """Its slices have cancels of their own, and it is their sum: once none is under way and it lives, one has failed."""
    if facts.parts:
        wait(command, change, batch)
    elif any(other.parent_id == order.id for other in batch.orders.values()):
        _look_again(command, change, batch)  # this batch changes what it sums up to
    elif facts.turn.is_skipped:
        give_up_cancel(order, command, change, Result.SKIPPED, batch, reason=SKIPPED)
    else:
        give_up_cancel(
            order, command, change, Result.REFUSED, batch, code="SLICES_LIVE", reason="a slice of it could not be cancelled"
        )


def _look_again(command: Command, change: Change, batch: Batch) -> None:
    """In a moment: somebody has in hand what it waits for. Where that lasts, as if it waited for anything else."""
    if batch.at - change.asked_at > LOOK_AGAIN_FOR:
        wait(command, change, batch)
        return
    command.due_at = batch.at + LOOK_AGAIN
    batch.wake_in(command.stage, LOOK_AGAIN.total_seconds())


def _wait_for_turn(command: Command, turn: Turn, batch: Batch) -> None:
    command.due_at = batch.at + turn.wait
    batch.wake_in(command.stage, turn.wait.total_seconds())


def is_shown(change: Change, read_at: datetime | None) -> bool:
    """Whether the order, as it stands, shows what the change's newest call has brought about."""
    return change.proof_from is not None and read_at is not None and read_at > change.proof_from


def send(order: Order, command: Command, batch: Batch, *, stage: str | None = None) -> None:
    stage = stage or change_stage(order.broker or "", command.kind)
    command.go_to(stage, batch.at)
    batch.wakes.add(stage)


def wait(command: Command, change: Change, batch: Batch, *, order: Order | None = None) -> None:
    """Look again: at once when something comes of the order, else after a while that grows.

    With the order: once its book has been read late enough to tell.
    """
    pause = _grown(batch.at - change.asked_at)
    if order is not None and change.proof_from is not None:
        pause = _until_shown(change.proof_from, pause, batch.at)
        if order.broker is not None:
            batch.books.add(order.broker)
    command.due_at = batch.at + pause
    batch.wake_in(command.stage, pause.total_seconds())


def _grown(waited: timedelta) -> timedelta:
    return min(WAIT_MAX, max(WAIT_FIRST, waited / 2))


def _until_shown(proof_from: datetime, pause: timedelta, at: datetime) -> timedelta:
    """Until the book has surely been read; where it could not be, the longer, the longer that lasts."""
    ahead = proof_from + BOOK_EVERY - at
    return max(WAIT_FIRST, min(pause, ahead)) if ahead > timedelta() else _grown(at - proof_from)


def finish(
    order: Order,
    command: Command,
    change: Change,
    result: Result,
    batch: Batch,
    *,
    code: str | None = None,
    reason: str | None = None,
) -> None:
    """The last word on a change; the order itself is as its events say."""
    change.settle(result, batch.at, code=code, reason=reason)
    command.finish("notify", batch.at)
    order.changing = max(0, order.changing - 1)
    batch.touch(order, "changing")
    batch.news.add(order.intent_id)


def give_up_cancel(
    order: Order,
    command: Command,
    change: Change,
    result: Result,
    batch: Batch,
    *,
    code: str | None = None,
    reason: str | None = None,
    source: Source = Source.PIPELINE,
) -> None:
    """The order lives on as it was: nobody wants it cancelled any more, and its history says so."""
    order.cancel_requested = False
    batch.touch(order, "cancel_requested")
    event_type = EventType.CANCEL_REFUSED if result is Result.REFUSED else EventType.CANCEL_WITHDRAWN
    because = {"intent": change.intent_id, "code": code or result, "reason": reason}
    batch.change(order, advance(order, event_type, source, batch.at, because=because))
    finish(order, command, change, result, batch, code=code, reason=reason)


def _cancelling_parts(unit: Unit, held: Mapping[str, Order]) -> dict[str, int]:
    parents = [order.id for order in held.values() if order.is_parent]
    return changes.cancelling_slices(unit, parents) if parents else {}


def _wake_parents(unit: Unit, claimed: Sequence[Command], held: Mapping[str, Order], batch: Batch) -> None:
    """A slice's end may be the last that its order's own line waits for, even where nothing of the sum changes."""
    done = (held[command.order_id] for command in claimed if command.state is CommandState.DONE)
    parents = sorted({order.parent_id for order in done if order.parent_id is not None})
    if parents:
        changes.hasten(unit, parents, batch.at)
        batch.wakes.add("cancel")


def _cancel_unsent(order: Order, placement: Command, change: Change, batch: Batch) -> None:
    end = end_of(change.wanted)
    changed = {"reason_code": end.code, "reason": end.text}
    event = advance(order, EventType.CANCELLED, Source.PIPELINE, batch.at, state=OrderState.CANCELLED, changes=changed)
    batch.change(order, event)
    placement.finish("notify", batch.at)
    batch.commands.append(placement)
