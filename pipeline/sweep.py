"""The sweep: what makes progress certain. Messages only make it fast."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from domain.commands import CommandState
from domain.errors import StoreAway
from pipeline.batch import Batch
from pipeline.chain import GROUPS, is_change_stage, queue_of, reconcile_stage, reports_stage
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.queueview import QueueView
from pipeline.stage import DEATHS_ALONE_MAX, announce, asked_by, give_up
from store import accounts, commands, groups, orders, reconciliations, reports, searches

log = logging.getLogger(__name__)

OVERDUE_S = 0.5  # younger work has its wake-up still under way
RECENT = timedelta(seconds=30)  # what the frequent look covers; the deep look covers everything
DEEP_REST_MAX_S = 30.0  # between two deep looks: what is older than `RECENT` is found by these alone
CLAIM_AGE_S = 2.0
RECONCILE_EVERY_S = 2.5  # between looks whether an account is due to be compared to its broker
BOOKS_EVERY_S = 2.5  # two reads each time: 1,440 in half an hour, where Upstox allows 2,000
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


class Sweep:
    """Wakes stages whose due work nobody takes, expires leases, finds the dead, buries the stuck."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._queue = QueueView(desk.environment.queue_url)
        self._deep_at = self._books_at = self._reconcile_at = 0.0
        self.alarms: dict[str, str] = {}

    def run(self) -> None:
        """One sweep; raises StoreAway when the database can't be reached."""
        now = self._desk.now()
        deep = time.monotonic() >= self._deep_at
        started = time.monotonic()
        with self._desk.store.unit() as unit:
            due = commands.oldest_due(unit, now, _BEGINNING if deep else now - RECENT)
        if deep:
            # A reader's old snapshot makes this look dear: it may cost a twentieth of the time at most. What seems to have
            # cost more than that allows was spent elsewhere, by a process that was stopped in the middle of it.
            self._deep_at = started + min(DEEP_REST_MAX_S, max(1.0, 20 * (time.monotonic() - started)))
        overdue = now - timedelta(seconds=OVERDUE_S)
        for stage, state in due:
            if state == CommandState.SENDING:
                self._part(partial(self._expire_leases, stage, now))
        self._part(self._find_dead_workers)
        for (stage, state), (oldest, _count) in due.items():
            if state == CommandState.READY and oldest <= overdue:
                self._part(partial(self._wake, stage, oldest, deep=deep))
        self._part(self._wake_for_reports)
        self._part(self._wake_reconcilers)
        self._part(self._tell_unknown)
        self._part(self._bury)

    def _part(self, part: Callable[[], None]) -> None:
        """What one part can't do keeps no other back."""
        try:
            part()
        except StoreAway:
            raise
        except Exception:
            log.exception("a part of the sweep failed; the next sweep tries again")

    def close(self) -> None:
        self._queue.close()

    def _wake(self, stage: str, oldest: datetime, *, deep: bool) -> None:
        if self._is_empty(stage):
            self._desk.wakeups.wake(stage, since=oldest, deep=deep)

    def _is_empty(self, stage: str) -> bool:
        """Whether nothing waits in a stage's queue already. Where nobody can say, one wake-up more does no harm."""
        depth = self._queue.depth(queue_of(stage))
        if depth is None:
            return True
        ready, consumers = depth
        if consumers:
            self.alarms.pop(stage, None)
        elif stage not in self.alarms:
            self.alarms[stage] = "work waits and nobody consumes"
            log.warning("work waits at %s and nobody consumes", stage)
        return ready == 0

    def _expire_leases(self, stage: str, now: datetime) -> None:
        """Leases that ended without an outcome: persist calls them unknown."""
        with self._desk.store.unit() as unit:
            expired = commands.expire_leases(unit, stage, now)
            crash("sweep.leases.before_commit")
        if expired:
            log.warning("%d leases at %s ended without an outcome", expired, stage)
            self._desk.wakeups.wake("persist" if not is_change_stage(stage) else stage.rpartition(".")[2])

    def _wake_for_reports(self) -> None:
        with self._desk.store.unit() as unit:
            if reports.any_due(unit, older_than_s=OVERDUE_S):
                self._desk.wakeups.wake("persist")
            groups_wait = groups.is_any_overdue(unit, self._desk.now() - timedelta(seconds=OVERDUE_S))
            live = accounts.brokers_to_read(unit, self._desk.now()) if time.monotonic() >= self._books_at else []
        if groups_wait and self._is_empty(GROUPS):
            self._desk.wakeups.wake(GROUPS)
        if live:
            self._books_at = time.monotonic() + BOOKS_EVERY_S
        for broker in live:
            if self._is_empty(reports_stage(broker)):
                self._desk.wakeups.wake(reports_stage(broker))

    def _wake_reconcilers(self) -> None:
        """Each account in its time, at the close as at any other minute."""
        if time.monotonic() < self._reconcile_at:
            return
        self._reconcile_at = time.monotonic() + RECONCILE_EVERY_S
        with self._desk.store.unit() as unit:
            due = reconciliations.brokers_due(unit, self._desk.now())
        for broker in due:
            if self._is_empty(reconcile_stage(broker)):
                self._desk.wakeups.wake(reconcile_stage(broker))

    def _tell_unknown(self) -> None:
        """Orders that should have been proven taken or not by now: their book can't be read, or its day is over."""
        now = self._desk.now()
        patience = timedelta(seconds=self._desk.settings().unknown_alarm_s)
        with self._desk.store.unit() as unit:
            overdue = searches.overdue(unit, now - patience)
            new = [order_id for order_id, _, _, told in overdue if not told]
            if new:
                searches.mark_told(unit, new, now)
            crash("sweep.unknown.before_commit")
        if overdue:
            self.alarms["unknown"] = f"{len(overdue)} orders are unknown for longer than their proof takes"
        else:
            self.alarms.pop("unknown", None)
        for order_id, account_id, asked_at, told in overdue:
            if not told:
                log.error(
                    "nobody knows of an order, and its book proves nothing",
                    extra={"order_id": order_id, "account": account_id, "asked_at": asked_at.isoformat()},
                )

    def _find_dead_workers(self) -> None:
        """An open claim over unlocked rows: its worker died. Its commands go on alone, and are STUCK after three."""
        with self._desk.store.unit() as unit:
            claims = commands.open_claims(unit, older_than_s=CLAIM_AGE_S)
        for claim_id, worker, stage, order_ids in claims:
            with self._desk.store.unit() as unit:
                dead = commands.count_death(unit, claim_id, stage, order_ids, is_change=is_change_stage(stage))
                if dead is None:
                    continue
                log.error("worker %s died with %d commands at %s", worker, len(dead), stage)
                hopeless = [command for command in dead if command.deaths > DEATHS_ALONE_MAX]
                batch = Batch(at=self._desk.now())
                held = orders.lock(unit, [command.order_id for command in hopeless]) if hopeless else {}
                for command in hopeless:
                    command.error = f"{command.deaths} workers died of it"
                    batch.hold(held[command.order_id])
                    give_up(command, held[command.order_id], batch)
                    batch.commands.append(command)
                batch.news.update(asked_by(unit, hopeless))
                batch.record(unit)
                crash("sweep.deaths.before_commit")
            announce(self._desk, batch)
            self._desk.wakeups.wake(stage, deep=True)

    def _bury(self) -> None:
        """Publish a dead letter for each newly stuck command: the operators' view of it."""
        with self._desk.store.unit() as unit:
            stuck = commands.unburied(unit, limit=100)
        for command in stuck:
            body = {"orderId": command.order_id, "seq": command.seq, "stage": command.stage, "error": command.error}
            if not self._queue.bury(queue_of(command.stage), body):
                continue
            with self._desk.store.unit() as unit:
                commands.mark_buried(unit, command.order_id, command.seq, self._desk.now())
                crash("sweep.bury.before_commit")
