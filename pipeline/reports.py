"""Reports: what brokers' books say of our orders, written to the inbox by whoever reads them, applied by persist."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

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

log = logging.getLogger(__name__)

APPLY_MAX = 200
READS_PER_BOOK = 2  # orders, then trades
LOOK_FIRST_S, LOOK_LAST_S = 0.1, 1.0


class BookReader:
    """Reads the books of one broker's accounts that have live orders, and passes on what has changed in them.

    Where something is awaited it looks again soon, then ever more slowly; the sweep's wake-ups are the slowest pace.
    """

    def __init__(self, desk: Desk, broker: str, budget: RateBudget | None = None) -> None:
        self._desk, self._broker, self._budget = desk, broker, budget
        self._seen: dict[str, dict[str, dict[str, Any]]] = {}  # what was passed on, by account and broker order id
        self._one_at_a_time = threading.Lock()
        self._nudged = threading.Event()
        self._stopping = False

    def watch(self) -> None:
        """Read until nothing has changed for a while; where another thread is at it, have that one look at once."""
        self._nudged.set()
        if not self._one_at_a_time.acquire(blocking=False):
            return
        try:
            wait_s = LOOK_FIRST_S
            while wait_s < LOOK_LAST_S and not self._stopping:
                nudged = self._nudged.is_set()
                self._nudged.clear()
                wait_s = LOOK_FIRST_S if self.read() or nudged else wait_s * 2
                self._nudged.wait(wait_s)
        finally:
            self._one_at_a_time.release()

    def look(self) -> None:
        """Read once, unless another thread is reading."""
        if self._one_at_a_time.acquire(blocking=False):
            try:
                self.read()
            finally:
                self._one_at_a_time.release()

    def stop(self) -> None:
        self._stopping = True
        self._nudged.set()

    def read(self) -> int:
        """Read every such account's book once, as the read budget allows; gives how many reports were new."""
        with self._desk.store.unit() as unit:
            live = accounts.with_live_orders(unit, self._broker)
        for account_id in self._seen.keys() - set(live):
            del self._seen[account_id]
        return sum(self._read_account(account_id) for account_id in live)

    def _read_account(self, account_id: str) -> int:
        if self._budget is not None and self._budget.take(account_id, READS_PER_BOOK).count < READS_PER_BOOK:
            return 0
        adapter = self._desk.adapters[self._broker]
        timeout_s = self._desk.settings().read_timeout_s
        book = adapter.book(self._desk.session(account_id), timeout_s=timeout_s)
        if isinstance(book, Unreadable):
            log.warning("a book could not be read", extra={"account": account_id, "why": book.why})
            return 0
        return self._pass_on(account_id, book)

    def _pass_on(self, account_id: str, book: Iterable[BookRow]) -> int:
        installation = self._desk.environment.installation
        seen = self._seen.setdefault(account_id, {})
        changed = {}
        for row in book:
            if row.tag is not None and is_our_tag(installation, row.tag):
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
            found = [Report(ids[tag], Source.POLL, body) for tag, body in changed.values() if tag in ids]
            new = reports.insert(unit, found, self._desk.now())
            crash("reports.before_commit")
        for broker_order_id, (tag, body) in changed.items():
            if tag in ids:
                seen[broker_order_id] = body
        if new:
            self._desk.wakeups.wake("persist")
        return new


def apply_due(desk: Desk) -> int:
    """Apply the reports that wait in the inbox; gives how many were applied."""
    total = 0
    while applied := _apply_some(desk):
        total += applied
    return total


def _apply_some(desk: Desk) -> int:
    with desk.store.unit() as unit:
        waiting = reports.claim(unit, APPLY_MAX)
        if not waiting:
            return 0
        ids = sorted({order_id for order_id, *_ in waiting})
        held_commands = commands.lock(unit, ids)
        held = orders.lock(unit, ids)
        batch = Batch(at=desk.now())
        for order in held.values():
            batch.hold(order)
        for order_id, digest, source, body in waiting:
            try:
                apply_row(held[order_id], held_commands[order_id], from_body(body), Source(source), batch)
            except Exception:
                log.exception("a report could not be applied; it stays in the inbox", extra={"order_id": order_id})
                raise
            batch.applied.append((order_id, digest))
        batch.record(unit)
        crash("reports.apply.before_commit")
    tell(desk, batch.news)
    return len(waiting)


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
        average_price=_decimal(body.get("average")),
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


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)
