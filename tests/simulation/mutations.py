"""Coordinators with a fault built in, to show that the simulation finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import pipeline.calls
import store.orders
from brokers.limits import Granted
from domain.events import Event
from domain.outcomes import NotSent
from pipeline.stages import persist

from .plan import Plan
from .record import commands
from .record.unit import Unit
from .world import NotedBudget

Mutation = Callable[[Plan], AbstractContextManager[object]]


def calls_again_on_redelivery(plan: Plan) -> AbstractContextManager[object]:
    """A lease that ended without an outcome counts as not sent."""
    return patch.object(persist, "LEASE_OVER", NotSent("the lease ended without an outcome"))


def compares_no_fence(plan: Plan) -> AbstractContextManager[object]:
    """What a call gave is taken for the newest attempt's, whichever it belongs to."""
    return patch.object(commands, "same_fence", lambda row, fence: True)


def appends_events_outside_the_transaction(plan: Plan) -> AbstractContextManager[object]:
    def append_events(unit: Unit, events: Sequence[Event]) -> None:
        unit.statement()
        for event in events:
            unit.record.tables["events"][event.order_id, event.seq] = event

    return patch.object(store.orders, "append_events", append_events)


def keeps_events_of_what_was_rolled_back(plan: Plan) -> AbstractContextManager[object]:
    """Events are part of their transaction, and stay where that fails."""
    original = Unit.close

    def close(self: Unit) -> None:
        for (table, key), row in self.writes.items():
            if table == "events":
                self.record.tables["events"].setdefault(key, row)
        original(self)

    return patch.object(Unit, "close", close)


@contextmanager
def trusts_the_book_too_soon(plan: Plan) -> Iterator[None]:
    """The proof of absence takes less time than the broker's latest acceptance."""
    plan.proof_s = 0.5
    plan.latest_acceptance_s, plan.visibility_s = 12.0, 6.0
    yield


@contextmanager
def doubles_by_trusting_the_book_too_soon(plan: Plan) -> Iterator[None]:
    """The same, with nobody there to compare the proof to what the broker took."""
    plan.checks_absence = False
    with trusts_the_book_too_soon(plan):
        yield


@contextmanager
def sends_after_its_lease(plan: Plan) -> Iterator[None]:
    """A process that was stopped between its commit and its call sends all the same when it wakes."""
    plan.checks_lease, plan.checks_absence = False, False
    clock = SimpleNamespace(CLOCK_BOOTTIME=0, clock_gettime=lambda _: 0.0)
    with patch.object(pipeline.calls, "time", clock):
        yield


@contextmanager
def never_sweeps(plan: Plan) -> Iterator[None]:
    """Messages alone make progress."""
    plan.sweeps = False
    yield


@contextmanager
def grants_whatever_is_asked(plan: Plan) -> Iterator[None]:
    """A limiter that limits nothing."""

    def take(self: NotedBudget, account_id: str, wanted: int, *, urgent: bool = False) -> Granted:
        return Granted(account_id, wanted, 0.0, local=True)

    with patch.object(NotedBudget, "take", take), patch.object(NotedBudget, "give_back", lambda *_: None):
        yield
