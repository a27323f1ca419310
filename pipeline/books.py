"""Books: one broker's order books, read within their budget; what changed in them goes to the inbox, and what they prove."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from brokers.base import Session
from domain.errors import StoreAway
from domain.events import Source
from domain.evidence import weigh
from domain.ids import is_our_tag
from domain.outcomes import BookRow, Unreadable
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.reports import dated, proof_of, to_body
from pipeline.strays import Known, Sorted, is_live_or_filled, is_open, sort_out
from pipeline.terms import Read
from store import accounts, changes, orders, reports, searches, strays
from store.accounts import ToRead
from store.reports import Report
from store.strays import ORPHAN, TWIN, Stray
from store.unit import Unit

if TYPE_CHECKING:
    from brokers.limits import RateBudget
    from domain.capabilities import Window

log = logging.getLogger(__name__)

READS_PER_BOOK = 2  # orders, then trades
WATCH_S = (0.1, 0.4, 1.0)  # the waits before the looks that follow a submission
HINT_S = 0.08  # postbacks that come so close together are followed by one look
BURST = 30  # books read quickly, before the broker's longest window sets the pace
DEAD_LOOK_S = 10.0  # between looks whether a dead session lives again
CANCEL_AGAIN = timedelta(seconds=10)
WORDS_OF_STRAYS = {
    TWIN: "a book shows a tag of ours more than once",
    ORPHAN: "a book shows an order of ours that no row knows",
}


class Looks:
    """How often one account's book may be looked into: in bursts, and over time no more than its longest window allows.

    Upstox allows 2,000 reads in half an hour: a book every two seconds, and no more than that for all the rest of it.
    """

    def __init__(self, windows: Sequence[Window]) -> None:
        self._per_s = min((0.9 * w.count / READS_PER_BOOK / w.seconds for w in windows), default=100.0)
        self._left, self._at = float(BURST), time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._left, self._at = min(BURST, self._left + (now - self._at) * self._per_s), now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class BookReader:
    """Reads the books of one broker's accounts that have live orders, and passes on what they say.

    After a submission it looks a few times, after a postback once; the sweep's wake-ups are the slowest pace.
    `orders` is the budget of order calls, for cancels of twins.
    """

    def __init__(
        self, desk: Desk, broker: str, budget: RateBudget | None = None, orders: RateBudget | None = None
    ) -> None:
        self._desk, self._broker, self._budget, self._orders = desk, broker, budget, orders
        self._adapter = desk.adapters[broker]
        self._seen: dict[str, dict[str, dict[str, Any]]] = {}  # what was passed on, by account and broker order id
        self._looks: dict[str, Looks] = {}
        self._dead_looks: dict[str, float] = {}
        self._one_at_a_time = threading.Lock()
        self._nudged, self._submitted = threading.Event(), threading.Event()
        self._stopping, self._stopped = False, threading.Event()

    def watch(self) -> None:
        """Orders were submitted: look a few times. Where another thread is at it, that one goes on for longer."""
        self._submitted.set()
        if not self._one_at_a_time.acquire(blocking=False):
            return
        try:
            waits = list(WATCH_S)
            while waits and not self._stopping:
                if self._nudged.wait(waits.pop(0)):
                    self._stopped.wait(HINT_S)
                self._nudged.clear()
                if self._submitted.is_set():
                    self._submitted.clear()
                    waits = list(WATCH_S[1:])
                self.read()
        finally:
            self._one_at_a_time.release()

    def look(self) -> None:
        """Read once, a moment from now; where another thread is at it, that one reads again."""
        self._nudged.set()
        if not self._one_at_a_time.acquire(blocking=False):
            return
        try:
            while self._nudged.is_set() and not self._stopping:
                self._stopped.wait(HINT_S)
                self._nudged.clear()
                self.read()
        finally:
            self._one_at_a_time.release()

    def stop(self) -> None:
        self._stopping = True
        self._stopped.set()
        self._nudged.set()

    def read(self) -> int:
        """Read every such account's book once, as the read budget allows; gives how many reports were new."""
        with self._desk.store.unit() as unit:
            to_read = accounts.to_read(unit, self._broker, self._desk.now())
        for account_id in self._seen.keys() - {account.account_id for account in to_read}:
            del self._seen[account_id]
        new = 0
        for account in to_read:
            try:
                new += self._read_account(account)
            except StoreAway:
                raise
            except Exception:
                log.exception("a book could not be read; the others are", extra={"account": account.account_id})
        return new

    def _read_account(self, account: ToRead) -> int:
        account_id, alive = account.account_id, account.is_alive
        if not (alive or self._may_look_at_dead(account_id)) or not self._within_budget(account_id):
            return 0
        began, session = self._desk.now(), self._desk.session(account_id)
        book = self._adapter.book(session, timeout_s=self._desk.settings().read_timeout_s)
        if isinstance(book, Unreadable):
            log.warning("a book could not be read", extra={"account": account_id, "why": book.why})
            if alive and book.session_dead:
                self._mark(account_id, "DEAD")
            return 0
        if not alive:
            self._mark(account_id, "ALIVE")
        new = self._pass_on(account_id, book, began, is_searched=account.is_searched, is_changing=account.is_changing)
        if account.has_twins:
            self._cancel_twins(session, book)
        return new

    def _within_budget(self, account_id: str) -> bool:
        looks = self._looks.setdefault(account_id, Looks(self._adapter.capabilities.read_windows))
        if not looks.take():
            return False
        if self._budget is not None:
            granted = self._budget.take(account_id, READS_PER_BOOK)
            if granted.count < READS_PER_BOOK:
                self._budget.give_back(granted, granted.count)
                return False
        return True

    def _may_look_at_dead(self, account_id: str) -> bool:
        """Now and then: the broker takes the session again once somebody has logged in."""
        now = time.monotonic()
        if now < self._dead_looks.get(account_id, 0.0):
            return False
        self._dead_looks[account_id] = now + DEAD_LOOK_S
        return True

    def _mark(self, account_id: str, session: str) -> None:
        with self._desk.store.unit() as unit:
            changed = accounts.mark_sessions(unit, [account_id], session)
            crash("books.session.before_commit")
        if changed:
            log.warning("a session is %s", session, extra={"account": account_id})

    def _pass_on(self, account_id: str, book: Iterable[BookRow], began: datetime, *, is_searched: bool, is_changing: bool) -> int:
        """Reports of what changed, strays, and what this read proves of the orders that are looked for."""
        by_tag: dict[str, list[BookRow]] = {}
        for row in book:
            if row.tag is not None and is_our_tag(self._desk.environment.installation, row.tag):
                by_tag.setdefault(row.tag, []).append(row)
        seen = self._seen.setdefault(account_id, {})
        bodies = {
            row.broker_order_id: to_body(row, account_id, self._broker) for shown in by_tag.values() for row in shown
        }
        changed = [
            tag
            for tag, shown in by_tag.items()
            if _is_twofold(shown) or any(self._is_new(seen, bodies, row) for row in shown)
        ]
        if not changed and not is_searched and not is_changing:
            return 0
        now = self._desk.now()
        with self._desk.store.unit() as unit:
            if is_changing:
                asked = changes.called_tags(unit, account_id)  # each read of these tells something: nothing was done yet
                changed.extend(tag for tag in by_tag if tag in asked and tag not in changed)
            read = Read(began, now)
            new = self._report(unit, account_id, {tag: by_tag[tag] for tag in changed}, bodies, read) if changed else 0
            if is_searched:
                new += self._weigh(unit, account_id, by_tag, began, now)
            if is_changing:
                changes.note_read(unit, account_id, began)
            crash("books.before_commit")
        crash("books.after_commit")
        seen.update(bodies)
        if new:
            self._desk.wakeups.wake("persist")
        return new

    @staticmethod
    def _is_new(seen: dict[str, dict[str, Any]], bodies: dict[str, dict[str, Any]], row: BookRow) -> bool:
        return seen.get(row.broker_order_id) != bodies[row.broker_order_id]

    def _report(
        self,
        unit: Unit,
        account_id: str,
        rows: dict[str, list[BookRow]],
        bodies: dict[str, dict[str, Any]],
        read: Read,
    ) -> int:
        known = {
            tag: Known(order_id, broker_order_id, of_account, state, modifies)
            for tag, order_id, broker_order_id, of_account, state, modifies in orders.known_by_tag(unit, list(rows))
        }
        found = sort_out(account_id, rows, known)
        called = {order.order_id: order.modifies for order in known.values()}
        told = [
            Report(order_id, Source.POLL, dated(bodies[row.broker_order_id], read, called[order_id]))
            for order_id, row in found.ours.items()
        ]
        self._tell_strays(unit, account_id, found, bodies, read.ended)
        return reports.insert(unit, told, read.ended)

    def _tell_strays(
        self, unit: Unit, account_id: str, found: Sorted, bodies: dict[str, dict[str, Any]], now: datetime
    ) -> None:
        told = [
            Stray(account_id, row.broker_order_id, kind, row.tag or "", order_id, bodies[row.broker_order_id])
            for kind, order_id, row in (
                *((TWIN, order.order_id, row) for order, row in found.twins),
                *((ORPHAN, None, row) for row in found.orphans),
            )
        ]
        new = set(strays.tell(unit, told, now))
        for stray in told:
            if (account_id, stray.broker_order_id) in new:
                extra = {"account": account_id, "order": stray.broker_order_id, "tag": stray.tag}
                log.error(WORDS_OF_STRAYS[stray.kind], extra=extra)

    def _weigh(
        self, unit: Unit, account_id: str, by_tag: dict[str, list[BookRow]], began: datetime, now: datetime
    ) -> int:
        """What the read proves of the orders that are looked for; gives how many are proven absent."""
        searched = searches.of_account(unit, account_id)
        if not searched:
            return 0
        weighed = [weigh(search, tag, shown=by_tag.keys(), began=began, ended=now) for search, tag in searched]
        searches.save(unit, weighed)
        return reports.insert(unit, [proof_of(search, began) for search in weighed if search.is_absent], now)

    def _cancel_twins(self, session: Session, book: Sequence[BookRow]) -> None:
        """Of two live orders with one tag the one that the record doesn't follow; ours, where the other one was filled."""
        shown = {row.broker_order_id: row for row in book}
        account_id, now = session.account_id, self._desk.now()
        with self._desk.store.unit() as unit:
            twins = dict(strays.open_twins(unit, account_id))
            ours = strays.ours_with_filled_twins(unit, account_id)
            over = [id_ for id_ in twins if (row := shown.get(id_)) is not None and not is_live_or_filled(row)]
            if over:
                strays.close(unit, account_id, over, "the book", now)
                crash("books.twins.before_commit")
        if not self._desk.settings().cancel_twins:
            return
        for broker_order_id in [*twins, *ours]:
            row, asked_at = shown.get(broker_order_id), twins.get(broker_order_id)
            if row is None or not is_open(row) or (asked_at is not None and now - asked_at < CANCEL_AGAIN):
                continue
            if self._orders is not None and not self._orders.take(account_id, 1, urgent=True).count:
                continue
            if broker_order_id in twins:
                self._note_cancel(account_id, broker_order_id, None)
            outcome = self._adapter.cancel(
                session, broker_order_id, timeout_s=self._desk.settings().place_timeout_s
            )
            log.error("a twin's cancel was asked for", extra={"order": broker_order_id, "outcome": repr(outcome)})
            if broker_order_id in twins:
                self._note_cancel(account_id, broker_order_id, type(outcome).__name__)

    def _note_cancel(self, account_id: str, broker_order_id: str, outcome: str | None) -> None:
        with self._desk.store.unit() as unit:
            strays.mark_cancel(unit, account_id, broker_order_id, outcome, self._desk.now())
            crash("books.cancel.before_commit")


def _is_twofold(shown: Sequence[BookRow]) -> bool:
    """Whether a tag stands for two orders. Which of them is ours may become known without any change in the book."""
    return any(row.broker_order_id != shown[0].broker_order_id for row in shown)
