"""A pump: takes a broker's due work within slots and rate budget, commits its attempts, and has the calls made."""

from __future__ import annotations

import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from domain.commands import Command
from domain.errors import StoreAway
from domain.orders import Order
from pipeline.batch import Batch
from pipeline.calls import CIRCUIT_LOOK_S, Answer, AnyCall
from pipeline.claims import forget_claim, open_claim
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.pace import Pace
from pipeline.portions import Portions
from pipeline.settling import Settle, Settler
from pipeline.stage import PACE_S, ROUNDS_MAX, Policy, announce, set_aside
from pipeline.wakeups import DEEP
from store import commands, orders
from store.unit import Unit

if TYPE_CHECKING:
    from brokers.health import Health
    from brokers.limits import RateBudget

log = logging.getLogger(__name__)

_BEGINNING = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
SLACK = timedelta(seconds=1)
BACKOFF_MS = (200, 5_000)  # after an exception of ours
ALONE_PATIENCE, ALONE_LOOK_S = timedelta(seconds=10), 0.1

_Key = tuple[str, int]  # order id, seq
_C = TypeVar("_C", bound=AnyCall)


class Pump(ABC, Generic[_C]):
    """Keeps call slots busy. Calls run on threads of their own; the settler writes down what they gave.

    `operation` is the transport's word for its calls, whose circuit counts; `urgent` work finds room in the rate budget
    where places find none. `settle` writes down answers, with what is known of their orders.
    """

    def __init__(
        self,
        desk: Desk,
        broker: str,
        stage: str,
        *,
        operation: str,
        slots: int,
        settle: Settle[_C],
        budget: RateBudget | None,
        health: Health | None,
        lines: int = 1,
        urgent: bool = False,
    ) -> None:
        self._desk, self._broker, self.stage, self._operation = desk, broker, stage, operation
        self._adapter = desk.adapters[broker]
        windows = self._adapter.capabilities.order_windows
        self._portions = Portions(self.stage, [window.seconds for window in windows], budget, urgent=urgent)
        self._health = health
        self._slots = slots
        self._busy = 0
        self._is_short_of_slots = False  # the last pump ended for want of one
        self._refilling = 0  # pumps that a free slot has begun or will
        self._asked: set[str] = set()  # what to look at, as `pump` was told, and no pump has begun since
        self._counting = threading.Lock()  # of these four: nobody waits for a pump to note something
        self._stopping = False
        self._timer_at = 0.0
        self._pace = Pace(PACE_S)
        self._lock = threading.Lock()  # one pump at a time
        self._calls = ThreadPoolExecutor(self._slots, thread_name_prefix=f"{broker}-{operation}")
        self._refills = ThreadPoolExecutor(1, thread_name_prefix=f"{broker}-{operation}-refill")
        self._since = _BEGINNING
        self._has_suspects = True  # perhaps; the sweep, which finds the dead, wakes deeply
        self._lines = float(lines)  # of the last calls, on average
        self._settler = Settler(desk, f"{broker}-{operation}-settle", lambda: self._busy, self._written, settle)

    def pump(self, since: str | None = None) -> int:
        """Send what is due, as far as slots and rate budget go; gives how many orders were sent.

        Where another thread is at it, that one looks once more: nobody waits here.
        """
        total, rounds = 0, ROUNDS_MAX
        self._ask(since or "")
        while self._asked and self._lock.acquire(blocking=False):
            try:
                sent, rounds = self._pump(rounds)
            finally:
                self._lock.release()
            total += sent
            if not rounds:
                self._desk.wakeups.wake(self.stage)
                break
        return total

    def _ask(self, since: str) -> None:
        with self._counting:
            self._asked.add(since)

    def _pump(self, rounds: int) -> tuple[int, int]:
        """How many orders were sent, and how many more looks this thread may take."""
        with self._counting:
            asked, self._asked = self._asked, set()
        if DEEP in asked:
            self._since, self._has_suspects = _BEGINNING, True
        for since in asked - {DEEP, ""}:
            self._since = min(self._since, datetime.fromisoformat(since) - SLACK)
        if self._health is not None and self._health.holds_back(self._broker, self._operation):
            self._pump_later(CIRCUIT_LOOK_S)
            return 0, rounds
        total = 0
        suspects = self._has_suspects
        while rounds and not self._stopping and self._has_slot():
            rounds -= 1
            began_at = None if suspects else self._pace.keep()
            claimed, sent = self._send(self._claim_suspect if suspects else self._claim)
            if claimed and began_at is not None:
                self._pace.took(began_at)
            total += sent
            if not claimed and not suspects:
                break
            suspects = suspects and bool(claimed)
        return total, rounds

    @property
    def is_idle(self) -> bool:
        """No call is under way, and none will be before the next wake-up."""
        with self._counting:
            return not self._busy and not self._refilling

    def stop(self, timeout_s: float) -> None:
        """Wait for the calls under way, at most for the time given; a call cut off leaves its lease to expire."""
        deadline = time.monotonic() + timeout_s
        self._stopping = True
        with self._lock:
            pass  # the pump under way is over
        while not self.is_idle and time.monotonic() < deadline:
            threading.Event().wait(0.02)
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._settler.stop(max(0.1, deadline - time.monotonic()))
        self._refills.shutdown(wait=False, cancel_futures=True)

    def _has_slot(self) -> bool:
        with self._counting:
            self._is_short_of_slots = self._busy >= self._slots
            return not self._is_short_of_slots

    def _written(self, count: int) -> None:
        """The settler has written down so many answers: their slots are free, and what waited for one can go."""
        with self._counting:
            self._busy -= count
            is_wanted, self._is_short_of_slots = self._is_short_of_slots and not self._stopping, False
            self._refilling += is_wanted
        if is_wanted:
            self._refills.submit(self._refill)

    def _refill(self) -> None:
        try:
            self.pump()
        except Exception as error:  # noqa: BLE001 - the sweep stands behind it
            log.warning("the next calls wait for the sweep: %s", error)
        finally:
            with self._counting:
                self._refilling -= 1

    def _send(self, claim: _Claim) -> tuple[int, int]:
        """One first step and its calls; gives how many commands were claimed, and how many of them sent."""
        claimed: list[Command] = []
        try:
            calls = self._first_step(self._slots - self._busy, claimed, claim)
        except StoreAway:
            raise
        except Exception as error:
            if not claimed:
                raise
            return len(claimed), self._one_by_one(claimed, error)
        for call in calls:
            with self._counting:
                self._busy += 1
            self._calls.submit(self._call, call)
        return len(claimed), sum(len(call.orders) for call in calls)

    def _call(self, call: _C) -> None:
        self._settler.hand_over(self._make(call))

    def _one_by_one(self, claimed: list[Command], error: Exception) -> int:
        """A batch failed as a whole, and nobody can say for whose sake; one that fails alone is set aside."""
        if len(claimed) == 1:
            policy = Policy(self._desk.settings().dispatch_tries, BACKOFF_MS)
            set_aside(self._desk, self.stage, policy, {claimed[0].order_id: (claimed[0], error)})
            return 0
        log.warning("a batch of %d at %s failed, each is tried alone: %s", len(claimed), self.stage, error)
        keys = [(command.order_id, command.seq) for command in claimed]
        return sum(self._send(_claim_only(self.stage, key))[1] for key in keys if self._busy < self._slots)

    def _first_step(self, free: int, claimed: list[Command], claim: _Claim) -> list[_C]:
        """T1: claim, gate, write the attempts, commit. Nothing is called before that commit."""
        claim_id: int | None = None
        try:
            with self._desk.store.unit() as unit:
                taken_now, looked_until = claim(unit, free, self._desk.now())
                claimed.extend(taken_now)
                if not claimed:
                    self._since = max(self._since, looked_until - SLACK)
                    return []
                claim_id = open_claim(self._desk, self.stage, claimed)
                crash("dispatch.after_claim")
                held = orders.lock(unit, [command.order_id for command in claimed])
                batch = Batch(at=self._desk.now())
                calls, is_short = self._attempts(unit, claimed, held, free, batch)
                batch.record(unit, claim_id)
                crash("dispatch.before_commit")
        except BaseException:
            forget_claim(self._desk, claim_id)
            raise
        taken = sum(len(call.orders) for call in calls)
        if not is_short:
            self._since = max(self._since, looked_until - SLACK)
        if calls:
            self._lines = taken / len(calls)
        crash("dispatch.after_commit")
        announce(self._desk, batch)
        return calls

    def _claim(self, unit: Unit, free: int, now: datetime) -> tuple[list[Command], datetime]:
        """As much as can be sent at once, and the time up to which everything due was seen.

        At once: free slots times the lines that calls have had lately, within the accounts' rate budgets.
        """
        portion = self._portions.take(unit, math.ceil(free * self._lines), since=self._since, now=now)
        if portion.more_in_s is not None:
            self._pump_later(portion.more_in_s)
        return portion.claimed, portion.looked_until

    def _claim_suspect(self, unit: Unit, free: int, now: datetime) -> tuple[list[Command], datetime]:
        """One command that was in the hands of a dispatcher that died: it is taken alone.

        While other calls are under way it waits for a while: should this process die of it, too, nobody would write
        down what came of them.
        """
        claimed = commands.claim_suspect(unit, self.stage, now)
        self._has_suspects = bool(claimed)
        if claimed and self._busy and now - claimed[0].due_at < ALONE_PATIENCE:
            self._pump_later(ALONE_LOOK_S)
            return [], _BEGINNING
        if claimed and (wait_s := self._portions.wait_for(unit, claimed[0])) is not None:
            self._pump_later(wait_s)
            return [], _BEGINNING
        return claimed, _BEGINNING

    def _pump_later(self, wait_s: float) -> None:
        now, at = time.monotonic(), time.monotonic() + max(0.005, wait_s)
        if now < self._timer_at <= at:
            return  # one is set already
        self._timer_at = at
        self._desk.wakeups.wake_later(self.stage, at - now)

    @abstractmethod
    def _attempts(
        self, unit: Unit, claimed: list[Command], held: dict[str, Order], free: int, batch: Batch
    ) -> tuple[list[_C], bool]:
        """The calls to be made, at most `free`, their attempts in the batch; and whether something was left over."""

    @abstractmethod
    def _make(self, call: _C) -> Answer[_C]:
        """The call, at most once, within its lease. Raises nothing: what went wrong is an outcome."""


class _Claim(Protocol):
    def __call__(self, unit: Unit, free: int, now: datetime) -> tuple[list[Command], datetime]: ...


def _claim_only(stage: str, key: _Key) -> _Claim:
    return lambda unit, free, now: (commands.claim_these(unit, stage, [key], now), _BEGINNING)
