"""A batch: what one transaction decides for the orders it claimed, and the one set-based write of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from domain.accounts import Totals
from domain.changes import Change
from domain.commands import Command
from domain.events import Event
from domain.evidence import Search
from domain.lifecycle import TERMINAL
from domain.orders import Order
from domain.outcomes import Fill
from pipeline.chain import CHANGES, GROUPS, dispatch_stage
from pipeline.slices import Part, parts_of, sum_up
from store import accounts, changes, commands, groups, orders, reports, searches, trades
from store.accounts import Delta
from store.attempts import Attempt
from store.attempts import insert as insert_attempts
from store.unit import Unit

_Taken = tuple[str | None, int, int, int]  # account, blocked paise, exposure paise, open orders


@dataclass(slots=True)
class Batch:
    """Changes of locked rows, gathered order by order."""

    at: datetime
    marks_groups: bool = True  # who decides on groups needn't be told of that
    commands: list[Command] = field(default_factory=list)
    orders: dict[str, Order] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    made: list[Order] = field(default_factory=list)  # new orders: slices, each ready at its broker's dispatch
    attempts: list[Attempt] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)  # beside their commands
    fills: list[tuple[Order, Fill]] = field(default_factory=list)
    applied: list[tuple[str, bytes]] = field(default_factory=list)  # reports
    counted: list[Totals] = field(default_factory=list)  # orders-per-second counters to write back
    failures: dict[str, Exception] = field(default_factory=dict)  # by order id
    wakes: set[str] = field(default_factory=set)  # stages that have work once this is committed
    later: dict[str, float] = field(default_factory=dict)  # stages that have work in so many seconds
    books: set[str] = field(default_factory=set)  # brokers whose books will soon have something to tell
    searches: list[Search] = field(default_factory=list)  # for orders of which nobody knows whether they were taken
    watches: dict[str, datetime] = field(default_factory=dict)  # accounts whose books are read until then in any case
    dead_sessions: set[str] = field(default_factory=set)  # accounts whose brokers want a new login first
    news: set[str] = field(default_factory=set)  # intents whose orders moved
    _taken: dict[str, _Taken] = field(default_factory=dict)
    _columns: set[str] = field(default_factory=set)  # of `orders`, that any event of the batch changes

    def hold(self, order: Order) -> None:
        """Remember what the order takes of its account now, before anything changes it."""
        if order.id not in self._taken:
            self._taken[order.id] = _taken(order)

    def change(self, order: Order, *events: Event) -> None:
        self.orders[order.id] = order
        for event in events:
            self.events.append(event)
            self._columns.update(event.detail.get("set", ()))

    def touch(self, order: Order, column: str) -> None:
        """Write a column that no event tells of."""
        self.orders[order.id] = order
        self._columns.add(column)

    def wake_in(self, stage: str, wait_s: float) -> None:
        """The stage has work in so many seconds; of several such times the first counts."""
        self.later[stage] = min(wait_s, self.later.get(stage, wait_s))

    def add(self, order: Order, event: Event) -> None:
        """A new order, with its first event."""
        self._taken[order.id] = (None, 0, 0, 0)
        self.made.append(order)
        self.change(order, event)

    def deltas(self) -> dict[str, Delta]:
        """What the batch adds to each account's totals."""
        deltas: dict[str, Delta] = {}
        for order in self.orders.values():
            for sign, (account_id, blocked, exposure, live) in ((-1, self._taken[order.id]), (1, _taken(order))):
                if account_id is not None and (blocked or exposure or live):
                    delta = deltas.setdefault(account_id, Delta())
                    delta.blocked_paise += sign * blocked
                    delta.exposure_paise += sign * exposure
                    delta.open_orders += sign * live
        return {
            account_id: delta
            for account_id, delta in deltas.items()
            if delta.blocked_paise or delta.exposure_paise or delta.open_orders
        }

    def record(self, unit: Unit, claim_id: int | None = None) -> None:
        """Write all of it, in one round trip, and close the claim; the accounts come last, since all wait for them."""
        self._sum_up_parents(unit)
        changed, deltas = list(self.orders.values()), self.deltas()
        stirred = [order.id for order in changed if order.changing]
        if stirred:
            self.wakes.update(CHANGES)
        marked = {order.intent_id for order in changed if order.policy is not None} if self.marks_groups else None
        if marked:
            self.wakes.add(GROUPS)
        with unit.together():
            if self.made:
                self._insert_made(unit)
            if self.attempts:
                insert_attempts(unit, self.attempts)
            if changed:
                orders.save(unit, changed, self._columns, self.at)
            if self.events:
                orders.append_events(unit, self.events)
            if stirred:
                changes.hasten(unit, stirred, self.at)
            if marked:
                groups.mark(unit, marked, self.at)
            if self.commands:
                commands.save(unit, self.commands)
            if self.changes:
                changes.save(unit, self.changes)
            if self.fills:
                trades.insert(unit, self.fills)
            if self.applied:
                reports.close(unit, self.applied, self.at)
            if self.searches:
                searches.begin(unit, self.searches)
            if self.watches:
                accounts.watch(unit, self.watches)
            if self.dead_sessions:
                accounts.mark_sessions(unit, self.dead_sessions, "DEAD")
            if claim_id is not None:
                commands.close_claim(unit, claim_id)
            if deltas or self.counted:
                accounts.add(unit, deltas, self.counted)

    def _insert_made(self, unit: Unit) -> None:
        orders.insert(unit, self.made, self.at)
        by_broker: dict[str, list[str]] = {}
        for order in self.made:
            by_broker.setdefault(order.broker or "", []).append(order.id)
        for broker, ids in by_broker.items():
            commands.insert_placements(unit, ids, dispatch_stage(broker), self.at)

    def _sum_up_parents(self, unit: Unit) -> None:
        """Parents are locked after their slices, by everyone, and brought up to them."""
        parent_ids = sorted({order.parent_id for order in self.orders.values() if order.parent_id is not None})
        parent_ids = [id_ for id_ in parent_ids if id_ not in self.orders]
        if not parent_ids:
            return
        parents = orders.lock(unit, parent_ids)
        parts: dict[str, dict[str, Part]] = {}
        for parent_id, id_, state, quantity, filled, average in orders.slices_of(unit, parent_ids):
            parts.setdefault(parent_id, {})[id_] = Part(state, quantity, filled, average)
        for parent_id, parent in parents.items():
            self.hold(parent)
            event = sum_up(parent, parts_of(parts.get(parent_id, {}), self.orders), self.at)
            if event is not None:
                self.change(parent, event)


def _taken(order: Order) -> _Taken:
    live = order.account_id is not None and order.state not in TERMINAL and not order.is_parent
    return (order.account_id, order.blocked_paise, order.exposure_paise, int(live))
