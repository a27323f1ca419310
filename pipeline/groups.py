"""The stage `groups`: decides on held lines, one intent at a time, in transactions of its own.

It is woken after every commit that moves a line of a group, and by the sweep. What is to be decided stands in the record
(store/groups.py); `domain/groups.decide` says what follows. Locks are taken as everywhere: intent → commands by id →
orders → accounts. Lines that aren't held are read after that, without a lock: whoever moves one later leaves a mark.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from domain.commands import Command, CommandState
from domain.errors import StoreAway
from domain.events import EventType, Source, advance
from domain.groups import GroupPolicy, decide
from domain.lifecycle import UNSENT, OrderState
from domain.orders import Order
from pipeline.batch import Batch
from pipeline.chain import GROUPS
from pipeline.claims import forget_claim, open_claim
from pipeline.clearing import send_on
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.stage import Policy, announce, give_up
from store import groups, orders
from store.groups import Claimed, Group
from store.unit import Unit, is_passing

log = logging.getLogger(__name__)

INTENTS_MAX = 50  # in one transaction
ROUNDS_MAX = 200
POLICY = Policy(10, (200, 10_000))


class _Suspicious(Exception):
    """Among them is a line that was in the hands of a worker that died: each group is taken alone."""


class Groups:
    """Handles the queue `groups`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def run(self, since: str | None = None) -> int:
        """Decide until nothing more is due; gives how many intents were looked at."""
        total = 0
        for _ in range(ROUNDS_MAX):
            if self._desk.stopping.is_set():
                return total
            looked_at = self._round()
            total += looked_at
            if not looked_at:
                return total
        self._desk.wakeups.wake(GROUPS)
        return total

    def _round(self) -> int:
        with self._desk.store.unit() as unit:
            due = groups.due(unit, self._desk.now(), INTENTS_MAX)
        if not due:
            return 0
        try:
            return self._decide(due)
        except StoreAway:
            raise
        except _Suspicious:
            return sum(self._alone(intent_id) for intent_id in due)
        except Exception as error:  # noqa: BLE001 - nobody can say for whose sake
            log.warning("decisions on %d groups failed, each is tried alone: %s", len(due), error)
            return sum(self._alone(intent_id) for intent_id in due)

    def _alone(self, intent_id: str) -> int:
        try:
            return self._decide([intent_id])
        except StoreAway:
            raise
        except Exception as error:
            if is_passing(error):
                log.warning("a group waits, its rows are held: %s", error, extra={"intent_id": intent_id})
            else:
                log.exception("a group could not be decided on", extra={"intent_id": intent_id})
            self._put_off(intent_id, error)
            return 1

    def _decide(self, due: Sequence[str]) -> int:
        """One transaction: lock, read, decide, record."""
        batch = Batch(at=self._desk.now(), marks_groups=False)
        claim_id: int | None = None
        try:
            with self._desk.store.unit() as unit:
                claimed = groups.claim(unit, due)
                if not claimed:
                    return 0  # others are at work on them, and look again before they stop
                held = groups.lock_held(unit, [id_ for group in claimed for id_ in group.order_ids])
                if held:
                    if len(claimed) > 1 and any(command.deaths for command in held):
                        raise _Suspicious
                    claim_id = open_claim(self._desk, GROUPS, held)
                    crash("groups.after_claim")
                    self._decide_on(unit, claimed, held, batch)
                batch.record(unit, claim_id)
                crash("groups.before_commit")
        except BaseException:
            forget_claim(self._desk, claim_id)
            raise
        crash("groups.after_commit")
        announce(self._desk, batch)
        return len(claimed)

    def _decide_on(self, unit: Unit, claimed: Sequence[Claimed], held: Sequence[Command], batch: Batch) -> None:
        locked = orders.lock(unit, [command.order_id for command in held])
        for command in held:
            batch.hold(locked[command.order_id])
            if locked[command.order_id].state not in UNSENT:  # its broker's book has shown it all the same
                command.finish("notify", batch.at)
                batch.commands.append(command)
        concerned = {order.intent_id for order in locked.values()}
        found = groups.read(unit, [id_ for group in claimed if group.intent_id in concerned for id_ in group.order_ids])
        commands = {command.order_id: command for command in held}
        let_go = [
            group.intent_id
            for group in claimed
            if group.intent_id in found and self._apply(group, found[group.intent_id], commands, locked, batch)
        ]
        if let_go:
            groups.note_release(unit, let_go, batch.at)

    def _apply(
        self, claimed: Claimed, group: Group, commands: dict[str, Command], locked: dict[str, Order], batch: Batch
    ) -> bool:
        """Write the decision on one group into the batch; whether its lines are let go together now."""
        decision = decide(group.policy, group.lines, batch.at, released=claimed.released)

        def line(number: int) -> tuple[Command, Order]:
            order_id = group.order_ids[number]
            return commands[order_id], locked[order_id]

        for number in decision.releases:
            self._release(*line(number), batch)
        for number in decision.cancels:
            command, order = line(number)
            if order.changing and batch.at < order.send_before:  # its cancel ends it, and knows why
                _wait(command, order, "is being cancelled", batch)
            else:
                _end(command, order, OrderState.CANCELLED, "CANCELLED_UNSENT", "cancelled before it was sent", batch)
        for number, reason in decision.rejections.items():
            _end(*line(number), OrderState.REJECTED, "GROUP_REJECTED", reason, batch)
        for number, why in decision.waits.items():
            _wait(*line(number), why, batch)
        return group.policy is GroupPolicy.ALL_OR_NONE and not claimed.released and bool(decision.releases)

    def _release(self, command: Command, order: Order, batch: Batch) -> None:
        installation, instrument = self._desk.environment.installation, self._desk.instruments()[order.instrument]
        changes, because = send_on(command, order, instrument, installation, batch)
        event = advance(
            order,
            EventType.RELEASED,
            Source.PIPELINE,
            batch.at,
            state=OrderState.RECEIVED if order.state is OrderState.HELD else None,
            changes=changes,
            because=because,
        )
        batch.change(order, event)
        batch.commands.append(command)
        batch.news.add(order.intent_id)

    def _put_off(self, intent_id: str, error: Exception) -> None:
        """Decide again after a while that grows; out of tries the held lines are an operator's."""
        now = self._desk.now()
        batch = Batch(at=now, marks_groups=False)
        with self._desk.store.unit() as unit:
            for claimed in groups.claim(unit, [intent_id]):
                tries = claimed.tries + (not is_passing(error))
                due_at = now + POLICY.wait(max(1, tries))
                held = groups.lock_held(unit, claimed.order_ids)
                locked = orders.lock(unit, [command.order_id for command in held])
                for command in held:
                    command.due_at = max(command.due_at, due_at)
                    command.attempts, command.error = tries, f"{type(error).__name__}: {error}"[:500]
                    if tries >= POLICY.tries:
                        batch.hold(locked[command.order_id])
                        give_up(command, locked[command.order_id], batch)
                    batch.commands.append(command)
                if held and tries < POLICY.tries:
                    groups.mark(unit, [intent_id], due_at, tries=tries)
            batch.record(unit)
            crash("groups.put_off.before_commit")
        announce(self._desk, batch)


def _end(command: Command, order: Order, state: OrderState, code: str, reason: str, batch: Batch) -> None:
    """A held line isn't sent any more; what it has blocked is free."""
    event_type = EventType.CANCELLED if state is OrderState.CANCELLED else EventType.REJECTED
    changes = {"reason_code": code, "reason": reason}
    batch.change(order, advance(order, event_type, Source.PIPELINE, batch.at, state=state, changes=changes))
    command.finish("notify", batch.at)
    batch.commands.append(command)
    batch.news.add(order.intent_id)


def _wait(command: Command, order: Order, why: str, batch: Batch) -> None:
    told = command.state, command.due_at, command.error, command.deaths
    if told == (CommandState.HELD, order.send_before, why, 0):
        return
    command.state, command.due_at, command.error, command.deaths = CommandState.HELD, order.send_before, why, 0
    batch.commands.append(command)
    batch.news.add(order.intent_id)
