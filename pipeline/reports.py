"""Reports: what brokers' books say of our orders, written to the inbox by whoever reads them, applied by persist."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from domain.errors import StoreAway
from domain.events import Source
from domain.ids import is_our_tag
from domain.lifecycle import OrderState
from domain.outcomes import BookRow, Fill, Unreadable
from pipeline.batch import Batch
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.news import tell
from pipeline.stages.persist import apply_row
from store import accounts, commands, orders, reports
from store.reports import Report

if TYPE_CHECKING:
    from brokers.limits import RateBudget
    from domain.capabilities import Window

log = logging.getLogger(__name__)

APPLY_MAX = 200
FOUR_DECIMALS = Decimal("0.0001")
READS_PER_BOOK = 2  # orders, then trades
WATCH_S = (0.1, 0.4, 1.0)  # the waits before the looks that follow a submission
HINT_S = 0.08  # postbacks that come so close together are followed by one look
BURST = 30  # books read quickly, before the broker's longest window sets the pace


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
    """Reads the books of one broker's accounts that have live orders, and passes on what has changed in them.

    After a submission it looks a few times, after a postback once; the sweep's wake-ups are the slowest pace.
    """

    def __init__(self, desk: Desk, broker: str, budget: RateBudget | None = None) -> None:
        self._desk, self._broker, self._budget = desk, broker, budget
        self._seen: dict[str, dict[str, dict[str, Any]]] = {}  # what was passed on, by account and broker order id
        self._looks: dict[str, Looks] = {}
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
            live = accounts.with_live_orders(unit, self._broker)
        for account_id in self._seen.keys() - set(live):
            del self._seen[account_id]
        new = 0
        for account_id in live:
            try:
                new += self._read_account(account_id)
            except StoreAway:
                raise
            except Exception:
                log.exception("a book could not be read; the others are", extra={"account": account_id})
        return new

    def _read_account(self, account_id: str) -> int:
        adapter = self._desk.adapters[self._broker]
        looks = self._looks.setdefault(account_id, Looks(adapter.capabilities.read_windows))
        if not looks.take():
            return 0
        if self._budget is not None:
            granted = self._budget.take(account_id, READS_PER_BOOK)
            if granted.count < READS_PER_BOOK:
                self._budget.give_back(granted, granted.count)
                return 0
        timeout_s = self._desk.settings().read_timeout_s
        book = adapter.book(self._desk.session(account_id), timeout_s=timeout_s)
        if isinstance(book, Unreadable):
            log.warning("a book could not be read", extra={"account": account_id, "why": book.why})
            return 0
        return self._pass_on(account_id, book)

    def _pass_on(self, account_id: str, book: Iterable[BookRow]) -> int:
        installation = self._desk.environment.installation
        seen = self._seen.setdefault(account_id, {})
        changed: dict[str, tuple[str, dict[str, Any]]] = {}
        shown: dict[str, list[str]] = {}  # by tag the broker order ids of its rows: more than one where there is a twin
        for row in book:
            if row.tag is not None and is_our_tag(installation, row.tag):
                shown.setdefault(row.tag, []).append(row.broker_order_id)
                body = to_body(row)
                if seen.get(row.broker_order_id) != body:
                    changed[row.broker_order_id] = (row.tag, body)
        if not changed:
            return 0
        with self._desk.store.unit() as unit:
            ids = orders.ids_by_tag(unit, [tag for tag, _ in changed.values()])
            unknown = [tag for tag, _ in changed.values() if tag not in ids]
            if unknown:
                log.error("a book shows orders of ours that no row knows", extra={"account": account_id, "tags": unknown})
            found = [
                Report(ids[tag][0], Source.POLL, body)
                for broker_order_id, (tag, body) in changed.items()
                if tag in ids and broker_order_id == ours_of(tag, shown[tag], known=ids[tag][1])
            ]
            new = reports.insert(unit, found, self._desk.now())
            crash("reports.before_commit")
        for broker_order_id, (_, body) in changed.items():
            seen[broker_order_id] = body
        if new:
            self._desk.wakeups.wake("persist")
        return new


def ours_of(tag: str, shown: Sequence[str], *, known: str | None) -> str:
    """Of the book's orders with one tag the one that is ours: the known one, else the first; a twin is told."""
    ours = known if known is not None and known in shown else shown[0]
    if len(shown) > 1:
        log.error("a book shows a tag more than once", extra={"tag": tag, "ours": ours, "orders": list(shown)})
    return ours


def apply_due(desk: Desk) -> int:
    """Apply the reports that wait in the inbox; gives how many were looked at."""
    total = 0
    while not desk.stopping.is_set() and (looked_at := _apply_some(desk, APPLY_MAX)):
        total += looked_at
    return total


def _apply_some(desk: Desk, limit: int) -> int:
    """Apply the oldest reports together; where that fails, each alone, and those that fail alone wait."""
    waiting: list[tuple[str, bytes, str, dict[str, Any]]] = []
    try:
        _apply_together(desk, limit, waiting)
    except StoreAway:
        raise
    except Exception as error:
        if not waiting:
            raise
        if limit == 1:
            order_id, digest, *_ = waiting[0]
            log.exception("a report could not be applied; it stays in the inbox", extra={"order_id": order_id})
            with desk.store.unit() as unit:
                reports.set_aside(unit, order_id, digest, desk.now())
        else:
            log.warning("%d reports could not be applied together, each is tried alone: %s", len(waiting), error)
            for _ in waiting:
                _apply_some(desk, 1)
    return len(waiting)


def _apply_together(desk: Desk, limit: int, waiting: list[tuple[str, bytes, str, dict[str, Any]]]) -> None:
    with desk.store.unit() as unit:
        waiting.extend(reports.claim(unit, desk.now(), limit))
        if not waiting:
            return
        ids = sorted({order_id for order_id, *_ in waiting})
        held_commands = commands.lock(unit, ids)
        held = orders.lock(unit, ids)
        batch = Batch(at=desk.now())
        for order in held.values():
            batch.hold(order)
        for order_id, digest, source, body in waiting:
            apply_row(held[order_id], held_commands[order_id], from_body(body), Source(source), batch)
            batch.applied.append((order_id, digest))
        batch.record(unit)
        crash("reports.apply.before_commit")
    tell(desk, batch.news)


def late_answers(entries: Sequence[tuple[str, str]]) -> list[Report]:
    """Reports of accepted answers that came after their lease: (order id, broker order id)."""
    return [
        Report(order_id, Source.LATE_ANSWER, {"brokerOrderId": broker_order_id, "status": "accepted", "filled": 0})
        for order_id, broker_order_id in entries
    ]


def to_body(row: BookRow) -> dict[str, Any]:
    """A book row as JSON; equal rows have equal bodies."""
    return {
        "brokerOrderId": row.broker_order_id,
        "status": row.status,
        "state": row.state,
        "filled": row.filled_quantity,
        "average": _text(row.average_price),
        "message": row.message,
        "exchangeOrderId": row.exchange_order_id,
        "at": row.at and row.at.astimezone(UTC).isoformat(),
        "fills": [
            {
                "id": fill.trade_id,
                "exchange": fill.exchange,
                "quantity": fill.quantity,
                "price": _text(fill.price),
                "at": fill.at.astimezone(UTC).isoformat(),
            }
            for fill in row.fills
        ],
    }


def from_body(body: dict[str, Any]) -> BookRow:
    state = body.get("state")
    return BookRow(
        broker_order_id=body["brokerOrderId"],
        tag=None,
        state=OrderState(state) if state else None,
        status=body["status"],
        quantity=0,
        filled_quantity=body["filled"],
        average_price=_average(body.get("average")),
        message=body.get("message"),
        exchange_order_id=body.get("exchangeOrderId"),
        fills=tuple(
            Fill(
                trade_id=fill["id"],
                exchange=fill["exchange"],
                quantity=fill["quantity"],
                price=Decimal(fill["price"]),
                at=datetime.fromisoformat(fill["at"]),
            )
            for fill in body.get("fills", ())
        ),
    )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def _average(value: str | None) -> Decimal | None:
    """As the record keeps it, with four decimals; some brokers tell all the digits of a division."""
    return None if value is None else Decimal(value).quantize(FOUR_DECIMALS, ROUND_HALF_UP)
