"""The reconciler: compares one broker's accounts to the record, one at a time, and reports or tells what differs.

It remembers nothing of its own and trusts no earlier read, as the book reader does: so it finds what that one, a stream or
a report has lost. What it finds makes no state here; it goes to the inbox, and persist applies it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from brokers.base import Funds
from domain.accounts import Account
from domain.errors import NotFound, StoreAway
from domain.events import Source
from domain.ids import is_our_tag
from domain.lifecycle import AT_BROKER, TERMINAL
from domain.money import Money
from domain.outcomes import BookRow, Unreadable
from domain.positions import Position
from pipeline.chain import reconcile_stage
from pipeline.crash import crash
from pipeline.dayends import day_began, day_end
from pipeline.desk import Desk
from pipeline.differences import (
    Difference,
    Held,
    Judged,
    Kind,
    Sight,
    Suspicion,
    compare_funds,
    compare_orders,
    compare_positions,
    judge,
    with_the_books,
)
from pipeline.reports import DIFFERS, dated, to_body
from pipeline.strays import Known, sort_out
from pipeline.terms import Read as Interval
from pipeline.wakeups import DEEP
from store import findings, reconciliations, reports, strays
from store.findings import Finding
from store.reconciliations import Run
from store.reports import Report
from store.strays import ORPHAN, TWIN, Stray
from store.unit import Unit

if TYPE_CHECKING:
    from brokers.limits import RateBudget

log = logging.getLogger(__name__)

BOOK_READS, POSITION_READS, FUNDS_READS = 2, 2, 1  # orders and trades; one at some brokers; one
PATIENCE_S = 2.0  # for room in the read budget, before each of the three
LEASE_MARGIN_S = 15.0  # beside the reads themselves
IDLE = 10  # an account of which nothing is live, shown or remembered is looked at so many times less often
LIVE_FOR = timedelta(days=8)  # no order lives longer than its day; one that seems to is told for so long
NO_BOOK = timedelta(days=1)
NO_ROOM = Unreadable("the read budget has no room")


@dataclass(frozen=True, slots=True)
class Read:
    """What a broker said of an account; None for what couldn't be read."""

    began: datetime
    book: Sequence[BookRow]
    positions: Sequence[Position] | None
    funds: Funds | None

    @property
    def unexamined(self) -> set[Kind]:
        wanting = {Kind.POSITION: self.positions is None, Kind.FUNDS: self.funds is None}
        return {kind for kind, is_wanting in wanting.items() if is_wanting}


@dataclass(frozen=True, slots=True)
class Memory:
    """What earlier looks saw."""

    suspicions: Mapping[str, Suspicion]
    sights: Mapping[str, Sight]

    def to_json(self) -> dict[str, Any]:
        return {
            "suspicions": {key: [s.stamp, s.since.isoformat(), s.times] for key, s in self.suspicions.items()},
            "sights": {key: [s.at.isoformat(), s.filled, s.status] for key, s in self.sights.items()},
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Memory:
        return cls(
            suspicions={
                key: Suspicion(stamp, datetime.fromisoformat(since), times)
                for key, (stamp, since, times) in told.get("suspicions", {}).items()
            },
            sights={
                key: Sight(datetime.fromisoformat(at), filled, status)
                for key, (at, filled, status) in told.get("sights", {}).items()
            },
        )


class Reconciler:
    """Looks at each account of one broker that is due; for a process that may call it."""

    def __init__(self, desk: Desk, broker: str, budget: RateBudget | None = None) -> None:
        self._desk, self._broker, self._budget = desk, broker, budget
        self._adapter = desk.adapters[broker]
        self._one_at_a_time = threading.Lock()

    def run(self, since: str | None = None) -> int:
        """Look at the accounts that are due, one after the other; at the start of a process all are. Gives how many."""
        if since == DEEP:
            ask(self._desk, self._of_broker())
        if not self._one_at_a_time.acquire(blocking=False):
            return 0
        looked = 0
        try:
            while not self._desk.stopping.is_set() and (run := self._claim()) is not None:
                looked += 1
                try:
                    self._look(run)
                except StoreAway:
                    raise
                except Exception as error:
                    log.exception("an account could not be compared", extra={"account": run.account_id})
                    self._put_off(run, "FAILED", f"{type(error).__name__}: {error}"[:300], self._every)
        finally:
            self._one_at_a_time.release()
        return looked

    def _of_broker(self) -> list[str]:
        return [account.id for account in self._desk.directory().by_id.values() if account.broker == self._broker]

    def _claim(self) -> Run | None:
        now = self._desk.now()
        lease = timedelta(seconds=3 * self._desk.settings().read_timeout_s + LEASE_MARGIN_S)
        with self._desk.store.unit() as unit:
            run = reconciliations.claim(unit, self._broker, now, now + lease)
            crash("reconcile.claim.before_commit")
        return run

    def _look(self, run: Run) -> None:
        account = self._desk.directory().by_id[run.account_id]
        if not self._adapter.capabilities.keeps_book:
            return self._put_off(run, "NO_BOOK", "this broker keeps no book", NO_BOOK)
        if account.session != "ALIVE":
            return self._put_off(run, "SESSION_DEAD", "its session is dead", self._every)
        if (wait := self._wait_for_budget(run.account_id, BOOK_READS)) is not None:
            return self._put_off(run, "WAITS", NO_ROOM.why, wait)
        read = self._read(run.account_id)
        if isinstance(read, Unreadable):
            return self._put_off(run, "UNREADABLE", read.why, self._every)
        self._conclude(run, account, read)
        return None

    def _wait_for_budget(self, account_id: str, reads: int) -> timedelta | None:
        """Takes so many reads of the budget; where that has no room for them soon, how long it asks to wait."""
        end = time.monotonic() + PATIENCE_S
        while self._budget is not None:
            granted = self._budget.take(account_id, reads)
            if granted.count == reads:
                break
            self._budget.give_back(granted, granted.count)
            if time.monotonic() + granted.wait_s > end or self._desk.stopping.wait(max(granted.wait_s, 0.05)):
                return timedelta(seconds=max(1.0, granted.wait_s))
        return None

    def _read(self, account_id: str) -> Read | Unreadable:
        session, timeout_s = self._desk.session(account_id), self._desk.settings().read_timeout_s
        began = self._desk.now()
        book = self._adapter.book(session, timeout_s=timeout_s)
        if isinstance(book, Unreadable):
            return book
        positions: Sequence[Position] | Unreadable = NO_ROOM
        funds: Funds | Unreadable = NO_ROOM
        if self._wait_for_budget(account_id, POSITION_READS) is None:
            positions = self._adapter.positions(session, timeout_s=timeout_s)
        if self._wait_for_budget(account_id, FUNDS_READS) is None:
            funds = self._adapter.funds(session, timeout_s=timeout_s)
        for what, told in (("positions", positions), ("funds", funds)):
            if isinstance(told, Unreadable):
                log.warning("%s could not be read", what, extra={"account": account_id, "why": told.why})
        return Read(
            began,
            book,
            None if isinstance(positions, Unreadable) else positions,
            None if isinstance(funds, Unreadable) else funds,
        )

    def _conclude(self, run: Run, account: Account, read: Read) -> None:
        """Compare, and write down what came of it: reports, findings, strays and what to remember, all or nothing."""
        memory, now = Memory.of(run.memory), self._desk.now()
        with self._desk.store.unit() as unit:
            held, shown = self._sides(unit, account, read, memory)
            differences, sights = compare_orders(held, shown, began=read.began, sights=memory.sights)
            differences.extend(self._of_money(unit, account, read, held, shown))
            apart = timedelta(seconds=self._desk.settings().book_lag_s)
            judged = judge(differences, memory.suspicions, began=read.began, apart=apart, unexamined=read.unexamined)
            modifies = {one.order.id: one.order.modifies for one in held}
            new = self._report(unit, account, judged.reports, modifies, Interval(read.began, now))
            told = self._tell(unit, account, differences, judged, read.unexamined, now)
            live = any(one.order.state not in TERMINAL for one in held)
            is_busy = live or bool(shown or judged.suspicions)
            ours = reconciliations.finish(
                unit,
                run,
                now,
                due_at=now + (apart if judged.waiting else self._every if is_busy else IDLE * self._every),
                outcome="SUSPECTS" if judged.waiting else "DIFFERS" if judged.findings else "AGREES",
                detail=_unread(read),
                memory=Memory(judged.suspicions, sights).to_json(),
                suspected=judged.waiting,
            )
            if not ours:
                raise _Late(run.account_id)
            crash("reconcile.before_commit")
        crash("reconcile.after_commit")
        for finding in told:
            log.error(
                "the record and a broker differ",
                extra={"account": account.id, "kind": finding.kind, "subject": finding.subject, "ours": finding.ours, "theirs": finding.theirs},
            )  # fmt: skip
        if new:
            self._desk.wakeups.wake("persist")
        if judged.waiting:
            self._desk.wakeups.wake_later(reconcile_stage(self._broker), apart.total_seconds())

    def _sides(
        self, unit: Unit, account: Account, read: Read, memory: Memory
    ) -> tuple[list[Held], Mapping[str, BookRow]]:
        """The record's orders and the rows of the book that are theirs; strays are told."""
        by_tag: dict[str, list[BookRow]] = {}
        for row in read.book:
            if row.tag is not None and is_our_tag(self._desk.environment.installation, row.tag):
                by_tag.setdefault(row.tag, []).append(row)
        tagged = reconciliations.orders_by_tag(unit, list(by_tag))
        known = {o.broker_tag: Known(o.id, o.broker_order_id, o.account_id, o.state) for o in tagged}
        found = sort_out(account.id, by_tag, known)
        bodies = {row.broker_order_id: to_body(row, account.id, self._broker) for rows in by_tag.values() for row in rows}
        told = [
            Stray(account.id, row.broker_order_id, kind, row.tag or "", order_id, bodies[row.broker_order_id])
            for kind, order_id, row in (
                *((TWIN, order.order_id, row) for order, row in found.twins),
                *((ORPHAN, None, row) for row in found.orphans),
            )
        ]
        for _, broker_order_id in strays.tell(unit, told, self._desk.now()):
            log.error("a stray order with a tag of ours", extra={"account": account.id, "order": broker_order_id})
        shown = dict(found.ours)
        orders = {order.id: order for order in tagged if order.id in shown}
        live = sum(1 for order in orders.values() if order.state not in TERMINAL)
        if reconciliations.open_orders(unit, account.id) > live:
            others = reconciliations.live_orders(unit, account.id, read.began - LIVE_FOR)
            orders.update((order.id, order) for order in others if order.id not in orders)
        by_broker_id = {row.broker_order_id: row for row in read.book if row.tag is None}
        for order in orders.values():  # a broker may lose the tag, but not its own number
            if order.id not in shown and (bare := by_broker_id.get(order.broker_order_id or "")) is not None:
                shown[order.id] = bare
        trades = reconciliations.trades_of(unit, list(orders))
        instruments = self._desk.instruments()
        return [
            Held(order, trades.get(order.id, {}), day_end(order, instruments.get(order.instrument), account.calendar))
            for order in orders.values()
            if not order.is_parent
        ], shown

    def _of_money(
        self, unit: Unit, account: Account, read: Read, held: Sequence[Held], shown: Mapping[str, BookRow]
    ) -> list[Difference]:
        differences: list[Difference] = []
        if read.positions is not None:
            traded = reconciliations.traded_since(unit, account.id, day_began(account.calendar, read.began))
            differences += compare_positions(with_the_books(traded, held, shown), read.positions)
        if read.funds is not None:
            blocked = sum(one.order.blocked_paise for one in held if one.order.state in AT_BROKER)
            settings = self._desk.settings()
            tolerance = settings.funds_tolerance_paise + blocked * settings.funds_tolerance_ppm // 1_000_000
            differences += compare_funds(Money(blocked), read.funds, tolerance=Money(tolerance))
        return differences

    def _report(
        self,
        unit: Unit,
        account: Account,
        differences: Iterable[Difference],
        modifies: Mapping[str, int],
        read: Interval,
    ) -> int:
        told = []
        for difference in differences:
            if difference.row is not None:
                body = to_body(difference.row, account.id, self._broker)
                body = dated(body, read, modifies.get(difference.subject, 0))
                told.append(Report(difference.subject, Source.RECONCILE, {**body, DIFFERS: dict(difference.differs)}))
                log.warning(
                    "the record lacks what a broker has",
                    extra={"account": account.id, "order_id": difference.subject, "differs": dict(difference.differs)},
                )
        return reports.insert(unit, told, read.ended)

    def _tell(
        self,
        unit: Unit,
        account: Account,
        shown: Sequence[Difference],
        judged: Judged,
        unexamined: set[Kind],
        now: datetime,
    ) -> list[Finding]:
        """Findings that are new; what this look no longer shows is gone."""
        found = [Finding(account.id, d.kind, d.subject, d.ours, d.theirs) for d in judged.findings]
        still = {(difference.kind.value, difference.subject) for difference in shown}
        over = {key for key in findings.open_keys(unit, account.id) if key not in still and key[0] not in unexamined}
        findings.gone(unit, account.id, over, now)
        return findings.tell(unit, found, now)

    def _put_off(self, run: Run, outcome: str, detail: str, wait: timedelta) -> None:
        """Nothing could be compared: what was remembered and told stays."""
        now = self._desk.now()
        with self._desk.store.unit() as unit:
            reconciliations.finish(
                unit, run, now, due_at=now + wait, outcome=outcome, detail=detail, memory=run.memory, suspected=0
            )
            crash("reconcile.put_off.before_commit")

    @property
    def _every(self) -> timedelta:
        return timedelta(seconds=self._desk.settings().reconcile_every_s)


class _Late(Exception):
    """The look took longer than its lease, and another has the account."""

    def __init__(self, account_id: str) -> None:
        super().__init__(f"the look at {account_id} took longer than its lease")


# For operators.


def ask(desk: Desk, account_ids: Sequence[str]) -> None:
    """Have these accounts looked at now, whoever their broker is."""
    brokers = {account.broker for account in desk.directory().by_id.values() if account.id in account_ids}
    with desk.store.unit() as unit:
        reconciliations.ask(unit, account_ids, desk.now())
        crash("reconcile.ask.before_commit")
    for broker in brokers:
        desk.wakeups.wake(reconcile_stage(broker))


def wanted(desk: Desk, *, broker: str | None, account: str | None) -> list[str]:
    """The accounts that are meant. Raises NotFound where there is none."""
    found = [
        one.id
        for one in desk.directory().by_id.values()
        if broker in (None, one.broker) and account in (None, one.id)
    ]
    if not found:
        raise NotFound("account", account or f"at {broker}" if account or broker else "of anybody")
    return found


def overview(desk: Desk, account_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """How far the comparison of each account is, its open findings, and its strays."""
    with desk.store.unit() as unit:
        progress = reconciliations.progress(unit, account_ids)
        found = findings.still_open(unit, account_ids)
        stray = [row for row in strays.still_open(unit) if row[0] in account_ids]
    return {
        "accounts": [
            {
                "account": one.account_id,
                "broker": one.broker,
                "outcome": one.outcome,
                "detail": one.detail,
                "suspected": one.suspected,
                "looks": one.looks,
                "endedAt": one.ended_at and one.ended_at.isoformat(),
                "dueAt": one.due_at.isoformat(),
                "done": one.answered >= one.asked and not one.running and not one.suspected and one.outcome != "WAITS",
            }
            for one in progress
        ],
        "findings": [
            {
                "account": one.finding.account_id,
                "broker": one.broker,
                "kind": one.finding.kind,
                "subject": one.finding.subject,
                "ours": one.finding.ours,
                "theirs": one.finding.theirs,
                "foundAt": one.found_at.isoformat(),
                "seenAt": one.seen_at.isoformat(),
            }
            for one in found
        ],
        "strays": [
            {
                "account": account_id,
                "brokerOrderId": broker_order_id,
                "kind": kind,
                "tag": tag,
                "orderId": order_id,
                "status": body.get("status"),
                "filled": body.get("filled"),
                "foundAt": found_at.isoformat(),
                "cancel": cancel_outcome,
            }
            for account_id, broker_order_id, kind, tag, order_id, body, found_at, cancel_outcome in stray
        ],
    }


def _unread(read: Read) -> str | None:
    missing = ", ".join(sorted(read.unexamined))
    return f"couldn't be read: {missing}" if missing else None
