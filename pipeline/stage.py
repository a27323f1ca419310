"""The engine: claim what is due, lock, decide order by order, record in one transaction, wake whoever comes next."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from domain.commands import Command, CommandState
from domain.errors import StoreAway
from domain.events import EventType, Source, advance
from domain.orders import Order
from pipeline.batch import Batch
from pipeline.chain import is_change_stage, reports_stage
from pipeline.claims import forget_claim, open_claim
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.news import tell
from pipeline.pace import Pace
from pipeline.wakeups import DEEP
from store import changes, commands, orders
from store.unit import Unit, is_passing

log = logging.getLogger(__name__)

CLAIM_MAX = 200
PACE_S = 0.012
ROUNDS_MAX = 500  # one message keeps its worker no longer than this many batches
SLACK = timedelta(seconds=1)  # how far a commit may trail the due time it carries; the sweep finds what trails more
DEATHS_ALONE_MAX = 3
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a stage tries one order again after an exception, and how long it waits in between."""

    tries: int
    backoff_ms: tuple[int, int]

    def wait(self, attempts: int) -> timedelta:
        """Doubling from the first to the last, with jitter."""
        low, high = self.backoff_ms
        return timedelta(milliseconds=min(high, low * 2 ** max(0, attempts - 1)) * random.uniform(0.75, 1.25))


class Group(Protocol):
    """Stages that one transaction may carry an order through, one after another."""

    @property
    def policies(self) -> Mapping[str, Policy]: ...

    def decide(self, unit: Unit, claimed: Sequence[Command], held: Mapping[str, Order], batch: Batch) -> None:
        """Gather for the whole batch, then judge order by order; an order's exception goes to `batch.failures`."""
        ...


class SetAside(Exception):
    """Some orders of a batch failed; the others are decided again without them."""

    def __init__(self, failures: Mapping[str, tuple[Command, Exception]]) -> None:
        super().__init__(f"{len(failures)} orders failed")
        self.failures = failures


class Engine:
    """Runs one group's stages on claimed batches. One engine per thread of work."""

    def __init__(self, desk: Desk, group: Group, pace: Pace | None = None) -> None:
        self._desk, self._group = desk, group
        self._pace = pace or Pace(PACE_S)
        self._since: dict[str, datetime] = {}

    def run(self, stage: str, since: str | None = None) -> int:
        """Work until nothing more is due at the stage; gives how many commands were advanced."""
        if since == DEEP:
            self._since[stage] = _BEGINNING
        elif since is not None:
            self._since[stage] = min(self._since.get(stage, _BEGINNING), datetime.fromisoformat(since) - SLACK)
        done = 0
        for _ in range(ROUNDS_MAX):
            if self._desk.stopping.is_set():
                break
            advanced = self._round(stage)
            done += advanced
            if not advanced:
                return done + self._suspects(stage)
        self._desk.wakeups.wake(stage)
        return done

    def _round(self, stage: str) -> int:
        began_at = self._pace.keep()
        now = self._desk.now()
        since = self._since.get(stage, _BEGINNING)
        try:
            claimed = self._pass(stage, lambda unit: commands.claim(unit, stage, since=since, now=now, limit=CLAIM_MAX))
        except SetAside as aside:
            self._set_aside(stage, aside.failures)
            return len(aside.failures)
        except _Failed as failed:
            return self._one_by_one(stage, failed)
        seen_until = claimed.newest_due if len(claimed.commands) == CLAIM_MAX else now
        self._since[stage] = max(since, seen_until - SLACK)
        if claimed.commands:
            self._pace.took(began_at)
        return len(claimed.commands)

    def _suspects(self, stage: str) -> int:
        """Commands that were in the hands of a worker that died: each alone."""
        done = 0
        while self._alone(stage, lambda unit: commands.claim_suspect(unit, stage, self._desk.now())):
            done += 1
        return done

    def _one_by_one(self, stage: str, failed: _Failed) -> int:
        """A batch failed as a whole, and nobody can say for whose sake."""
        keys = [(command.order_id, command.seq) for command in failed.claimed]
        if len(keys) == 1:
            self._set_aside(stage, {keys[0][0]: (failed.claimed[0], failed.error)})
            return 1
        log.warning("a batch of %d at %s failed, each is tried alone: %s", len(keys), stage, failed.error)
        for key in keys:
            self._alone(stage, lambda unit, key=key: commands.claim_these(unit, stage, [key], self._desk.now()))
        return len(keys)

    def _alone(self, stage: str, claim: _Claim) -> bool:
        try:
            return bool(self._pass(stage, claim).commands)
        except SetAside as aside:
            self._set_aside(stage, aside.failures)
        except _Failed as failed:
            self._set_aside(stage, {command.order_id: (command, failed.error) for command in failed.claimed})
        return True

    def _pass(self, stage: str, claim: _Claim) -> _Claimed:
        """One transaction: claim, lock, decide, record. Raises SetAside or _Failed with nothing recorded."""
        claim_id: int | None = None
        claimed: list[Command] = []
        newest_due = _BEGINNING
        try:
            with self._desk.store.unit() as unit:
                claimed = claim(unit)
                if not claimed:
                    return _Claimed(claimed, newest_due)
                newest_due = claimed[-1].due_at  # deciding moves it
                claim_id = open_claim(self._desk, stage, claimed)
                crash(f"{stage}.after_claim")
                batch = Batch(at=self._desk.now())
                lock = orders.lock_with_parents if is_change_stage(stage) else orders.lock
                held = lock(unit, [command.order_id for command in claimed])
                for order in held.values():
                    batch.hold(order)
                self._group.decide(unit, claimed, held, batch)
                if batch.failures:
                    by_id = {command.order_id: command for command in claimed}
                    raise SetAside({id_: (by_id[id_], error) for id_, error in batch.failures.items()})
                batch.record(unit, claim_id)
                crash(f"{stage}.before_commit")
        except BaseException as error:
            forget_claim(self._desk, claim_id)
            if claimed and isinstance(error, Exception) and not isinstance(error, (SetAside, StoreAway)):
                raise _Failed(claimed, error) from error
            raise
        crash(f"{stage}.after_commit")
        announce(self._desk, batch)
        return _Claimed(claimed, newest_due)

    def _set_aside(self, stage: str, failures: Mapping[str, tuple[Command, Exception]]) -> None:
        set_aside(self._desk, stage, self._group.policies[stage], failures)


def set_aside(
    desk: Desk, stage: str, policy: Policy, failures: Mapping[str, tuple[Command, Exception]]
) -> None:
    """Count one more try for each failed order, let it wait, and give it up when its tries run out.

    A lock that wasn't had in time, or a deadlock, is no order's doing and counts for nobody.
    """
    now = desk.now()
    with desk.store.unit() as unit:
        keys = [(command.order_id, command.seq) for command, _ in failures.values()]
        claimed = commands.claim_these(unit, stage, keys, now)
        held = orders.lock(unit, [command.order_id for command in claimed])
        batch = Batch(at=now)
        for command in claimed:
            error = failures[command.order_id][1]
            if not is_passing(error):
                command.attempts += 1
            command.error = f"{type(error).__name__}: {error}"[:500]
            command.due_at = now + policy.wait(command.attempts)
            if command.attempts >= policy.tries:
                order = held[command.order_id]
                batch.hold(order)
                give_up(command, order, batch)
            batch.commands.append(command)
            log.warning(
                "order set aside",
                extra={"order_id": command.order_id, "stage": stage, "tries": command.attempts},
                exc_info=error,
            )
        batch.news.update(asked_by(unit, batch.commands))
        batch.record(unit)
        crash(f"{stage}.set_aside.before_commit")
    announce(desk, batch)


def announce(desk: Desk, batch: Batch) -> None:
    """What follows a commit: wake the stages that have work now, look into books soon, tell who waits."""
    for stage in batch.wakes:
        desk.wakeups.wake(stage)
    for stage, wait_s in batch.later.items():
        desk.wakeups.wake_later(stage, wait_s)
    for broker in batch.books:
        desk.wakeups.wake(reports_stage(broker), deep=True)
    tell(desk, batch.news)


def give_up(command: Command, order: Order, batch: Batch) -> None:
    """No more tries: the command is an operator's, and the client sees it in the order's history."""
    command.state = CommandState.STUCK
    because = {"stage": command.stage, "tries": command.attempts, "deaths": command.deaths, "error": command.error}
    if command.seq:
        because |= {"kind": command.kind, "seq": command.seq}  # the order goes on; what was asked of it has stopped
    batch.change(order, advance(order, EventType.STUCK, Source.PIPELINE, batch.at, because=because))
    batch.news.add(order.intent_id)


def asked_by(unit: Unit, of: Iterable[Command]) -> set[str]:
    """The intents of those of the commands that are modifies and cancels and are stuck."""
    keys = [(command.order_id, command.seq) for command in of if command.seq and command.state is CommandState.STUCK]
    return {change.intent_id for change in changes.of(unit, keys).values()} if keys else set()


@dataclass(frozen=True, slots=True)
class _Claimed:
    """What a pass had in hand, and when the newest of it had fallen due."""

    commands: list[Command]
    newest_due: datetime


class _Failed(Exception):
    """The batch could not be gathered or written down."""

    def __init__(self, claimed: list[Command], error: Exception) -> None:
        super().__init__(str(error))
        self.claimed, self.error = claimed, error


class _Claim(Protocol):
    def __call__(self, unit: Unit) -> list[Command]: ...
