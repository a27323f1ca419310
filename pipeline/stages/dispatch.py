"""Dispatch: the last gate, the attempt, the call. What came of it is for persist to say."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from domain.commands import Command, CommandState
from domain.errors import StoreAway
from domain.events import EventType, Source, advance
from domain.ids import new_id
from domain.lifecycle import UNSENT, OrderState
from domain.orders import Order
from domain.verdicts import Reject, Wait
from pipeline.batch import Batch
from pipeline.calls import CIRCUIT_LOOK_S, PLACE, Call, make_call
from pipeline.chain import dispatch_stage
from pipeline.claims import forget_claim, open_claim
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.gate import last_gate
from pipeline.pace import Pace
from pipeline.settling import Settler
from pipeline.stage import PACE_S, Policy, announce, set_aside
from pipeline.wakeups import DEEP
from store import attempts, commands, intents, orders
from store.attempts import Attempt
from store.unit import Unit

if TYPE_CHECKING:
    from brokers.health import Health
    from brokers.limits import Granted, RateBudget

log = logging.getLogger(__name__)

_BEGINNING = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
SLACK = timedelta(seconds=1)
PEEK_MAX = 400
BACKOFF_MS = (200, 5_000)  # after an exception of ours
ALONE_PATIENCE, ALONE_LOOK_S = timedelta(seconds=10), 0.1

_Key = tuple[str, int]  # order id, seq


class Dispatcher:
    """Keeps one broker's call slots busy. Calls run on threads of their own; the settler writes down what they gave."""

    def __init__(
        self, desk: Desk, broker: str, budget: RateBudget | None = None, health: Health | None = None
    ) -> None:
        self._desk, self._broker, self._stage = desk, broker, dispatch_stage(broker)
        self._adapter = desk.adapters[broker]
        self._budget, self._health = budget, health
        self._slots = self._adapter.capabilities.call_slots
        self._busy = 0
        self._stopping = False
        self._timer_at = 0.0
        self._is_short_of_slots = False
        self._pace = Pace(PACE_S)
        self._lock = threading.Lock()  # one pump at a time
        self._calls = ThreadPoolExecutor(self._slots, thread_name_prefix=f"{broker}-call")
        self._since = _BEGINNING
        self._has_suspects = True  # perhaps; the sweep, which finds the dead, wakes deeply
        self._lines = float(self._adapter.capabilities.lines_per_call)  # of the last calls, on average
        self._settler = Settler(desk, f"{broker}-settle", lambda: self._busy, self._written)

    def pump(self, since: str | None = None) -> int:
        """Send what is due, as far as slots and rate budget go; gives how many orders were sent."""
        with self._lock:
            if since == DEEP:
                self._since, self._has_suspects = _BEGINNING, True
            elif since is not None:
                self._since = min(self._since, datetime.fromisoformat(since) - SLACK)
            if self._health is not None and self._health.holds_back(self._broker, PLACE):
                self._pump_later(CIRCUIT_LOOK_S)
                return 0
            total = 0
            self._is_short_of_slots = False
            suspects = self._has_suspects
            while not self._stopping:
                if self._busy >= self._slots:
                    self._is_short_of_slots = True
                    break
                if not suspects:
                    self._pace.keep()
                claimed, sent = self._send(self._claim_suspect if suspects else self._claim)
                total += sent
                if not claimed and not suspects:
                    break
                suspects = suspects and bool(claimed)
            return total

    def stop(self, timeout_s: float) -> None:
        """Wait for the calls under way, at most for the time given; a call cut off leaves its lease to expire."""
        with self._lock:
            self._stopping = True
        deadline = time.monotonic() + timeout_s
        while self._busy and time.monotonic() < deadline:
            threading.Event().wait(0.02)
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._settler.stop(max(0.1, deadline - time.monotonic()))

    def _written(self, count: int) -> None:
        """The settler has written down so many answers: their slots are free."""
        with self._lock:
            self._busy -= count
        if not self._is_short_of_slots:
            return
        try:
            self.pump()
        except Exception as error:  # noqa: BLE001 - the settler must live: it writes down every outcome to come
            log.warning("the next calls wait for the sweep: %s", error)

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
            self._busy += 1
            self._calls.submit(self._call, call)
        return len(claimed), sum(len(call.orders) for call in calls)

    def _call(self, call: Call) -> None:
        self._settler.hand_over(make_call(self._desk, self._broker, call, self._health))

    def _one_by_one(self, claimed: list[Command], error: Exception) -> int:
        """A batch failed as a whole, and nobody can say for whose sake; one that fails alone is set aside."""
        if len(claimed) == 1:
            policy = Policy(self._desk.settings().dispatch_tries, BACKOFF_MS)
            set_aside(self._desk, self._stage, policy, {claimed[0].order_id: (claimed[0], error)})
            return 0
        log.warning("a batch of %d at %s failed, each is tried alone: %s", len(claimed), self._stage, error)
        keys = [(command.order_id, command.seq) for command in claimed]
        return sum(self._send(_claim_only(self._stage, key))[1] for key in keys if self._busy < self._slots)

    def _first_step(self, free: int, claimed: list[Command], claim: _Claim) -> list[Call]:
        """T1: claim, gate, write the attempts, commit. Nothing is called before that commit."""
        claim_id: int | None = None
        try:
            with self._desk.store.unit() as unit:
                taken_now, looked_until = claim(unit, free, self._desk.now())
                claimed.extend(taken_now)
                if not claimed:
                    self._since = max(self._since, looked_until - SLACK)
                    return []
                claim_id = open_claim(self._desk, self._stage, claimed)
                crash("dispatch.after_claim")
                held = orders.lock(unit, [command.order_id for command in claimed])
                batch = Batch(at=self._desk.now())
                passed = self._passed(unit, claimed, held, batch)
                calls = self._prepare(passed, free, batch)
                batch.record(unit, claim_id)
                crash("dispatch.before_commit")
        except BaseException:
            forget_claim(self._desk, claim_id)
            raise
        taken = sum(len(call.orders) for call in calls)
        if taken == len(passed):
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
        limit = min(PEEK_MAX, math.ceil(free * self._lines))
        if self._budget is None:
            claimed = commands.claim(unit, self._stage, since=self._since, now=now, limit=limit)
            return claimed, claimed[-1].due_at if len(claimed) == limit else now
        granted, looked_until = self._budgeted(unit, limit, now, self._budget)
        keys = [key for _, taken in granted for key in taken]
        claimed = commands.claim_these(unit, self._stage, keys, now) if keys else []
        held = {(command.order_id, command.seq) for command in claimed}
        for grant, taken in granted:
            self._budget.give_back(grant, sum(key not in held for key in taken))
        return claimed, looked_until

    def _claim_suspect(self, unit: Unit, free: int, now: datetime) -> tuple[list[Command], datetime]:
        """One command that was in the hands of a dispatcher that died: it is taken alone.

        While other calls are under way it waits for a while: should this process die of it, too, nobody would write
        down what came of them.
        """
        claimed = commands.claim_suspect(unit, self._stage, now)
        self._has_suspects = bool(claimed)
        if claimed and self._busy and now - claimed[0].due_at < ALONE_PATIENCE:
            self._pump_later(ALONE_LOOK_S)
            return [], _BEGINNING
        if claimed and self._budget is not None:
            (order,) = orders.lock(unit, [claimed[0].order_id]).values()
            grant = self._budget.take(order.account_id or "", 1)
            if not grant.count:
                self._pump_later(grant.wait_s)
                return [], _BEGINNING
        return claimed, _BEGINNING

    def _budgeted(
        self, unit: Unit, limit: int, now: datetime, budget: RateBudget
    ) -> tuple[list[tuple[Granted, list[_Key]]], datetime]:
        """What is due, oldest first, as far as each account's rate budget goes; and when the oldest of it fell due.

        Accounts whose budget is used up are passed over, however much of theirs waits.
        """
        granted: list[tuple[Granted, list[_Key]]] = []
        oldest, room = now, limit
        soonest: float | None = None
        asked: set[str] = set()
        while room > 0:
            due = commands.peek(unit, self._stage, since=self._since, now=now, limit=PEEK_MAX, without=asked)
            waiting: dict[str, list[_Key]] = {}
            for order_id, seq, account_id, due_at in due:
                waiting.setdefault(account_id, []).append((order_id, seq))
                oldest = min(oldest, due_at)
            for account_id, keys in waiting.items():
                wanted = min(len(keys), room)
                if wanted <= 0:
                    break
                asked.add(account_id)
                grant = budget.take(account_id, wanted)
                if grant.forgotten:
                    # Redis knows nothing of this account's day: the record does.
                    windows = [window.seconds for window in self._adapter.capabilities.order_windows]
                    budget.remember(account_id, attempts.count_sent(unit, account_id, windows, now))
                granted.append((grant, keys[: grant.count]))
                room -= grant.count
                if grant.count < wanted:
                    soonest = grant.wait_s if soonest is None else min(soonest, grant.wait_s)
            if len(due) < PEEK_MAX:
                break
        if soonest is not None:
            self._pump_later(soonest)
        return granted, oldest

    def _pump_later(self, wait_s: float) -> None:
        now, at = time.monotonic(), time.monotonic() + max(0.005, wait_s)
        if now < self._timer_at <= at:
            return  # one is set already
        self._timer_at = at
        self._desk.wakeups.wake_later(self._stage, at - now)

    def _by_revoked_keys(self, unit: Unit, held: Mapping[str, Order]) -> frozenset[str]:
        """The intents that came with a key that has been revoked since."""
        revoked = self._desk.directory().revoked_keys
        if not revoked:
            return frozenset()
        keys = intents.keys_of(unit, sorted({order.intent_id for order in held.values()}))
        return frozenset(intent_id for intent_id, key_id in keys.items() if key_id in revoked)

    def _passed(
        self, unit: Unit, claimed: list[Command], held: Mapping[str, Order], batch: Batch
    ) -> list[tuple[Command, Order]]:
        """Those that the last gate lets through; the others end here, or wait."""
        revoked, passed = self._by_revoked_keys(unit, held), []
        directory, instruments = self._desk.directory(), self._desk.instruments()
        for command in claimed:
            order = held[command.order_id]
            batch.hold(order)
            if order.state not in UNSENT:
                command.finish("notify", batch.at)
                batch.commands.append(command)
                continue
            account, instrument = directory.by_id[order.account_id or ""], instruments[order.instrument]
            match last_gate(order, account, instrument, key_revoked=order.intent_id in revoked, at=batch.at):
                case Wait(until, why):
                    command.due_at, command.error = until, why
                    batch.commands.append(command)
                case Reject() as verdict:
                    self._close(command, order, verdict, batch)
                case _:
                    passed.append((command, order))
        return passed

    def _close(self, command: Command, order: Order, verdict: Reject, batch: Batch) -> None:
        is_cancelled = verdict.code == "CANCELLED_UNSENT"
        event_type = EventType.CANCELLED if is_cancelled else EventType.REJECTED
        state = OrderState.CANCELLED if is_cancelled else OrderState.REJECTED
        changes = {"reason_code": verdict.code, "reason": verdict.text}
        batch.change(order, advance(order, event_type, Source.PIPELINE, batch.at, state=state, changes=changes))
        command.finish("notify", batch.at)
        batch.commands.append(command)
        batch.news.add(order.intent_id)

    def _prepare(self, passed: list[tuple[Command, Order]], free: int, batch: Batch) -> list[Call]:
        """Group what passed into calls and write down their attempts; what finds no slot stays ready."""
        groups: dict[tuple[str, str], list[tuple[Command, Order]]] = {}
        for command, order in passed:
            groups.setdefault((order.intent_id, order.account_id or ""), []).append((command, order))
        size = self._adapter.capabilities.lines_per_call
        settings = self._desk.settings()
        lease_s = settings.place_timeout_s + settings.lease_margin_s
        lease_until = batch.at + timedelta(seconds=lease_s)
        send_by = time.clock_gettime(time.CLOCK_BOOTTIME) + settings.lease_margin_s
        calls: list[Call] = []
        for (_, account_id), members in groups.items():
            for start in range(0, len(members), size):
                if len(calls) >= free:
                    return calls
                lines = members[start : start + size]
                call_id = new_id()
                for command, order in lines:
                    self._start(command, order, call_id, len(lines), lease_until, batch)
                calls.append(
                    Call(call_id, account_id, tuple(o for _, o in lines), tuple(c.fence for c, _ in lines), send_by)
                )
        return calls

    def _start(
        self, command: Command, order: Order, call_id: str, lines: int, lease_until: datetime, batch: Batch
    ) -> None:
        command.fence += 1
        command.state, command.lease_until = CommandState.SENDING, lease_until
        batch.commands.append(command)
        because = {"attempt": command.fence, "call": call_id}
        batch.change(
            order,
            advance(order, EventType.SENDING, Source.PIPELINE, batch.at, state=OrderState.SENDING, because=because),
        )
        batch.attempts.append(
            Attempt(
                order_id=order.id,
                number=command.fence,
                call_id=call_id,
                broker=self._broker,
                account_id=order.account_id or "",
                tag=order.broker_tag,
                fence=command.fence,
                request={"lines": lines},
                started_at=batch.at,
                lease_until=lease_until,
            )
        )


class _Claim(Protocol):
    def __call__(self, unit: Unit, free: int, now: datetime) -> tuple[list[Command], datetime]: ...


def _claim_only(stage: str, key: _Key) -> _Claim:
    return lambda unit, free, now: (commands.claim_these(unit, stage, [key], now), _BEGINNING)
