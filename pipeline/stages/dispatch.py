"""Dispatch: the last gate, the attempt, the call. What came of it is for persist to say."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import psycopg

from brokers.base import Line
from domain.commands import Command, CommandState
from domain.errors import StoreAway
from domain.events import EventType, Source, advance
from domain.ids import new_id
from domain.lifecycle import UNSENT, OrderState
from domain.market import phase_for
from domain.orders import Order
from domain.outcomes import Accepted, NotSent, Outcome, Unknown
from pipeline.batch import Batch
from pipeline.chain import dispatch_stage
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.pace import Pace
from pipeline.reports import late_answers
from pipeline.stage import PACE_S, Policy, announce, set_aside
from pipeline.stages import persist
from pipeline.wakeups import DEEP
from store import attempts, commands, intents, orders, reports
from store.attempts import Attempt
from store.unit import Unit

if TYPE_CHECKING:
    from brokers.health import Health
    from brokers.limits import Granted, RateBudget

log = logging.getLogger(__name__)

_BEGINNING = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
SLACK = timedelta(seconds=1)
PEEK_MAX = 400
PLACE = "place"  # the operation whose circuit counts here
CIRCUIT_LOOK_S = 0.5
GATHER_S = 0.003  # answers that come so close together are written down together
WAIT_FOR_SESSION = timedelta(seconds=1)
BACKOFF_MS = (200, 5_000)  # after an exception of ours


_End = tuple[str, int, Outcome, datetime]  # order id, fence, what came of the call, when
_Settle = Callable[[Order, Command, Outcome, Batch], None]


@dataclass(frozen=True, slots=True)
class Call:
    """One broker call: lines of one intent and one account, their attempts committed."""

    id: str
    account_id: str
    orders: tuple[Order, ...]
    fences: tuple[int, ...]
    send_by: float  # on the boot clock: past it no byte may leave


@dataclass(frozen=True, slots=True)
class Answer:
    call: Call
    outcomes: tuple[Outcome, ...]
    at: datetime


class Dispatcher:
    """Keeps one broker's call slots busy. Calls run on threads of their own; one thread writes down their outcomes."""

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
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._since = _BEGINNING
        self._lines = float(self._adapter.capabilities.lines_per_call)  # of the last calls, on average
        self._settler = threading.Thread(target=self._settle_all, name=f"{broker}-settle", daemon=True)
        self._settler.start()

    def pump(self, since: str | None = None) -> int:
        """Send what is due, as far as slots and rate budget go; gives how many orders were sent."""
        with self._lock:
            if since == DEEP:
                self._since = _BEGINNING
            elif since is not None:
                self._since = min(self._since, datetime.fromisoformat(since) - SLACK)
            total = 0
            if self._health is not None and self._health.holds_back(self._broker, PLACE):
                self._pump_later(CIRCUIT_LOOK_S)
                return 0
            self._is_short_of_slots = False
            while not self._stopping:
                if self._busy >= self._slots:
                    self._is_short_of_slots = True
                    break
                self._pace.keep()
                claimed, sent = self._send()
                total += sent
                if not claimed:
                    break
            return total

    def stop(self, timeout_s: float) -> None:
        """Wait for the calls under way, at most for the time given; a call cut off leaves its lease to expire."""
        with self._lock:
            self._stopping = True
        deadline = time.monotonic() + timeout_s
        while self._busy and time.monotonic() < deadline:
            threading.Event().wait(0.02)
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._answers.put(None)
        self._settler.join(max(0.1, deadline - time.monotonic()))

    def _send(self, only: list[tuple[str, int]] | None = None) -> tuple[int, int]:
        """One first step and its calls; gives how many commands were claimed, and how many of them sent."""
        claimed: list[Command] = []
        try:
            calls = self._first_step(self._slots - self._busy, claimed, only)
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

    def _one_by_one(self, claimed: list[Command], error: Exception) -> int:
        """A batch failed as a whole, and nobody can say for whose sake; one that fails alone is set aside."""
        if len(claimed) == 1:
            policy = Policy(self._desk.settings().dispatch_tries, BACKOFF_MS)
            set_aside(self._desk, self._stage, policy, {claimed[0].order_id: (claimed[0], error)})
            return 0
        log.warning("a batch of %d at %s failed, each is tried alone: %s", len(claimed), self._stage, error)
        keys = [(command.order_id, command.seq) for command in claimed]
        return sum(self._send([key])[1] for key in keys if self._busy < self._slots)

    def _first_step(self, free: int, claimed: list[Command], only: list[tuple[str, int]] | None) -> list[Call]:
        """T1: claim, gate, write the attempts, commit. Nothing is called before that commit."""
        now = self._desk.now()
        with self._desk.store.unit() as unit:
            if only is not None:
                taken_now, looked_until = commands.claim_these(unit, self._stage, only, now), _BEGINNING
            else:
                taken_now, looked_until = self._claim(unit, free, now)
            claimed.extend(taken_now)
            if not claimed:
                self._since = max(self._since, looked_until - SLACK)
                return []
            crash("dispatch.after_claim")
            held = orders.lock(unit, [command.order_id for command in claimed])
            batch = Batch(at=self._desk.now())
            revoked = self._by_revoked_keys(unit, held)
            passed = []
            for command in claimed:
                order = held[command.order_id]
                batch.hold(order)
                if self._gate(command, order, revoked, batch):
                    passed.append((command, order))
            calls = self._prepare(passed, free, batch)
            batch.record(unit)
            crash("dispatch.before_commit")
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

    def _budgeted(
        self, unit: Unit, limit: int, now: datetime, budget: RateBudget
    ) -> tuple[list[tuple[Granted, list[tuple[str, int]]]], datetime]:
        """What is due, oldest first, as far as each account's rate budget goes; and when the oldest of it fell due.

        Accounts whose budget is used up are passed over, however much of theirs waits.
        """
        granted: list[tuple[Granted, list[tuple[str, int]]]] = []
        oldest, room = now, limit
        soonest: float | None = None
        asked: set[str] = set()
        while room > 0:
            due = commands.peek(unit, self._stage, since=self._since, now=now, limit=PEEK_MAX, without=asked)
            waiting: dict[str, list[tuple[str, int]]] = {}
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

    def _gate(self, command: Command, order: Order, revoked: frozenset[str], batch: Batch) -> bool:
        """The last gate: whether this order may be sent at this moment."""
        if order.state not in UNSENT:
            command.finish("notify", batch.at)
            batch.commands.append(command)
            return False
        if order.cancel_requested:
            self._close(command, order, OrderState.CANCELLED, "CANCELLED_UNSENT", "cancelled before it was sent", batch)
            return False
        if batch.at >= order.send_before:
            why = f"not sent by {order.send_before.isoformat(timespec='seconds')}, its limit"
            self._close(command, order, OrderState.REJECTED, "EXPIRED_UNSENT", why, batch)
            return False
        if order.intent_id in revoked:
            why = "the API key it came with was revoked"
            self._close(command, order, OrderState.REJECTED, "KEY_REVOKED", why, batch)
            return False
        account = self._desk.directory().by_id[order.account_id or ""]
        instrument = self._desk.instruments()[order.instrument]
        if not phase_for(instrument, account.calendar, batch.at).takes_orders:
            why = f"the session of {instrument.exchange} ended before it was sent"
            self._close(command, order, OrderState.REJECTED, "EXPIRED_UNSENT", why, batch)
            return False
        if account.mode == "HALTED":
            why = f"account {account.id} is halted"
            self._close(command, order, OrderState.REJECTED, "HALTED", why, batch)
            return False
        if account.session != "ALIVE":
            command.due_at, command.error = batch.at + WAIT_FOR_SESSION, f"the session of {account.id} is dead"
            batch.commands.append(command)
            return False
        return True

    def _close(
        self, command: Command, order: Order, state: OrderState, code: str, why: str, batch: Batch
    ) -> None:
        event_type = EventType.CANCELLED if state is OrderState.CANCELLED else EventType.REJECTED
        changes = {"reason_code": code, "reason": why}
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

    def _call(self, call: Call) -> None:
        self._answers.put(Answer(call, self._outcomes(call), self._desk.now()))

    def _outcomes(self, call: Call) -> tuple[Outcome, ...]:
        if time.clock_gettime(time.CLOCK_BOOTTIME) >= call.send_by:
            return tuple(NotSent("the lease was over before the call") for _ in call.orders)
        try:
            instruments = self._desk.instruments()
            lines = [Line(order, instruments[order.instrument]) for order in call.orders]
            session, timeout_s = self._desk.session(call.account_id), self._desk.settings().place_timeout_s
        except Exception as error:  # nothing has left yet: the database is away, or the account is gone
            log.warning("a call could not be made", extra={"call_id": call.id}, exc_info=True)
            return tuple(NotSent(f"{type(error).__name__}: {error}") for _ in call.orders)
        if self._health is not None and (wait_s := self._health.wait_s(self._broker, PLACE)) > 0:
            return tuple(NotSent("the circuit is open", retry_after_s=min(wait_s, CIRCUIT_LOOK_S)) for _ in call.orders)
        try:
            crash("dispatch.before_call")
            outcomes = tuple(self._adapter.place(session, lines, timeout_s=timeout_s, send_by=call.send_by))
            crash("dispatch.after_call")
            if len(outcomes) != len(lines):
                raise ValueError(f"{len(outcomes)} outcomes for {len(lines)} lines")
        except Exception as error:
            # The adapter promises to raise nothing; a defect of ours says nothing about what the broker did.
            log.exception("a call ended in a defect", extra={"call_id": call.id})
            return tuple(Unknown(f"{type(error).__name__}: {error}") for _ in call.orders)
        return outcomes

    def _settle_all(self) -> None:
        while (answer := self._answers.get()) is not None:
            answers, is_last = self._gather(answer)
            self._settle(answers)
            if is_last:
                return

    def _gather(self, first: Answer) -> tuple[list[Answer], bool]:
        """The answer with those that come within a moment of it, if any calls are under way; and whether to end."""
        answers = [first]
        deadline = time.monotonic() + GATHER_S
        while len(answers) < self._busy:
            try:
                another = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if another is None:
                return answers, True
            answers.append(another)
        return answers, False

    def _settle(self, answers: Sequence[Answer]) -> None:
        """T2, tried until the record takes it or the process ends: an outcome is never thrown away."""
        wait_s = 0.05
        while True:
            try:
                self._second_step(answers)
                break
            except (StoreAway, psycopg.OperationalError) as error:
                log.warning("outcomes of %d calls wait for the database: %s", len(answers), error)
            except Exception:
                log.exception("outcomes of %d calls could not be written down", len(answers))
                if len(answers) > 1:
                    for answer in answers:
                        self._settle([answer])
                    return
                answers = [unwritable(answers[0])]
            threading.Event().wait(wait_s)
            wait_s = min(2.0, wait_s * 2)
        with self._lock:
            self._busy -= len(answers)
        if not self._is_short_of_slots:
            return
        try:
            self.pump()
        except Exception as error:  # noqa: BLE001 - this thread must live: it writes down every outcome to come
            log.warning("the next calls wait for the sweep: %s", error)

    def _second_step(self, answers: Sequence[Answer]) -> None:
        """T2: the outcomes, and with them what persist makes of them (docs/decisions/0005-outcome-and-state-together.md).

        Where persist can't, the outcomes are written down alone and wait for its next try.
        """
        ends = [
            (order.id, fence, outcome, answer.at)
            for answer in answers
            for order, fence, outcome in zip(answer.call.orders, answer.call.fences, answer.outcomes, strict=True)
        ]
        try:
            self._write_down(ends, persist.settle)
        except (StoreAway, psycopg.OperationalError):
            raise
        except Exception:
            log.exception("%d outcomes are written down now and judged later", len(ends))
            self._write_down(ends, _leave_to_persist)

    def _write_down(self, ends: Sequence[_End], settle: _Settle) -> None:
        outcomes = {order_id: outcome for order_id, _, outcome, _ in ends}
        batch = Batch(at=self._desk.now())
        with self._desk.store.unit() as unit:
            keys = [(order_id, fence, not isinstance(outcome, Unknown)) for order_id, fence, outcome, _ in ends]
            answered = commands.lock_answered(unit, keys)
            held = orders.lock(unit, [command.order_id for command in answered])
            for command in answered:
                order = held[command.order_id]
                batch.hold(order)
                settle(order, command, outcomes[command.order_id], batch)
                batch.commands.append(command)
                batch.news.add(order.intent_id)
            late = [
                (order_id, outcome.broker_order_id)
                for order_id, _, outcome, _ in ends
                if order_id not in held and isinstance(outcome, Accepted)
            ]
            attempts.end(unit, ends)
            reports.insert(unit, late_answers(late), batch.at)
            batch.record(unit)
            crash("dispatch.outcome.before_commit")
        crash("dispatch.outcome.after_commit")
        if late:
            batch.wakes.add("persist")
        announce(self._desk, batch)


def _leave_to_persist(order: Order, command: Command, outcome: Outcome, batch: Batch) -> None:
    command.go_to("persist", batch.at)
    batch.wakes.add("persist")


def unwritable(answer: Answer) -> Answer:
    """The answer as words: what can't be written down as it is must not keep its slot for ever."""
    return replace(answer, outcomes=tuple(Unknown(f"not to be written down: {told!r}") for told in answer.outcomes))
